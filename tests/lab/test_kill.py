"""Nothing is lost: a run killed 20 times by SIGKILL opens, resumes, and ends equal to one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

from qcore.lab import Lab
from tests.support.killed_run import CONFIG

KILLS = 20
COMPARED = ("train/loss", "train/grad_norm", "train/lr", "eval/ce")


def test_killed_twenty_times_and_equal_to_an_undisturbed_run(tmp_path):
    script = Path(__file__).parents[1] / "support" / "killed_run.py"
    root = str(script.parents[2])
    found = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "killed"), str(KILLS)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,  # a busy machine is slow, not wrong
        check=True,
    )
    lives = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(lives) == KILLS + 1
    assert {life["check"] for life in lives[1:]} <= {"ok", "absent"}
    assert len({tuple(life["checkpoints"]) for life in lives}) > 3, "the kills came before anything was trained"

    with Lab(tmp_path / "killed") as killed, Lab(tmp_path / "whole") as whole:
        info = killed.info("run")
        assert (info.state, info.step) == ("finished", CONFIG.optim.steps)
        whole.start(CONFIG, name="run")
        assert whole.wait("run", 1200).state == "finished"
        expected, kept = (lab.reader("run").scalars_of(COMPARED) for lab in (whole, killed))
        for name in COMPARED:
            assert kept[name].steps.tolist() == expected[name].steps.tolist()
            assert kept[name].values.tolist() == expected[name].values.tolist()
        assert sum(event.kind == "resume" for event in killed.reader("run").events()) >= 5
