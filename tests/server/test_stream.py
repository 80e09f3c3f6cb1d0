"""Server-sent events: what a stream tells, and that one which was cut goes on without a gap."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qcore.lab import Lab
from qcore.server.client import Client
from qcore.server.problems import Problem
from qcore.server.service import Service
from qcore.server.stream import LISTENERS, QUEUE, Hub, Listener, StreamPosition, _close
from qcore.store import DATABASE_NAME, Event, RunWriter, Status
from tests.server.conftest import Caller
from tests.support.configs import eventually, small_config

Message = tuple[str, str, Any]


@contextmanager
def stream(service: Service, path: str, **headers: str) -> Iterator[Iterator[Message]]:
    """The messages of a stream, as (id, kind, data), until the caller stops."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
    given = {"Authorization": f"Bearer {service.token.value}", "Accept": "text/event-stream"}
    connection.request("GET", path, headers=given | {key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("content-type", "").startswith("text/event-stream")

    def messages() -> Iterator[Message]:
        fields: dict[str, str] = {}
        for raw in answer:
            key, _, value = raw.decode().rstrip("\n").partition(": ")
            if key:
                fields[key] = value
            elif "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}

    try:
        yield messages()
    finally:
        connection.close()


def until(messages: Iterator[Message], kind: str, count: int = 1) -> list[Message]:
    """The messages up to the `count`-th of a kind."""
    found: list[Message] = []
    for message in messages:
        found.append(message)
        count -= message[1] == kind
        if not count:
            return found
    raise AssertionError(f"the stream ended before {kind}")


def test_a_stream_begins_with_the_state_and_tells_changes(service: Service, client: Client):
    with stream(service, "/v1/runs/live/events?series=train/loss") as messages:
        first = next(messages)
        assert first[1] == "status"
        assert first[2]["state"] == "paused"
        row = client.call("set_control", name="live", control="diversity_weight", value=0.25, wait=20)
        event = until(messages, "event")[-1][2]
        assert (event["command_id"], event["author"]) == (row["id"], "api:tester")
        client.call("step", name="live", count=3, wait=20)
        scalars = until(messages, "scalars")[-1][2]
        assert set(scalars) == {"train/loss"}


def test_a_cut_stream_goes_on_after_its_last_id_without_a_gap(service: Service, client: Client):
    with stream(service, "/v1/runs/live/events?series=train/loss") as messages:
        client.call("set_control", name="live", control="clip_norm", value=1.25, wait=20)
        last, _, first_event = until(messages, "event")[-1]
    for value in (1.5, 1.75):  # while nobody listens
        client.call("set_control", name="live", control="clip_norm", value=value, wait=20)
    client.call("step", name="live", count=2, wait=20)
    eventually(lambda: client.call("run_state", name="live")["state"] == "paused")
    with stream(service, "/v1/runs/live/events?series=train/loss", Last_Event_ID=last) as messages:
        found = until(messages, "event", 3)
        events = [data for _, kind, data in found if kind == "event"]
        assert [event["seq"] for event in events] == [first_event["seq"] + one for one in (1, 2, 3)]
        assert [event["payload"].get("new") for event in events[:2]] == [1.5, 1.75]
        points = until(messages, "scalars")[-1][2]["train/loss"]["steps"]
        step = int(last.split(".")[1])
        newest = client.call("run_state", name="live")["step"]
        assert set(range(step + 1, newest + 1)) <= set(points)


def test_without_the_accept_header_events_are_json_and_a_bad_id_is_named(call: Caller):
    assert "events" in call("GET", "/v1/runs/done/events").json
    bad = call("GET", "/v1/runs/done/events", Accept="text/event-stream", Last_Event_ID="yesterday")
    assert bad.status == 422
    assert "yesterday" in bad.json["detail"]
    assert call("GET", "/v1/runs/nobody/events", Accept="text/event-stream").status == 404
    assert call("GET", "/v1/runs/done/events?serie=x", Accept="text/event-stream").status == 422


def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path):
    with Lab(tmp_path) as lab:
        lab.start(small_config(documents=40), name="r")
        lab.wait("r", 60)
    service = Service(tmp_path, port=0)
    service.start()
    with stream(service, "/v1/runs/r/events") as messages:
        assert next(messages)[1] == "status"
        closing = threading.Thread(target=service.close)
        closing.start()
        list(messages)  # it ends by itself
        closing.join(20)
    assert not service.alive


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[Lab, RunWriter]]:
    """A lab with a run `r` whose telemetry the test writes itself."""
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "config.yaml").write_text(small_config().to_yaml(), "utf-8")
    with RunWriter(folder / DATABASE_NAME, commit_interval=0.005) as writer, Lab(tmp_path) as lab:
        writer.set_status(Status("running", 0, 100, 1.0, 1, "here"))
        for step in range(1, 6):
            writer.log_scalars(step, {"train/loss": 1.0 / step})
        writer.flush()
        yield lab, writer


async def _heard(listener: Listener, kind: bytes) -> bytes:
    """The next batch of a listener that has a message of this kind."""
    async with asyncio.timeout(20):
        while True:
            found = await listener.queue.get()
            assert found is not None
            if b"event: " + kind in found:
                return found


def test_a_rewind_is_told_before_the_points_that_replace_the_old_ones(written: tuple[Lab, RunWriter]):
    lab, writer = written

    async def main() -> bytes:
        hub = Hub(lab, poll_seconds=0.005)
        listener = hub.listen("r", ("train/*",), StreamPosition())
        assert b'"steps":[1,2,3,4,5]' in await _heard(listener, b"scalars")
        writer.truncate_after(3, event_seq=0)
        writer.log_scalars(4, {"train/loss": 9.0})
        writer.flush()
        found = await _heard(listener, b"rewind")
        hub.close()
        return found

    found = asyncio.run(main())
    assert found.index(b'event: rewind\ndata: {"step":3}') < found.index(b'"steps":[4],"values":[9.0]')


def test_many_listeners_share_a_feed_and_too_many_are_refused(written: tuple[Lab, RunWriter]):
    lab, writer = written

    async def main() -> None:
        hub = Hub(lab, poll_seconds=0.005)
        listeners = [hub.listen("r", ("train/*",), StreamPosition(step=5)) for _ in range(LISTENERS)]
        with pytest.raises(Problem) as refused:
            hub.listen("r", ("train/*",), StreamPosition())
        assert refused.value.status == 503
        hub.leave("r", listeners.pop())
        listeners.append(hub.listen("r", ("*",), StreamPosition(step=5)))
        for listener in listeners:
            await _heard(listener, b"status")
        writer.add_event(Event(1, 5, 1.0, "tester", "pause", {}))
        assert {b'"author":"tester"' in await _heard(listener, b"event") for listener in listeners} == {True}
        hub.close()
        assert all(listener.queue.get_nowait() is None for listener in listeners)

    asyncio.run(main())


def test_who_reads_too_slowly_is_sent_nothing_out_of_order():
    async def main() -> list[bytes | None]:
        listener = Listener(("*",), StreamPosition())
        for number in range(QUEUE):
            listener.queue.put_nowait(b"%d" % number)
        _close(listener)
        return [listener.queue.get_nowait() for _ in range(listener.queue.qsize())]

    assert asyncio.run(main()) == [None]
