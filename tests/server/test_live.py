"""Channels: what a page that follows its run is answered, and who gets no answer."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from qcore.lab import Lab, LabError
from qcore.server import live as of_live
from qcore.server.live import Channel, View, lifespan, route
from tests.support.configs import small_config

APP = Starlette(routes=[route()])


class Page:
    """What a page shows; `made` counts the bodies that were made of it."""

    def __init__(self) -> None:
        self.tag, self.stale, self.made = "one", False, 0
        self.error: Exception | None = None

    def read(self) -> View:
        if self.error:
            raise self.error
        return View(self.tag, self._body, self.stale)

    def _body(self) -> str:
        self.made += 1
        return '["one"]'


def get(address: str, known: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a GET, by ASGI."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"if-none-match", known.encode())] if known else []
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": f"/{address}",
        "raw_path": f"/{address}".encode(),
        "query_string": b"",
        "headers": headers,
        "root_path": "",
    }
    asyncio.run(APP(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return start["status"], {key.decode(): value.decode() for key, value in start["headers"]}, body


@pytest.mark.parametrize("tag", ["one", "7-queued: waits for Модель β, 位置 2", 'a "b"\r\nc\udcff', ""])
def test_the_first_answer_is_all_and_later_ones_only_what_is_new(tag: str):
    page = Page()
    page.tag = tag
    channel = Channel(page.read)
    status, headers, body = get(channel.address)
    assert (status, body) == (200, b'["one"]')
    assert re.fullmatch('"[!#-~]+"', headers["etag"])  # as HTTP has it, whatever names the state
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert get(channel.address, headers["etag"])[::2] == (304, b"")
    assert page.made == 1
    page.tag += "2"
    assert get(channel.address, headers["etag"])[::2] == (200, b'["one"]')
    assert page.made == 2


def test_a_page_that_has_changed_around_it_is_asked_to_draw_itself_anew():
    page = Page()
    channel = Channel(page.read)
    page.stale = True
    assert get(channel.address, page.read().etag)[::2] == (205, b"")
    assert page.made == 0


@pytest.mark.parametrize("error", [LabError("there is no run 'a'"), OSError("the disk is gone")])
def test_a_run_that_cannot_be_read_ends_it(error: Exception):
    page = Page()
    channel = Channel(page.read)
    page.error = error
    status, _, body = get(channel.address)
    assert (status, body.decode().strip()) == (410, str(error))


def test_nobody_is_answered_without_the_secret_of_a_page_that_is_open():
    page = Page()
    channel, other = Channel(page.read), Channel(page.read)
    assert channel.address != other.address
    assert len(channel.address) > 32
    assert get("live/guessed")[0] == 410
    address = channel.address
    del channel
    gc.collect()
    assert get(address)[0] == 410
    assert get(other.address)[0] == 200
    assert page.made == 1


def test_nobody_is_answered_after_a_minute_without_a_question(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(of_live.time, "monotonic", lambda: now)
    channel = Channel(Page().read)
    for _ in range(10):  # asked, it lives on
        now += of_live.IDLE_SECONDS - 1
        assert get(channel.address)[0] == 200
    now += of_live.IDLE_SECONDS + 1
    status, _, body = get(channel.address)
    assert (status, b"load it again" in body) == (410, True)
    now -= 30
    other = Channel(Page().read)
    now += 31
    assert get(channel.address)[0] == 410
    assert get(other.address)[0] == 200


def test_channels_that_are_over_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(of_live.time, "monotonic", lambda: now)
    channels = [Channel(Page().read) for _ in range(50)]
    now += of_live.IDLE_SECONDS + 1
    channels.append(Channel(Page().read))
    assert [one in list(of_live._open.values()) for one in channels] == [False] * 50 + [True]


def test_a_page_asks_more_often_than_its_channel_lives():
    from pages.session import selection
    from pages.session.assets import ASSETS

    [slowest] = re.findall(
        r"^export const SLOWEST = ([\d.]+);$", (ASSETS / "pace.js").read_text(encoding="utf-8"), re.M
    )
    seconds = max(*selection.INTERVALS.values(), selection.ALARM_SECONDS, float(slowest))
    assert seconds * 2 < of_live.IDLE_SECONDS <= 90


def test_a_session_that_is_away_is_not_answered_and_one_that_comes_back_is(monkeypatch: pytest.MonkeyPatch):
    now, here = 1000.0, True
    monkeypatch.setattr(of_live.time, "monotonic", lambda: now)
    page = Page()
    channel = Channel(page.read, lambda: here)
    assert get(channel.address)[0] == 200
    here = False
    assert get(channel.address)[0] == 410
    assert page.made == 1
    here = True
    assert get(channel.address)[0] == 200
    here = False
    for _ in range(4):  # asking while it is away keeps nothing alive
        now += of_live.IDLE_SECONDS / 3
        assert get(channel.address)[0] == 410
    here = True
    assert get(channel.address)[0] == 410


@pytest.mark.parametrize(
    ("base", "path"), [("", "/live/{secret}"), ("lab", "/lab/live/{secret}"), ("/a/b/", "/a/b/live/{secret}")]
)
def test_the_route_lies_where_the_pages_do(base: str, path: str):
    assert route(base).path == path


def test_the_labs_of_the_process_close_with_the_server(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from qcore.lab import lab as of_lab

    lab = Lab(tmp_path)
    monkeypatch.setattr(of_lab, "_shared", {tmp_path: lab})
    name = lab.start(small_config(steps=1_000_000))

    async def serve() -> None:
        async with lifespan(None):
            assert lab.info(name).alive

    asyncio.run(serve())
    with Lab(tmp_path) as later:
        assert later.info(name).state == "stopped"
        assert later.checkpoints(name)[-1].step == later.info(name).step


ENDED = """
import asyncio, json, os, signal, sys
import uvicorn
import qcore.train.worker  # before the forks, so that none pays for it
from qcore.lab import shared_lab
from qcore.server.live import lifespan
from starlette.applications import Starlette
from tests.support.configs import small_config

async def answer(scope, receive, send):
    await Starlette(lifespan=lifespan)(scope, receive, send)

class Server(uvicorn.Server):
    async def main_loop(self):
        shared_lab(folder).start(small_config(steps=1_000_000), name="long")
        for name in names:
            signal.raise_signal(signal.Signals[name])
        await super().main_loop()

for folder, *names in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        Server(uvicorn.Config(answer, port=0, lifespan="on")).run()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_server_dies_of_its_first_signal_once_its_labs_are_closed(tmp_path: Path):
    asked = (["SIGINT"], ["SIGTERM"], ["SIGINT", "SIGINT", "SIGTERM"], ["SIGTERM", "SIGINT"])
    folders = [tmp_path / "-".join(names) for names in asked]
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            ENDED,
            json.dumps([[str(one), *names] for one, names in zip(folders, asked, strict=True)]),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(-signal.Signals[first]) for first, *_ in asked], ended.stderr
    assert "Traceback" not in ended.stderr
    for folder in folders:
        with Lab(folder) as later:
            assert later.info("long").state == "stopped"
            assert later.checkpoints("long")[-1].step == later.info("long").step
