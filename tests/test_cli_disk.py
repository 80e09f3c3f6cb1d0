"""A disk that takes no more, as the command line meets it: the reason on stderr, exit code 1, and nothing lost.

The limit is the system's own on the size of a file (`ulimit -f`), which every account and every machine has.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.lab import Lab
from tests.support.configs import small_config
from tests.test_cli import ROOT, SETS

KILOBYTE = 1024
MUCH = ["--set", "checkpoint_every=5", "--set", "width=16", "--set", "tokens_every=1", "--set", "budget_percent=100"]


def train(runs: Path, *arguments: str, limits: dict[int, int]) -> subprocess.CompletedProcess[str]:
    """Run `qcore` in a process with limits."""

    def limited() -> None:
        for what, most in limits.items():
            resource.setrlimit(what, (most, most))

    command = [sys.executable, "-m", "qcore", *arguments, "--runs", str(runs), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, preexec_fn=limited, capture_output=True, text=True, timeout=300, check=False
    )


def options(steps: int) -> list[str]:
    """A small run that writes much."""
    values = dict(part.split("=", 1) for part in (*SETS[1::2], *MUCH[1::2]))
    return [*(part for pair in values.items() for part in ("--set", "=".join(pair))), "--steps", str(steps)]


def test_a_file_limit_at_the_start_leaves_no_run(tmp_path: Path) -> None:
    found = train(tmp_path, "train", *options(20), "--name", "a", limits={resource.RLIMIT_FSIZE: 100 * KILOBYTE})
    assert found.returncode == 1, found.stderr
    assert "disk" in found.stderr
    assert "Traceback" not in found.stderr
    assert ".starting" not in found.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != ".cache"] == []


def test_a_file_limit_while_training_is_said_and_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    limits = {resource.RLIMIT_FSIZE: 900 * KILOBYTE}
    found = train(tmp_path, "train", *options(160), "--name", "a", limits=limits)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "disk" in found.stderr or "larger than" in found.stderr
    assert "Traceback" not in found.stderr
    with Lab(tmp_path) as lab:
        info = lab.info("a")
        assert (info.state, info.cause) == ("failed", "disk"), info
        assert 0 < info.step < 160
        assert lab.checkpoints("a")
        lab.resume("a")
        assert lab.wait("a", 200).state == "finished"
        lab.start(lab.config("a"), name="twin")
        assert lab.wait("twin", 200).state == "finished"
        [one, other] = [lab.reader(name).scalars("train/loss") for name in ("a", "twin")]
        assert one.steps.tolist() == other.steps.tolist() == list(range(1, 161))
        assert one.values.tolist() == other.values.tolist()


@pytest.mark.parametrize("most", [12])
def test_too_few_descriptors_are_said_and_leave_no_ghost(tmp_path: Path, most: int) -> None:
    found = train(tmp_path, "train", *options(3), "--name", "a", limits={resource.RLIMIT_NOFILE: most})
    assert found.returncode in (0, 1, 2)
    assert ".starting" not in found.stderr
    if found.returncode:
        assert "open" in found.stderr or "files" in found.stderr
    with Lab(tmp_path) as lab:
        assert {info.state for info in lab.runs()} <= {"finished", "failed", "interrupted"}
        if not lab.runs():
            lab.start(small_config(steps=3), name="a")
        else:
            # it may have broken off after a step and before its first checkpoint
            lab.resume("a", steps=5, from_start=bool(lab.stranded_steps("a")))
        assert lab.wait("a", 100).state == "finished"
