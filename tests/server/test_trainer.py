"""The process that trains for the protocol: whatever one run does, the training of the others goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qcore.config import ConfigError
from qcore.lab import Lab, LabError, StoreBusyError
from qcore.server import trainer as module
from qcore.server.trainer import TrainerProcess
from tests.support.configs import eventually, small_config

ACTS: dict[str, dict[str, Any]] = {
    "resume": {},
    "resume with a change": {"changes": {"learning_rate": 0.002}},
    "fork": {"step": 5, "new_name": "child", "start": False},
    "rewind": {"step": 5},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A runs folder with a run that stopped half way, `other`, and a process that trains `long`."""
    with Lab(tmp_path) as lab:
        lab.start(small_config(), name="base")
        lab.wait("base", 60)
        lab.fork("base", step=5, new_name="other", start=False)
    return tmp_path


def act(process: TrainerProcess, name: str) -> None:
    getattr(process, name.split()[0])("other", **ACTS[name])


def test_a_locked_or_damaged_run_ends_no_others_training(folder: Path) -> None:
    process = TrainerProcess(folder, training=2)
    try:
        process.start(small_config(steps=1_000_000), name="long")
        child = process._process
        assert child is not None
        with Lab(folder) as lab:
            eventually(lambda: lab.info("long").state == "running", 60)
            locker = sqlite3.connect(folder / "other" / "run.sqlite", isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusyError, match="locked"):  # 503 at the protocol: worth another attempt
                act(process, "resume with a change")
            locker.execute("ROLLBACK")
            locker.close()
            raw = (folder / "other" / "run.sqlite").read_bytes()
            for damage in (raw[:4096] + os.urandom(len(raw) - 4096), raw[:2000], b"", b"junk" * 5000):
                (folder / "other" / "run.sqlite").write_bytes(damage)
                for name in ACTS:
                    with contextlib.suppress(LabError, ConfigError):
                        act(process, name)
                before = lab.info("long").step
                eventually(lambda before=before: lab.info("long").step > before, 60)
            (folder / "other" / "run.sqlite").unlink()
            for name in ACTS:
                with pytest.raises(LabError):
                    act(process, name)
            before = lab.info("long").step
            eventually(lambda: lab.info("long").step > before, 60)
            assert process._process is child
            assert child.poll() is None
            (folder / "other" / "run.sqlite").write_bytes(raw)
    finally:
        process.close()
    with Lab(folder) as lab:
        assert lab.info("long").state == "stopped"


class Failing:
    """A lab whose every act meets the same error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def resume(self, name: str, **settings: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database is locked"), "LabError"),
        (sqlite3.DatabaseError("database disk image is malformed"), "LabError"),
        (StoreBusyError("a is locked"), "StoreBusyError"),
        (ConfigError("steps = -1 is refused"), "ConfigError"),
        (OSError(28, "No space left on device", "/x"), "LabError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "LabError"),
        (RecursionError("maximum recursion depth exceeded"), "LabError"),
        (MemoryError(), "LabError"),
        (KeyError("created"), "LabError"),
        (RuntimeError("the writer is closed"), "LabError"),
    ],
)
def test_every_error_of_a_request_is_that_requests_refusal(error: Exception, kind: str) -> None:
    requests = io.StringIO('{"op": "resume", "name": "a"}\n' * 2)
    replies = io.StringIO()
    module._serve(Failing(error), requests, replies)  # type: ignore[arg-type]
    answers = [json.loads(line) for line in replies.getvalue().splitlines()]
    assert [answer["error"] for answer in answers] == [kind, kind]
    assert all(answer["message"] and "Errno" not in answer["message"] for answer in answers)


def test_requests_that_are_none_are_refused_and_the_next_is_served() -> None:
    requests = io.StringIO('junk\n[1]\n{}\n{"op": "delete"}\n{"op": "resume"}\n' + "[" * 100_000 + "\n")
    replies = io.StringIO()
    module._serve(Failing(LabError("refused")), requests, replies)  # type: ignore[arg-type]
    assert len(replies.getvalue().splitlines()) == 6


def test_a_process_that_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = TrainerProcess(tmp_path)
    process._command = [str(tmp_path / "no such python")]
    with pytest.raises(LabError, match="no such"):
        process.resume("a")
    process.close()
