"""The server's life, runs that it starts in its training process, and `qcore serve` from the outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import cli
from qcore.config import ConfigError, RunConfig
from qcore.lab import Lab, LabError
from qcore.server.client import Client, RefusedError
from qcore.server.service import Service
from qcore.server.token import TOKEN_FILE
from qcore.server.trainer import TrainerProcess
from tests.server.conftest import ENDLESS, TINY, Caller
from tests.support.configs import eventually

ROOT = Path(__file__).resolve().parents[2]


def test_close_joins_the_thread_frees_the_port_and_may_be_called_twice(tmp_path: Path):
    service = Service(tmp_path, port=0)
    service.start()
    assert [thread.name for thread in threading.enumerate()].count("qcore-server") == 1
    service.close()
    service.close()
    assert not service.alive
    assert "qcore-server" not in [thread.name for thread in threading.enumerate()]
    with Service(tmp_path, port=service.port) as again:
        assert again.port == service.port


def test_a_server_that_was_never_started_can_be_closed(tmp_path: Path):
    Service(tmp_path, port=0).close()


def test_a_taken_port_is_named(tmp_path: Path):
    with Service(tmp_path, port=0) as first, pytest.raises(ConfigError, match=f"{first.port} cannot be served"):
        Service(tmp_path, port=first.port)


def test_an_unforeseen_error_is_a_problem_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Lab) -> None:
        raise RuntimeError("secret detail")

    with Service(tmp_path, port=0) as service:
        monkeypatch.setattr(Lab, "runs", broken)
        reply = Caller(service)("GET", "/v1/runs")
        assert reply.status == 500
        assert reply.headers["content-type"] == "application/problem+json"
        assert "secret" not in reply.body.decode()


def test_a_client_is_told_when_nobody_answers(tmp_path: Path):
    with Service(tmp_path, port=0) as service:
        url = service.url
    with pytest.raises(LabError, match="qcore serve"):
        Client(url, "x").call("list_runs")
    with pytest.raises(ConfigError, match="no address"):
        Client("ftp://x", "x")


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that trains what is started over it."""
    with Service(tmp_path_factory.mktemp("starting"), port=0) as service:
        yield service


def test_a_run_is_started_watched_stopped_and_resumed(starting: Service):
    with Client(starting.url, starting.token.value, name="starter") as client:
        config = ENDLESS.model_dump()
        started = client.call("start", config=config, run="mine", changes={"learning_rate": 0.004})
        assert started["name"] == "mine"
        eventually(lambda: client.call("run_state", name="mine")["step"] >= 2, 60)
        assert starting.lab.config("mine") == ENDLESS.with_values({"learning_rate": 0.004})
        assert not starting.lab.info("mine").here  # not in this process
        assert client.call("events", name="mine")["events"][0]["author"] == "api:starter"
        with pytest.raises(RefusedError, match="is taken") as refused:
            client.call("start", run="mine")
        assert refused.value.status == 409
        with pytest.raises(RefusedError, match="nothing to resume"):
            client.call("resume", name="mine")
        assert client.call("stop", name="mine", wait=20)["status"] == "applied"
        eventually(lambda: client.call("run_state", name="mine")["state"] == "stopped")
        step = client.call("run_state", name="mine")["step"]
        client.call("resume", name="mine", steps=step + 3)
        eventually(lambda: client.call("run_state", name="mine")["state"] == "finished")
        assert client.call("run_state", name="mine")["step"] == step + 3
        for saved in starting.lab.checkpoints("mine"):
            shutil.rmtree(saved.path)
        with pytest.raises(RefusedError, match="has no checkpoint that can be read"):
            client.call("resume", name="mine", steps=step + 4)
        client.call("resume", name="mine", steps=step + 4, from_start=True)
        eventually(lambda: client.call("run_state", name="mine")["step"] == step + 4)
        author = [
            event["author"] for event in client.call("events", name="mine")["events"] if event["kind"] == "resume"
        ]
        assert author == 2 * ["api:starter"]


def test_a_start_sent_twice_with_one_key_is_one_run(starting: Service):
    caller, key = Caller(starting), str(uuid.uuid4())
    replies: list[object] = []
    body = {"yaml": TINY.to_yaml()}

    def send() -> None:
        replies.append(caller("POST", "/v1/runs", body, Idempotency_Key=key))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} == {201}  # type: ignore[attr-defined]
    assert len({reply.json["name"] for reply in replies}) == 1  # type: ignore[attr-defined]
    assert caller("POST", "/v1/runs", {"preset": "tiny"}, Idempotency_Key=key).status == 422


def test_a_fork_begins_where_its_parent_was(starting: Service):
    with Client(starting.url, starting.token.value, name="forker") as client:
        client.call("start", config=TINY.model_dump(), run="parent")
        eventually(lambda: client.call("run_state", name="parent")["state"] == "finished", 60)
        step = client.call("checkpoints", name="parent")["checkpoints"][-1]["step"]
        forked = client.call(
            "fork", name="parent", step=step, changes={"clip_norm": 2.0}, new_name="branch", start=False
        )
        assert forked["name"] == "branch"
        assert starting.lab.controls("branch")["clip_norm"].value == 2.0
        assert "api:forker" in [event["author"] for event in client.call("events", name="branch")["events"]]
        with pytest.raises(RefusedError) as refused:
            client.call("fork", name="parent", step=step, changes={"clip_norm": -1})
        assert refused.value.status == 422


def test_a_run_is_rewound_and_its_weights_are_put_back_and_grown(starting: Service):
    with Client(starting.url, starting.token.value, name="winder") as client:
        client.call("start", config=ENDLESS.with_values({"checkpoint_every": 2}).model_dump(), run="wound")
        eventually(lambda: client.call("run_state", name="wound")["step"] >= 5, 60)
        client.call("pause", name="wound", wait=20)
        step = client.call("run_state", name="wound")["step"]
        client.call("set_control", name="wound", control="clip_norm", value=2.0, wait=20)
        assert client.call("restore", name="wound", before=step, wait=20)["status"] == "applied"
        assert client.call("grow", name="wound", changes={"layers": 3}, wait=20)["status"] == "applied"
        with pytest.raises(RefusedError, match="layers"):
            client.call("grow", name="wound", changes={"layers": 1}, wait=20)
        found = client.call("rewind", name="wound", step=3, start=False)
        assert found["step"] == 3
        assert found["state"] == "stopped"
        kinds = {event["kind"]: event["author"] for event in client.call("events", name=found["branch"])["events"]}
        assert kinds["restore"] == kinds["grow"] == "api:winder"
        assert [event["author"] for event in client.call("events", name="wound")["events"]][-1] == "api:winder"
        assert starting.lab.controls("wound")["clip_norm"].value == ENDLESS.optim.clip_norm
        with pytest.raises(RefusedError) as refused:
            client.call("rewind", name="wound", step=9_999_999)
        assert refused.value.status in (409, 422)


def test_the_end_of_the_server_stops_its_runs_with_a_checkpoint(tmp_path: Path):
    with Service(tmp_path, port=0) as service, Client(service.url, service.token.value) as client:
        client.call("start", config=ENDLESS.model_dump(), run="r")
        eventually(lambda: client.call("run_state", name="r")["step"] >= 2, 60)
    with Lab(tmp_path) as lab:
        info = lab.info("r")
        assert info.state == "stopped"
        assert lab.checkpoints("r")[-1].step == info.step


def test_a_training_process_that_was_killed_is_started_anew(tmp_path: Path):
    trainer = TrainerProcess(tmp_path)
    try:
        with pytest.raises(ConfigError):  # a bad value comes back as what it is
            trainer.start(RunConfig.model_construct(**{**dict(TINY), "seed": -1}), name="bad")
        trainer._process.kill()  # type: ignore[union-attr]
        trainer._process.wait()  # type: ignore[union-attr]
        with pytest.raises(LabError, match="there is no run"):
            trainer.resume("nobody")
    finally:
        trainer.close()
    with pytest.raises(LabError, match="stopping"):
        trainer.resume("nobody")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals):
    command = [sys.executable, "-m", "qcore", "serve", str(tmp_path), "--port", "0", "--json"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        lines = ""
        while not lines.endswith("}\n"):
            lines += child.stdout.readline()
        told = json.loads(lines)
        value = (tmp_path / TOKEN_FILE).read_text().strip()
        with Client(told["url"], value) as client:
            assert client.call("list_runs") == {"runs": []}
        child.send_signal(number)
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, errors
    assert errors.count(value) == 1  # shown once, when it was made
    assert "Traceback" not in errors


def test_a_second_serve_does_not_show_the_token_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with Service(tmp_path, port=0) as service:
        assert cli.main(["serve", str(tmp_path), "--port", str(service.port)]) == 2
        shown = capsys.readouterr()
        assert service.token.value not in shown.out + shown.err
        assert "--port" in shown.err
    (tmp_path / TOKEN_FILE).chmod(0o644)
    assert cli.main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_mcp_without_a_token_file_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.environ.pop("QCORE_TOKEN", None)
    assert cli.main(["mcp", "--runs", str(tmp_path)]) == 2
    assert "qcore serve" in capsys.readouterr().err


def test_the_secret_of_the_environment_is_the_protocol_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QCORE_TOKEN", "short")
    assert cli.main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert not (tmp_path / TOKEN_FILE).exists()
    assert cli.main(["mcp", "--runs", str(tmp_path)]) == 2


def test_a_token_is_no_argument(capsys: pytest.CaptureFixture[str]):
    """Every account of a machine can read the arguments of its processes."""
    assert cli.main(["mcp", "--token", "a-secret-of-more-than-twenty-letters"]) == 2
    assert "--token" in capsys.readouterr().err
