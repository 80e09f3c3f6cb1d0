"""The app's door, asked byte by byte and without Streamlit behind it: the token's ways, headers, refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from qcore.config import ConfigError
from qcore.server import token as of_token
from qcore.server.door import Door, Entry
from qcore.server.hosts import Hosts
from qcore.server.token import TOKEN, Passes, Token, token_setting

SECRET = Token("a-secret-of-more-than-twenty-letters")
HEADERS = {"x-frame-options": "DENY", "x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """What is behind the door: says so, and has headers of its own."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    headers = [(b"x-frame-options", b"ALLOWALL"), (b"content-security-policy", b"img-src 'self'")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    host = next(value for key, value in scope["headers"] if key == b"host")
    await send({"type": "http.response.body", "body": b"inside " + host})


class Asked:
    """A door, and requests to it. Its answers: status, headers by name, body."""

    def __init__(self, **entry: Any) -> None:
        self.passes: Passes | None = entry.get("passes")
        self.door = Door(inside, Entry(entry.pop("hosts", Hosts.of([])), **entry))

    def __call__(
        self, path: str = "/", query: str = "", method: str = "GET", server: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(self.door(scope_of("http", path, query, method, server, headers), receive, send))
        found = [(key.decode(), value.decode()) for key, value in sent[0]["headers"]]
        body = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        return sent[0]["status"], dict(found), body

    def enter(self) -> str:
        """The cookie that a browser gets for the token."""
        assert self.passes is not None
        _, headers, _ = self("/", f"token={self.passes.token.value}")
        return headers["set-cookie"].partition(";")[0]


def scope_of(kind: str, path: str, query: str, method: str, server: str, headers: dict[str, str]) -> dict[str, Any]:
    given = {"host": "localhost:1", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return {
        "type": kind,
        "scheme": "ws" if kind == "websocket" else "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "server": (server, 1),
        "client": ("127.0.0.1", 5),
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }


@pytest.fixture
def ask() -> Asked:
    return Asked(passes=Passes(SECRET))


def test_without_a_token_to_ask_for_the_door_is_open_and_adds_its_headers():
    status, headers, body = Asked()()
    assert (status, body) == (200, "inside localhost:1")
    assert HEADERS.items() <= headers.items()
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:2"}],
)
def test_a_refusal_is_a_page_of_one_sentence_that_loads_nothing(headers: dict[str, str]):
    for asked in (Asked(), Asked(passes=Passes(SECRET))):
        status, found, body = asked(**headers, method="PUT")
        assert status == 403
        assert found["content-type"].startswith("text/html")
        assert "default-src 'none'" in found["content-security-policy"]
        assert HEADERS.items() <= found.items()
        assert "<script" not in body
        assert "evil.example<" not in body


def test_what_a_stranger_sends_is_shown_as_text():
    _, _, body = Asked()(host="<img src=x onerror=alert(1)>")
    assert "<img" not in body


def test_the_host_is_handed_on_as_the_origin_writes_it():
    """Streamlit compares the two as texts."""
    hosts = Hosts.of(["lab.example"])
    assert Asked(hosts=hosts)(host="LAB.example:443", origin="https://lab.example")[2] == "inside lab.example"


@pytest.mark.parametrize("path", ["/", "/phase", "/live/x", "/media/x.png", "/app/static/x.js", "/_stcore/health"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_without_the_token_no_door_opens(ask: Asked, path: str, method: str):
    status, headers, body = ask(path, method=method)
    assert status == 401
    assert "?token=" in body
    assert "inside" not in body
    assert "set-cookie" not in headers


@pytest.mark.parametrize("shown", ["", "x", SECRET.value[:-1], SECRET.value + "x", SECRET.value.upper(), "é", "%00"])
def test_a_wrong_token_opens_nothing(ask: Asked, shown: str):
    status, headers, _ = ask("/", f"token={shown}")
    assert status == 403
    assert "set-cookie" not in headers
    assert ask("/", f"token={SECRET.value}&token={shown}")[0] == 403
    assert ask("/", "", cookie=f"{ask.passes.cookie}={shown}")[0] == 401
    assert ask("/", "", authorization=f"Bearer {shown}")[0] == 401


@pytest.mark.parametrize(
    ("path", "query", "to"),
    [
        ("/", "", "/"),
        ("/phase", "run=a%20b&view=x", "/phase?run=a+b&view=x"),
        ("//evil.example/x", "", "/evil.example/x"),
        ("/\\evil.example", "", "/evil.example"),
        ("/a\r\nX: y", "", "/a%0D%0AX%3A%20y"),
        ("/a", "next=%0d%0aX:y", "/a?next=%0D%0AX%3Ay"),
    ],
)
def test_the_token_is_taken_out_of_the_address(ask: Asked, path: str, query: str, to: str):
    status, headers, body = ask(path, f"{query}&token={SECRET.value}" if query else f"token={SECRET.value}")
    assert (status, headers["location"]) == (303, to)
    cookie = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Max-Age" not in cookie
    assert "Expires" not in cookie
    assert SECRET.value not in cookie + body
    assert headers["cache-control"] == "no-store"


def test_the_cookie_opens_every_door_and_no_other_lab_s_does(ask: Asked):
    cookie = ask.enter()
    for path in ("/", "/live/x", "/_stcore/upload_file/a/b"):
        assert ask(path, cookie=f"x=y; broken; {cookie}; a[]=1", method="PUT")[0] == 200
    other = Asked(passes=Passes(Token("another-secret-of-some-thirty-letters")))
    assert ask(cookie=other.enter())[0] == 401
    assert other.passes.cookie != ask.passes.cookie
    name, _, value = cookie.partition("=")
    for forged in (value[:-1], value + "0", "0." + value.split(".", 1)[1], "." + value, "..", value.upper()):
        assert ask(cookie=f"{name}={forged}")[0] == 401
    again = Asked(passes=Passes(SECRET))  # the server was started again
    assert again(cookie=cookie)[0] == 200


def test_a_script_may_bear_the_token_in_a_header(ask: Asked):
    assert ask("/_stcore/health", authorization=f"Bearer {SECRET.value}")[0] == 200


def test_who_leaves_has_left_everywhere(ask: Asked):
    cookie, kept = ask.enter(), ask.enter()
    assert ask("/_lab/leave", cookie=cookie, sec_fetch_site="cross-site")[0] == 403
    assert ask("/_lab/leave", cookie=cookie, sec_fetch_site="same-site")[0] == 403
    assert ask(cookie=cookie)[0] == 200
    status, headers, body = ask("/_lab/leave", cookie=cookie, sec_fetch_site="same-origin")
    assert status == 200
    assert "Max-Age=0" in headers["set-cookie"]
    assert "logged out" in body
    assert ask(cookie=cookie)[0] == 401
    assert ask(cookie=kept)[0] == 200
    assert Asked(passes=ask.passes, base="lab")("/lab/_lab/leave", cookie=kept)[0] == 200
    assert ask(cookie=kept)[0] == 401


def test_a_pass_ends_after_its_days(ask: Asked, monkeypatch: pytest.MonkeyPatch):
    cookie, now = ask.enter(), time.time()
    monkeypatch.setattr(of_token.time, "time", lambda: now + 29 * 86400)
    assert ask(cookie=cookie)[0] == 200
    monkeypatch.setattr(of_token.time, "time", lambda: now + 31 * 86400)
    assert ask(cookie=cookie)[0] == 401


class Socket:
    """A websocket through a door."""

    def __init__(self, door: Door, peer: str = "127.0.0.1", **headers: str) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.inbox.put_nowait({"type": "websocket.connect"})
        scope = scope_of("websocket", "/_stcore/stream", "", "GET", "127.0.0.1", headers)
        scope["client"] = peer, 5
        self.task = asyncio.ensure_future(door(scope, self.inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(10):
            while not ready():
                await asyncio.sleep(0.001)


def test_a_websocket_needs_the_pass_and_ends_with_it(ask: Asked):
    cookie = ask.enter()

    async def play() -> None:
        refused = Socket(ask.door)
        await refused.task
        assert [message["type"] for message in refused.sent] == ["websocket.close"]
        opened, other = Socket(ask.door, cookie=cookie), Socket(ask.door, cookie=ask_other)
        opened.inbox.put_nowait({"type": "websocket.receive", "text": "hello"})
        await opened.until(lambda: len(opened.sent) == 2)
        assert opened.sent[1]["text"] == "hello"

        async def drop(message: Message) -> None:
            del message

        leaving = scope_of("http", "/_lab/leave", "", "GET", "127.0.0.1", {"cookie": cookie})
        await ask.door(leaving, other.inbox.get, drop)
        await opened.until(opened.task.done)
        assert opened.sent[-1] == {"type": "websocket.close", "code": 1008}
        other.inbox.put_nowait({"type": "websocket.receive", "text": "still here"})
        await other.until(lambda: other.sent[-1].get("text") == "still here")
        other.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await other.until(other.task.done)
        assert not ask.door._sockets

    ask_other = ask.enter()
    asyncio.run(play())


def test_strangers_websockets_are_so_many_and_who_opens_most_makes_room():
    """Where nobody is asked for anything, one who opens hundreds ends their own."""
    ask = Asked()
    ask.door.most_strangers = 5

    async def play() -> None:
        first = Socket(ask.door, peer="192.0.2.1")
        await first.until(lambda: len(first.sent) == 1)
        many = []
        for _ in range(9):
            many.append(Socket(ask.door, peer="192.0.2.9"))
            await many[-1].until(lambda: [message["type"] for message in many[-1].sent] == ["websocket.accept"])
        for one in many[:5]:
            await one.until(one.task.done)
            assert one.sent[-1] == {"type": "websocket.close", "code": 1008}
        open_now = [first, *many[5:]]
        assert not any(one.task.done() for one in open_now)
        for one in open_now:
            one.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await one.until(one.task.done)
        assert not ask.door._strangers

    asyncio.run(play())
    known = Asked(passes=Passes(SECRET))
    known.door.most_strangers = 1
    cookie = known.enter()

    async def let_in() -> None:
        opened = [Socket(known.door, cookie=cookie) for _ in range(4)]
        for one in opened:
            await one.until(lambda one=one: len(one.sent) == 1)  # type: ignore[misc]
        for one in opened:
            one.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await one.until(one.task.done)
            assert [message["type"] for message in one.sent] == ["websocket.accept"]

    asyncio.run(let_in())


def test_who_has_left_stays_out_when_the_server_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended = tmp_path / ".ended-passes"
    ask, other = Asked(passes=Passes(SECRET, ended)), Asked(passes=Passes(SECRET, ended))
    cookie, kept = ask.enter(), ask.enter()
    assert ask("/_lab/leave", cookie=cookie)[0] == 200
    assert other(cookie=cookie)[0] == 401, "another process over the same runs"
    again = Asked(passes=Passes(SECRET, ended))
    assert again(cookie=cookie)[0] == 401
    assert again(cookie=kept)[0] == 200
    assert ended.stat().st_mode & 0o777 == 0o600
    assert cookie.partition("=")[2] not in ended.read_text()
    monkeypatch.setattr(of_token, "KEPT_ENDED", 3)
    for _ in range(5):
        again("/_lab/leave", cookie=again.enter())
    assert len(ended.read_text().splitlines()) == 3
    now = time.time()
    monkeypatch.setattr(of_token.time, "time", lambda: now + 31 * 86400)
    late = Asked(passes=Passes(SECRET, ended))
    late("/_lab/leave", cookie=late.enter())
    assert len(ended.read_text().splitlines()) == 1, "a pass that is over need not be remembered"
    ended.unlink()
    ended.mkdir()  # it cannot be written: the pass ends here all the same
    last = late.enter()
    assert late("/_lab/leave", cookie=last)[0] == 200
    assert late(cookie=last)[0] == 401
    assert [path.name for path in tmp_path.iterdir()] == [ended.name]


def test_an_app_that_asks_nobody_answers_its_own_machine_alone():
    here = Asked(here_only=True, hosts=Hosts.of([], any_address=True))
    assert here()[0] == 200
    assert here(server="::ffff:127.0.0.1")[0] == 200
    status, _, body = here(server="10.0.0.2", host="10.0.0.2")
    assert status == 403
    assert "--server.address" in body


@pytest.mark.parametrize(
    ("said", "asks", "given"),
    [("", None, None), ("on", True, None), ("OFF", False, None), (SECRET.value, True, SECRET.value)],
)
def test_one_setting_says_whether_and_which(monkeypatch: pytest.MonkeyPatch, said: str, asks: bool, given: str | None):
    monkeypatch.setenv(TOKEN, said)
    found = token_setting()
    assert (found[0], found[1] and found[1].value) == (asks, given)


@pytest.mark.parametrize("said", ["short", "true", "twenty letters and a blank", "1"])
def test_a_secret_that_is_none_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, said: str):
    monkeypatch.setenv(TOKEN, said)
    with pytest.raises(ConfigError, match="no token") as told:
        token_setting()
    assert len(said) == 1 or said not in str(told.value)
