"""Kill any process at any instant: the database is whole, no state is untrue, no name is taken, no bit is lost.

    python -m pytest tests/attacks/test_kills.py                          a kill of each kind
    QCORE_ATTACKS=100 QCORE_SEED=5 python -m pytest tests/attacks/test_kills.py      at least a hundred, of another seed

Each kill ends a process that starts, trains, resumes, forks, rewinds, imports, exports or deletes a run, at a random
instant or at a random step of it. What is left is looked at, brought to its end, and compared with an undisturbed twin.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore.lab import Lab
from qcore.runs.checkpoint_folders import checkpoint_folders
from tests.attacks.killed import FORK_STEP, REWIND_STEP

KINDS = ("train", "train late", "resume", "fork", "rewind", "import", "export", "delete")
SHARES = {"train": 3, "train late": 4, "resume": 3, "fork": 3, "rewind": 2, "import": 2, "export": 1, "delete": 1}
SEED = int(os.environ.get("QCORE_SEED", "20"))
SCALE = float(os.environ.get("QCORE_ATTACKS", "0"))
ROOT = Path(__file__).resolve().parents[2]
COMPARED = ("train/loss", "train/grad_norm", "eval/ce")


def kills_of(kind: str) -> int:
    """One of each kind; a share of the scale when one is given."""
    return max(1, math.ceil(SCALE * SHARES[kind] / sum(SHARES.values())))


class Killer:
    """A process that forks what is to be killed, and the runs folder that it works in."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.seconds = 1.0
        command = [sys.executable, "-m", "tests.attacks.killed", str(runs)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, act: str, name: str, after: float = 0.0) -> int:
        """Fork a process that does it; its id."""
        return int(self._ask({"act": act, "name": name, "after": after})["pid"])

    def kill(self, pid: int) -> None:
        """End it, as a power cut would."""
        os.kill(pid, signal.SIGKILL)
        self._ask({"wait": pid})

    def do(self, act: str, name: str) -> None:
        """The same, undisturbed."""
        assert self._ask({"wait": self.begin(act, name)}) == {"code": 0}, (act, name)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """A folder with an undisturbed run, `twin`, and a file of it."""
    runs = tmp_path_factory.mktemp("kills") / "runs"
    found = Killer(runs)
    try:
        found.do("train", "warm")  # what is made once of the data is made
        began = time.monotonic()
        found.do("train", "twin")
        found.seconds = time.monotonic() - began
        found.do("export", "twin")
        yield found
    finally:
        found.close()


def outcome(runs: Path, name: str, first: int = 1) -> dict[str, Any]:
    """Every value from a step on and the last weights and moments, for comparison."""
    with Lab(runs) as lab:
        found = lab.reader(name).scalars_of(COMPARED)
        last = checkpoint_folders(runs / name)[-1]
        files = {file: hashlib.sha256((last / file).read_bytes()).hexdigest() for file in _WEIGHTS}
        values = {
            key: [
                (step, value.hex())
                for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True)
                if step >= first
            ]
            for key, series in found.items()
        }
        return {"folder": last.name, **files, **values}


_WEIGHTS = ("model.safetensors", "optimizer.safetensors")


def check_left(runs: Path, name: str) -> bool:
    """Check what a kill left, and tell whether there is a run of the name. Its database is whole, and its state none of
    a living run's."""
    with Lab(runs) as lab:  # which sweeps
        hidden = [path.name for path in runs.iterdir() if path.name.startswith(".") and path.name != ".cache"]
        assert hidden == []
        listed = {info.name: info for info in lab.runs()}
        assert "unreadable" not in {info.state for info in listed.values()}
        folder = runs / name
        if not folder.exists():
            assert name not in listed
            return False
        assert name in listed, f"a ghost: {sorted(path.name for path in folder.iterdir())}"
        info = listed[name]
        assert info.state in ("finished", "stopped", "interrupted"), info
        assert not info.alive
        if info.state == "interrupted":
            assert info.cause == "process ended"
    connection = sqlite3.connect(folder / "run.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return True


def finish(killer: Killer, name: str) -> None:
    """Bring what was killed to its end."""
    with Lab(killer.runs) as lab:
        state = lab.info(name).state
    if state != "finished":
        killer.do("resume", name)
    with Lab(killer.runs) as lab:
        info = lab.info(name)
        assert (info.state, info.step) == ("finished", 40), info
    left = [path for path in (killer.runs / name).iterdir() if path.name.startswith(".")]
    assert left == []


def wait_for_step(runs: Path, name: str, goal: int) -> None:
    """Until the run's status or checkpoints say that it has come so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            connection = sqlite3.connect(f"file:{runs / name / 'run.sqlite'}?mode=ro", uri=True)
            row = connection.execute("SELECT step, state FROM status").fetchone()
            connection.close()
            if row is not None and (row[0] >= goal or row[1] == "finished"):
                return
        except sqlite3.Error:
            pass
        if any(int(path.name[5:]) >= goal for path in (runs / name).glob("step-*")):
            return
        time.sleep(0.004)


def instant(draw: random.Random, most: float) -> None:
    """Wait: half of the kills come early, where folders and databases are made."""
    time.sleep(draw.uniform(0.0, most) * draw.choice((0.1, 1.0)))


@pytest.mark.parametrize(("kind", "number"), [(kind, n) for kind in KINDS for n in range(kills_of(kind))])
def test_a_kill_loses_nothing(killer: Killer, kind: str, number: int) -> None:
    draw = random.Random(f"{SEED} {kind} {number}")
    runs, name, act = killer.runs, f"{kind.replace(' ', '-')}-{number}", kind.split()[0]
    before = {path.name for path in runs.iterdir()} if runs.exists() else set()
    if act in ("rewind", "delete"):
        killer.do("train", name)
    pid = killer.begin("train" if act == "resume" else act, name)
    if kind == "train late":
        wait_for_step(runs, name, draw.randint(1, 38))
        time.sleep(draw.uniform(0.0, 0.1))
    elif act == "resume":
        wait_for_step(runs, name, draw.randint(1, 12))
    else:
        instant(draw, killer.seconds * (1.0 if act in ("train", "fork") else 0.4))
    killer.kill(pid)
    there = check_left(runs, name)
    if act == "resume":
        for _ in range(2):
            pid = killer.begin("resume", name)
            instant(draw, killer.seconds * 0.5)
            killer.kill(pid)
            assert check_left(runs, name)
    if act == "delete":
        if there:  # it came too early
            finish(killer, name)
            killer.do("delete", name)
        assert not (runs / name).exists()
        return
    if act == "export":
        killer.do("export", "twin")
        assert [path.name for path in runs.parent.iterdir() if path.name.startswith(".exporting")] == []
        return
    if not there:  # nothing is left, and the name is free
        killer.do(act if act != "resume" else "train", name)
    finish(killer, name)
    first = FORK_STEP + 1 if act == "fork" else 1
    assert outcome(runs, name, first) == outcome(runs, "twin", first)
    if act == "rewind":
        branches = {path.name for path in runs.iterdir()} - before - {name}
        for branch in branches:  # what was abandoned is kept whole
            with Lab(runs) as lab:
                assert lab.reader(branch).scalars("train/loss").steps.tolist() == list(range(1, 41))
        assert len(branches) <= 1
        assert REWIND_STEP < 40
    shutil.rmtree(runs / name)
