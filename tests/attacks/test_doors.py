"""The doors of the real app and the real protocol, attacked from outside: names, origins, tokens, channels, the wire.

QCORE_SEED chooses other attacks, QCORE_ATTACKS multiplies how many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.asyncio.client import connect

from qcore.lab import Lab
from qcore.server.live import IDLE_SECONDS
from qcore.server.token import TOKEN_FILE
from tests.attacks.served import Clock, Served, answer, running_app, running_serve
from tests.support.configs import small_config

SEED = int(os.environ.get("QCORE_SEED", "16"))
ATTACKS = float(os.environ.get("QCORE_ATTACKS", "1"))
DOORS = ("/", "/phase", "/live/guessed", "/_stcore/health", "/_stcore/host-config", "/app/static/x.js", "/media/x.png")
HURRIED = """
import qcore.server.wire
qcore.server.wire.Http.head_seconds = 1.5
qcore.server.wire.Http.body_seconds = 1.5
qcore.server.wire.Http.most = 80
"""
# Everything that the process says to the network, as the interpreter itself sees it.
AUDITED = """
import sys
def heard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        sys.stderr.write(f"AUDIT {event} {arguments[-1] if event != 'socket.getaddrinfo' else arguments[:2]!r}\\n")
sys.addaudithook(heard)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for an app, with a finished run in its runs."""
    folder = tmp_path_factory.mktemp("doors")
    (folder / "runs").mkdir()
    with Lab(folder / "runs") as lab:
        lab.start(small_config(steps=3), name="done")
        assert lab.wait("done", 120).state == "finished"
    return folder


@pytest.fixture(scope="module")
def clock(runs: Path) -> Clock:
    """The clock of the app's channels."""
    return Clock(runs / "clock")


@pytest.fixture(scope="module")
def app(runs: Path, clock: Clock) -> Iterator[Served]:
    with running_app(runs, before=HURRIED + clock.source) as served:
        yield served
    assert "Traceback" not in served.said


@pytest.fixture(scope="module")
def guarded(runs: Path) -> Iterator[Served]:
    with running_app(runs, env={"QCORE_TOKEN": "on", "QCORE_HOSTS": "lab.example"}) as served:
        yield served
    assert "Traceback" not in served.said


@pytest.fixture(scope="module")
def serve(runs: Path) -> Iterator[Served]:
    with running_serve(runs / "runs", before=HURRIED, log=runs / "serve.log") as served:
        yield served
    assert "Traceback" not in served.said


def pairs(port: int) -> list[tuple[str | None, str | None, bool]]:
    """Host, Origin, and whether they may come in, of an app on this machine."""
    own = f"127.0.0.1:{port}"
    return [
        (own, f"http://{own}", True),
        (f"localhost:{port}", f"http://localhost:{port}", True),
        (f"[::1]:{port}", f"http://[::1]:{port}", True),
        ("localhost:9000", "http://localhost:9000", True),  # a tunnel
        (own, "http://evil.example", False),
        (own, "null", False),
        (own, "http://127.0.0.1:9999", False),
        (own, "http://localhost:1234", False),
        (own, f"http://localhost:{port}", False),
        (own, f"https://{own}", False),
        (own, "file://", False),
        (own, "http://127.0.0.1.evil.example", False),
        (f"evil.example:{port}", f"http://evil.example:{port}", False),
        (f"evil.example:{port}", None, False),
        (f"evil@127.0.0.1:{port}", None, False),
        (f"localhost.:{port}", None, False),
        ("127.1", None, False),
        ("8.8.8.8", None, False),
        ("localhost:99999", None, False),
        ("", None, False),
    ]


def test_every_door_of_the_app_takes_the_same_names_and_origins(app: Served):
    for host, origin, allowed in pairs(app.port):
        headers = {"Host": host, "Origin": origin}
        assert app.shake(headers) == (101 if allowed else 403), headers
        for path in DOORS:
            status, _, body = app.ask("GET", path, headers)
            assert (status not in (400, 401, 403)) == allowed, (path, headers, status)
            assert allowed or b"<script" not in body
        for method in ("POST", "PUT", "DELETE"):
            status, _, body = app.ask(method, "/_stcore/upload_file/s/f", headers)
            assert (b"<title>Collapse Lab</title>" in body) == (not allowed), (method, headers, status)


def test_odd_requests_are_refused_at_the_app(app: Served):
    own = f"Host: 127.0.0.1:{app.port}\r\n"
    for request in (
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        f"GET / HTTP/1.1\r\n{own}{own}\r\n",
        f"GET / HTTP/1.1\r\n{own}Host: evil.example\r\n\r\n",
        f"GET http://evil.example/ HTTP/1.1\r\n{own}\r\n",
        f"GET http://127.0.0.1:{app.port}/ HTTP/1.1\r\n{own}\r\n",
        f"OPTIONS * HTTP/1.1\r\n{own}\r\n",
        f"CONNECT evil.example:80 HTTP/1.1\r\n{own}\r\n",
        f"GET / HTTP/1.1\r\n{own}Origin: http://127.0.0.1:{app.port}\r\nOrigin: http://evil.example\r\n\r\n",
    ):
        status, _, body = answer(app.raw(request.encode(), whole=False))
        assert status in (400, 403), request
        assert b"<script" not in body


def test_the_app_cannot_be_framed_and_says_no_more_than_it_must(app: Served):
    for path in ("/", "/live/x", "/_stcore/health"):
        head = app.ask("GET", path)[1].lower()
        for line in ("x-frame-options: deny", "frame-ancestors 'none'", "x-content-type-options: nosniff"):
            assert line in head, (path, line)
        assert head.count("x-content-type-options") == 1


async def _addresses(port: int, cookie: str, then: Callable[[list[str]], None]) -> None:
    """Open the app as a browser does, and call `then` with the addresses of the page's channels while it is open."""
    headers = {"Cookie": cookie} if cookie else {}
    async with connect(
        f"ws://127.0.0.1:{port}/_stcore/stream",
        origin=f"http://127.0.0.1:{port}",  # type: ignore[arg-type]
        subprotocols=["streamlit"],  # type: ignore[list-item]
        additional_headers=headers,
        max_size=None,
    ) as line:
        message = BackMsg()
        message.rerun_script.query_string = "run=done"
        await line.send(message.SerializeToString())
        found: set[bytes] = set()
        async with asyncio.timeout(90):
            while not found:
                got = await line.recv()
                found |= set(re.findall(rb"live/[A-Za-z0-9_-]{32}", got if isinstance(got, bytes) else got.encode()))
        await asyncio.to_thread(then, [one.decode() for one in found])


def test_a_channel_ends_with_the_session_and_with_time_and_has_the_same_door(app: Served, clock: Clock):
    known: list[str] = []

    def while_open(addresses: list[str]) -> None:
        known.extend(addresses)
        first = f"/{addresses[0]}"
        assert app.ask("GET", first)[0] == 200
        assert app.ask("GET", first, {"Host": "evil.example"})[0] == 403
        assert app.ask("GET", first, {"Origin": "http://evil.example"})[0] == 403
        for _ in range(8):  # asked, it lives longer than it would unasked
            clock.pass_by(IDLE_SECONDS - 1)
            assert app.ask("GET", first)[0] == 200
        clock.pass_by(IDLE_SECONDS + 1)
        status, _, body = app.ask("GET", first)
        assert (status, b"load it again" in body) == (410, True)

    asyncio.run(_addresses(app.port, "", while_open))
    again: list[str] = []
    asyncio.run(_addresses(app.port, "", again.extend))
    assert set(again).isdisjoint(known)
    deadline = time.monotonic() + 30  # seconds: the server must hear that the last tab is gone
    while any(app.ask("GET", f"/{one}")[0] != 410 for one in again):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _entered(served: Served) -> tuple[str, str]:
    """The token of the start-up line, and the cookie that it gives."""
    found = re.search(r"Collapse Lab: http://127\.0\.0\.1:\d+/\?token=(\S+)", served.said)
    assert found, served.said
    status, head, _ = served.ask("GET", f"/?token={found[1]}")
    assert status == 303
    cookie = re.search(r"(?i)set-cookie: ([^;]+)", head)
    assert cookie
    return found[1], cookie[1]


def test_an_app_that_asks_for_its_token_opens_nothing_without_it(guarded: Served, runs: Path):
    token, cookie = _entered(guarded)
    path = runs / "runs" / TOKEN_FILE
    assert (path.read_text().strip(), path.stat().st_mode & 0o777) == (token, 0o600)
    for path_ in DOORS:
        assert guarded.ask("GET", path_)[0] == 401, path_
        assert guarded.ask("GET", f"{path_}?token={token[:-1]}x")[0] == 403, path_
        assert guarded.ask("GET", path_, {"Cookie": cookie})[0] not in (401, 403), path_
    for method in ("PUT", "DELETE", "POST"):
        assert guarded.ask(method, "/_stcore/upload_file/s/f")[0] == 401
        assert guarded.ask(method, f"/_stcore/upload_file/s/f?token={token}")[0] == 401
    assert guarded.shake() == 403
    assert guarded.shake({"Cookie": cookie + "0"}) == 403
    assert guarded.shake({"Cookie": cookie}) == 101
    assert guarded.shake({"Cookie": cookie, "Origin": "http://localhost:1"}) == 403
    named = {"Host": "lab.example", "Origin": "https://lab.example", "Cookie": cookie}
    assert guarded.shake(named) == 101
    assert guarded.ask("GET", "/", {**named, "Host": "other.example"})[0] == 403
    assert token not in guarded.said.replace(f"?token={token}", "", 1)


def test_who_leaves_ends_the_pages_and_channels_of_this_browser(guarded: Served):
    _, cookie = _entered(guarded)

    def leave(addresses: list[str]) -> None:
        address = f"/{addresses[0]}"
        assert guarded.ask("GET", address)[0] == 401
        assert guarded.ask("GET", address, {"Cookie": cookie})[0] == 200
        assert guarded.ask("GET", "/_lab/leave", {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})[0] == 200
        assert guarded.ask("GET", address, {"Cookie": cookie})[0] == 401
        _, fresh = _entered(guarded)
        deadline = time.monotonic() + 20
        while guarded.ask("GET", address, {"Cookie": fresh})[0] != 410:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    asyncio.run(_addresses(guarded.port, cookie, leave))
    assert guarded.shake({"Cookie": cookie}) == 403


def test_beyond_loopback_the_token_is_asked_for_and_nothing_outside_is_asked(runs: Path):
    options = ("--server.address", "0.0.0.0", "--logger.hideWelcomeMessage", "false")
    with running_app(runs, *options, before=AUDITED) as served:
        _, cookie = _entered(served)
        assert served.ask("GET", "/")[0] == 401
        assert served.ask("GET", "/", {"Host": "192.0.2.7:1", "Cookie": cookie})[0] == 200
        assert served.ask("GET", "/", {"Host": "evil.example", "Cookie": cookie})[0] == 403
        for origin in ("http://evil.example", "http://192.0.2.9", "null", "http://127.0.0.1:1"):
            assert served.shake({"Origin": origin, "Cookie": cookie}) == 403
        assert served.shake({"Cookie": cookie}) == 101
        asyncio.run(_addresses(served.port, cookie, lambda _: None))
        asked = [line for line in served.said.splitlines() if line.startswith("AUDIT")]
        assert [line for line in asked if not re.search(r"'(127\.0\.0\.1|::1|localhost|0\.0\.0\.0)'|'/", line)] == []


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"QCORE_TOKEN": "hunter2"}, "QCORE_TOKEN holds 7 letters"),
        ({"QCORE_HOSTS": "http://lab.example"}, "host names alone"),
        ({"QCORE_TOKEN": "on", "QCORE_TOKEN_FILE": "{folder}/loose"}, "chmod 600"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_says_which(tmp_path: Path, env: dict[str, str], told: str):
    (tmp_path / "loose").write_text("x" * 40)
    (tmp_path / "loose").chmod(0o644)
    given = {key: value.format(folder=tmp_path) for key, value in env.items()}
    with pytest.raises(AssertionError, match="did not start") as failed, running_app(tmp_path, env=given):
        pass
    assert told in str(failed.value)
    assert "Traceback" not in str(failed.value)


def _half(served: Served, data: bytes, count: int) -> list[socket.socket]:
    """Connections that have sent the beginning of something."""
    lines = []
    for _ in range(count):
        with contextlib.suppress(OSError):  # refused at once is as good
            line = socket.create_connection(("127.0.0.1", served.port), 10)
            line.sendall(data)
            lines.append(line)
    return lines


def _open(lines: list[socket.socket]) -> int:
    found = 0
    for line in lines:
        line.setblocking(False)
        with contextlib.suppress(OSError):
            try:
                while line.recv(4096):
                    pass
            except BlockingIOError:
                found += 1
    return found


@pytest.mark.parametrize("which", ["app", "serve"])
def test_heads_and_bodies_that_never_end_are_hung_up(which: str, request: pytest.FixtureRequest):
    """More of them than connections are allowed: meanwhile others are answered, and later all of these are gone."""
    served: Served = request.getfixturevalue(which)
    own = f"Host: 127.0.0.1:{served.port}\r\n".encode()
    told = "/_stcore/health" if which == "app" else "/openapi.json"
    kept = socket.create_connection(("127.0.0.1", served.port), 30)
    lines = _half(served, b"GET / HTTP/1.1\r\n" + own + b"X: ", 110) + _half(served, b"", 5)
    assert served.ask("GET", told)[0] == 200
    lines += _half(served, b"PUT /_stcore/upload_file/s/f HTTP/1.1\r\n" + own + b"Content-Length: 100\r\n\r\n{", 20)
    assert served.ask("GET", told)[0] == 200
    deadline = time.monotonic() + 30
    while left := _open(lines):
        assert time.monotonic() < deadline, f"{left} of {len(lines)} are open"
        time.sleep(0.1)
    with contextlib.suppress(OSError):
        kept.sendall(b"x")
    for line in (kept, *lines):
        line.close()
    assert served.ask("GET", told)[0] == 200


def test_a_head_may_come_in_pieces_and_a_connection_may_be_used_again(serve: Served):
    with socket.create_connection(("127.0.0.1", serve.port), 30) as line:
        for _ in range(3):
            for piece in (b"GET /openapi.json HTTP/1.1\r\nHost: loc", b"alhost\r\n", b"\r\n"):
                line.sendall(piece)
                time.sleep(0.02)  # lets it arrive by itself
            found = b""
            while b"\r\n\r\n" not in found:
                found += line.recv(65536)
            head, _, body = found.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length, head
            while len(body) < int(length[1]):
                body += line.recv(65536)
            assert answer(found)[0] == 200


def test_a_log_does_not_fill_with_what_strangers_send(app: Served, serve: Served):
    for served in (app, serve):
        before = len(served.said)
        for _ in range(60):
            served.raw(b"\x16\x03\x01 no http\r\n\r\n")
            if served is app:
                assert served.shake({"Origin": "http://evil.example"}) == 403
        assert len(served.said) - before < 2000


_VALUES = [
    "",
    "x",
    "-1",
    "9" * 400,
    "../../etc/passwd",
    "%00",
    "%ff",
    "..%2f..%2fx",
    "é",
    "<b>",
    "a" * 3000,
    "\x7f",
    "'",
]


_PATHS = [
    *DOORS,
    *("/v1/runs", "/v1/runs/done", "/openapi.json", "/_stcore/stream", "/_stcore/upload_file/a/b", "/auth/login"),
    *("/oauth2callback", "/_lab/leave", "//", "/\\", "http://evil.example/"),
]
_NAMES = ["Origin", "Cookie", "Authorization", "Content-Length", "Transfer-Encoding", "Range", "Content-Type", "Host"]
_NAMES += ["Sec-WebSocket-Protocol", "Upgrade", "Accept-Encoding", "X-Forwarded-For", "If-None-Match"]


def _request(rng: random.Random, port: int) -> bytes:
    """A request as nobody should send it; most are HTTP nearly."""
    if rng.random() < 0.15:
        return rng.randbytes(rng.randint(1, 2000)) + b"\r\n\r\n"
    method = rng.choice(["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO", ""])
    path = rng.choice(_PATHS)
    path += rng.choice(
        ["", "", "/" + rng.choice(_VALUES), "?token=" + rng.choice(_VALUES), "?" + rng.choice(_VALUES) * 3]
    )
    own = f"127.0.0.1:{port}"
    headers = [("Host", rng.choice([own, own, own, "evil.example", "", "localhost:1", f"x@{own}", "[::1"]))]
    for name in _NAMES:
        if rng.random() < 0.12:
            value = rng.choice([*_VALUES, own, f"http://{own}", "chunked", "5", "websocket", "bytes=5-1", "Bearer x"])
            headers.append((name, value))
    lines = [f"{method} {path} HTTP/{rng.choice(['1.1', '1.1', '1.1', '1.0', '9.9', '2'])}"]
    lines += [f"{name}: {value}" for name, value in headers]
    body = rng.randbytes(rng.choice([0, 0, 5, 5000]))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace") + body


@pytest.mark.parametrize("which", ["app", "guarded", "serve"])
def test_nothing_that_a_stranger_sends_breaks_a_server(which: str, request: pytest.FixtureRequest):
    served: Served = request.getfixturevalue(which)
    rng, tally = random.Random(f"{SEED} {which}"), Counter[int]()
    for number in range(int(150 * ATTACKS)):
        data = _request(rng, served.port)
        with socket.create_connection(("127.0.0.1", served.port), 30) as line, contextlib.suppress(ConnectionError):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            found = line.recv(65536)
            status, head, body = answer(found)
            tally[status] += 1
            assert status not in (500, 502), (SEED, number, data[:300], found[:300])
            assert b"Traceback" not in found, (SEED, number, data[:300], found[:300])
            if which != "app" and status == 200 and "/openapi.json" not in data.decode("latin-1"):
                assert b"/_lab/leave" in data, (SEED, number, data[:300], found[:300])
            if which == "serve" and status >= 400 and not data.startswith(b"HEAD") and body:
                first = json.JSONDecoder().raw_decode(body.decode())[0]  # bytes behind a request are another one
                assert first["status"] == status, (SEED, number, data[:300], head)
    assert served.process.poll() is None
    assert tally[0] < sum(tally.values()) / 2
    assert served.ask("GET", "/openapi.json" if which == "serve" else "/_stcore/health")[0] in (200, 401)
