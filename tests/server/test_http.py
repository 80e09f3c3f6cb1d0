"""The protocol over a real socket: reads, commands and their log, refusals with value and remedy, idempotency."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from typing import Any

import pytest

from qcore.config import live_controls
from qcore.lab import LabError
from qcore.server.bodies import DRAINED, LARGEST
from qcore.server.client import Client, RefusedError
from qcore.server.service import Service
from tests.server.conftest import Caller, Reply


def problem(reply: Reply, status: int) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = reply.json
    assert document["status"] == status
    assert document["detail"]
    assert "Traceback" not in reply.body.decode()
    return document


def test_runs_are_listed_with_their_state(client: Client):
    runs = {run["name"]: run for run in client.call("list_runs")["runs"]}
    assert set(runs) == {"done", "live"}
    assert runs["done"]["state"] == "finished"
    assert runs["done"]["step"] == runs["done"]["total_steps"] == 12
    assert client.call("run_state", name="live")["state"] == "paused"


def test_controls_carry_their_declaration_and_their_value(client: Client, service: Service):
    found = {control["name"]: control for control in client.call("controls", name="live")["controls"]}
    states = service.lab.controls("live")
    assert set(found) == set(states)
    rate = found["learning_rate"]
    declared = live_controls("phase_lm")["learning_rate"]
    assert (rate["low"], rate["high"], rate["unit"]) == (declared.low, declared.high, declared.unit)
    assert rate["value"] == states["learning_rate"].value
    assert rate["live"] is True
    assert rate["help"]


def test_series_come_from_a_step_on_and_thinned(client: Client, service: Service):
    everything = client.call("series", name="done", series=["train/loss"])["series"]["train/loss"]
    assert everything["steps"] == list(range(1, 13))
    assert everything["values"] == service.lab.reader("done").scalars("train/loss").values.tolist()
    late = client.call("series", name="done", series=["train/loss", "train/lr"], since=9)["series"]
    assert late["train/loss"]["steps"] == late["train/lr"]["steps"] == [10, 11, 12]
    assert client.call("series", name="done")["latest"]["train/loss"]["step"] == 12


def test_events_checkpoints_generations_and_configuration_are_readable(client: Client):
    events = client.call("events", name="done")["events"]
    assert [event["kind"] for event in events] == ["start", "finish"]
    assert client.call("events", name="done", since=events[0]["seq"])["events"] == events[1:]
    assert client.call("checkpoints", name="done")["checkpoints"][-1]["step"] == 12
    newest = client.call("generations", name="done", limit=1)["generations"][0]
    assert client.call("generation", name="done", generation=newest["id"])["text"] == newest["text"]
    assert client.call("run_config", name="done")["optim"]["steps"] == 12
    assert client.call("findings", name="done")["findings"] is not None


def test_a_change_is_applied_and_logged_under_the_clients_name(client: Client, service: Service):
    row = client.call("set_control", name="live", control="learning_rate", value=0.0017, wait=20)
    assert row["status"] == "applied"
    assert row["author"] == "api:tester"
    event = next(one for one in service.lab.reader("live").events() if one.command_id == row["id"])
    assert (event.author, event.kind) == ("api:tester", "control")
    assert event.payload == {"name": "learning_rate", "old": event.payload["old"], "new": 0.0017}
    assert client.call("control", name="live", control="learning_rate")["value"] == 0.0017


def test_step_continue_pause_and_checkpoint(client: Client, service: Service):
    before = client.call("run_state", name="live")["step"]
    assert client.call("step", name="live", count=2, wait=20)["status"] == "applied"
    assert client.call("continue", name="live", wait=20)["status"] == "applied"
    assert client.call("pause", name="live", wait=20)["status"] == "applied"
    row = client.call("checkpoint", name="live", wait=20)
    saved = [found.step for found in service.lab.checkpoints("live")]
    assert row["step"] in saved
    assert row["step"] >= before


def test_a_refused_command_is_a_conflict_with_its_row(call: Caller):
    call("POST", "/v1/runs/live/pause?wait=20")
    assert call("POST", "/v1/runs/live/continue?wait=20").status == 200
    document = problem(call("POST", "/v1/runs/live/continue?wait=20"), 409)
    assert document["detail"] == "the run is not paused"
    assert document["command"]["status"] == "refused"
    assert call("POST", "/v1/runs/live/pause?wait=20").status == 200


def test_a_command_that_is_not_waited_for_is_accepted(call: Caller, client: Client):
    reply = call("PUT", "/v1/runs/done/controls/learning_rate?wait=0", {"value": 0.002}, X_Client="script")
    assert reply.status == 202  # the run has finished: the change is taken when it resumes
    assert reply.json["status"] == "pending"
    assert call("GET", reply.headers["location"] + "?wait=0").json == reply.json
    assert client.call("outcome", name="done", command=reply.json["id"], wait=0)["author"] == "api:script"


def test_the_same_key_twice_is_one_command(call: Caller, service: Service):
    before = len(service.lab.reader("live").commands())
    key = str(uuid.uuid4())
    replies = [
        call("PUT", "/v1/runs/live/controls/clip_norm?wait=20", {"value": 2.5}, Idempotency_Key=key) for _ in range(3)
    ]
    assert {reply.status for reply in replies} == {200}
    assert len({reply.json["id"] for reply in replies}) == 1
    assert len(service.lab.reader("live").commands()) == before + 1
    other = call("PUT", "/v1/runs/live/controls/clip_norm", {"value": 3.5}, Idempotency_Key=key)
    assert problem(other, 422)["type"].endswith("key-reused")
    # Another client's key is another key.
    mine = call("PUT", "/v1/runs/live/controls/clip_norm?wait=20", {"value": 3.5}, Idempotency_Key=key, X_Client="b")
    assert mine.json["id"] != replies[0].json["id"]


def test_a_value_out_of_range_is_refused_with_the_range(call: Caller, service: Service):
    before = len(service.lab.reader("live").commands())
    document = problem(call("PUT", "/v1/runs/live/controls/learning_rate", {"value": 99}), 422)
    control = live_controls("phase_lm")["learning_rate"]
    assert "99" in document["detail"]
    assert control.range_text in document["detail"]
    assert (document["low"], document["high"]) == (control.low, control.high)
    assert document["remedy"] == f"Send {control.range_text}."
    assert len(service.lab.reader("live").commands()) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/v1/runs/nobody", None, 404, "there is no run 'nobody'"),
        ("GET", "/v1/runs/..%2F..", None, 404, "nothing at"),
        ("GET", "/v1/runs/%2e%2e", None, 404, "refused"),
        ("GET", "/v1/nothing", None, 404, "nothing at"),
        ("GET", "/v1/runs/", None, 404, "nothing at"),
        ("DELETE", "/v1/runs/done", None, 405, "it takes"),
        ("OPTIONS", "/v1/runs", None, 405, "it takes"),
        ("PUT", "/v1/runs/live/controls/learning_rat", {"value": 1}, 404, "did you mean 'learning_rate'"),
        ("PUT", "/v1/runs/live/controls/layers", {"value": 2}, 422, "cannot change while a run trains"),
        ("PUT", "/v1/runs/live/controls/learning_rate", {}, 422, "value is missing"),
        ("PUT", "/v1/runs/live/controls/learning_rate", {"valu": 1}, 422, "did you mean 'value'"),
        ("PUT", "/v1/runs/live/controls/learning_rate", [1], 422, "a JSON list"),
        ("PUT", "/v1/runs/live/controls/learning_rate", {"value": [1, 2]}, 422, "must be a number"),
        ("PUT", "/v1/runs/live/controls/learning_rate", b'{"value": NaN}', 400, "NaN"),
        ("PUT", "/v1/runs/live/controls/learning_rate", b'{"value": ', 400, "not JSON"),
        ("PUT", "/v1/runs/live/controls/learning_rate", b"\xff\xfe{", 400, "not JSON"),
        ("PUT", "/v1/runs/live/controls/learning_rate", b"[" * 100_000, 400, "not JSON"),
        ("PUT", "/v1/runs/live/controls/learning_rate", b'{"value": ' + b"9" * 6000 + b"}", 400, "not JSON"),
        ("POST", "/v1/runs/live/step", {"count": 0}, 422, "from 1 to 100000"),
        ("POST", "/v1/runs/live/step", {"count": 1.5}, 422, "a whole number"),
        ("POST", "/v1/runs/live/pause?wait=nan", None, 422, "wait"),
        ("POST", "/v1/runs/live/pause?wait=1&wait=2", None, 422, "2 times"),
        ("POST", "/v1/runs/done/pause", None, 409, "is not training"),
        ("POST", "/v1/runs/done/findings/none/mute", {}, 404, "has no finding"),
        ("GET", "/v1/runs/done/series?series=train/los", None, 404, "did you mean 'train/loss'"),
        ("GET", "/v1/runs/done/series?max_points=2", None, 422, "from 16 to"),
        ("GET", "/v1/runs/done/events?sinc=2", None, 422, "did you mean 'since'"),
        ("GET", "/v1/runs/done/commands/99999", None, 404, "no command 99999"),
        ("GET", "/v1/runs/done/commands/x", None, 422, "a whole number"),
        ("GET", "/v1/runs/done/generations/x", None, 404, "no generation 'x'"),
        ("POST", "/v1/runs", {"preset": "tin"}, 422, "did you mean 'tiny'"),
        ("POST", "/v1/runs", {"yaml": "model: ["}, 422, "not YAML"),
        ("POST", "/v1/runs", {"preset": "tiny", "config": {}}, 422, "three starting points"),
        ("POST", "/v1/runs", {"changes": {"learning_rate": 99}}, 422, "learning_rate = 99"),
        ("POST", "/v1/runs", {"run": "../x"}, 422, "contains '/'"),
        ("POST", "/v1/runs/live/samples", {"prompt": "a", "settings": {"temperatur": 1}}, 422, "'temperature'"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_problem_that_names_it(call: Caller, method: str, path: str, body: Any, status: int, words: str):
    document = problem(call(method, path, body), status)
    assert words in document["detail"]
    assert document["remedy"]


def test_a_405_names_the_methods(call: Caller):
    assert set(call("DELETE", "/v1/runs").headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_media_type_size_client_and_key_are_checked(call: Caller):
    path = "/v1/runs/live/controls/learning_rate"
    assert problem(call("PUT", path, b"value=1", Content_Type="text/plain"), 415)
    assert problem(call("PUT", path, b'{"value": "' + b"x" * LARGEST + b'"}'), 413)["limit"] == LARGEST
    assert problem(call("GET", "/v1/runs", X_Client="two words"), 422)
    assert problem(call("PUT", path, {"value": 1}, Idempotency_Key="k" * 201), 422)


def test_a_body_without_a_declared_length_is_limited_too(service: Service):
    head = (
        f"PUT /v1/runs/live/controls/learning_rate HTTP/1.1\r\nHost: {service.host}\r\n"
        f"Authorization: Bearer {service.token.value}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection((service.host, service.port), timeout=30) as wire:
        wire.sendall(head.encode() + chunk * (LARGEST // 0x10000 + 1) + b"0\r\n\r\n")
        assert b" 413 " in wire.recv(100)
    with socket.create_connection((service.host, service.port), timeout=30) as wire:
        wire.sendall(head.encode())
        with contextlib.suppress(ConnectionError):  # an endless one is hung up on
            for _ in range(10 * DRAINED // 0x10000):
                wire.sendall(chunk)
            raise AssertionError("the server reads without an end")


def test_what_is_no_http_gets_a_problem_and_is_hung_up_on(service: Service):
    with socket.create_connection((service.host, service.port), timeout=30) as wire:
        wire.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        found = b""
        while part := wire.recv(4096):
            found += part
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["type"].endswith("malformed-http")


def test_a_checkpoint_and_the_living_model_can_be_sampled(call: Caller, client: Client):
    made = client.call("sample", name="done", prompt="Once", settings={"max_tokens": 3, "temperature": 0.0})
    assert made["status"] == "done"
    assert client.call("generation", name="done", generation=made["generation"])["text"] == made["text"]
    key = str(uuid.uuid4())
    bodies = [
        call("POST", "/v1/runs/live/samples?wait=20", {"prompt": "Once"}, Idempotency_Key=key).json for _ in range(2)
    ]
    assert bodies[0]["generation"] == bodies[1]["generation"]
    assert bodies[0]["status"] == "applied"


def test_fifty_clients_at_once_lose_nothing(service: Service):
    """50 threads read, change and err at once: every change that was applied is in the log under its author."""
    wrong: list[object] = []
    start = threading.Barrier(50)

    def one(number: int) -> None:
        with Client(service.url, service.token.value, name=f"c{number}") as client:
            start.wait()
            try:
                client.call("run_state", name="live")
                value = 1.0 + number / 100
                row = client.call("set_control", name="live", control="clip_norm", value=value, wait=30)
                assert row["status"] == "applied", row
                with pytest.raises(RefusedError):
                    client.call("set_control", name="live", control="clip_norm", value=-1)
                client.call("series", name="done", series=["train/loss"])
            except (AssertionError, LabError) as error:
                wrong.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    reader = service.lab.reader("live")
    events = {event.command_id: event for event in reader.events() if event.kind == "control"}
    rows = [row for row in reader.commands("applied") if row.author.startswith("api:c") and row.kind == "set"]
    assert len(rows) >= 50
    for row in rows:
        if "already" not in row.message:
            assert events[row.id].author == row.author
            assert events[row.id].payload["new"] == row.payload["value"]
