"""A run that is killed again and again: python killed_run.py RUNS_DIR KILLS. Not a test file; test_kill.py starts it.

Each life of the run is a forked child, so that torch is imported once. The parent kills it with SIGKILL at a random
instant, one time in four while it may still be starting, and looks at what is left; the last child may finish. Prints
one JSON line a life.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import torch

from qcore.lab import Lab
from qcore.store import RunReader, StoreFormatError
from tests.support.configs import small_config

import qcore.train.worker  # isort: skip  # imported before the fork, so that no child pays for it

CONFIG = small_config(
    steps=450,
    checkpoint_every=10,
    eval_every=25,
    sample_every=100,
    dropout=0.1,
    keep_checkpoints=3,
    budget_percent=5,
)


def life(runs: Path) -> None:
    """Start or resume the run and change a control once on the way."""
    lab = Lab(runs)
    if (runs / "run" / "run.sqlite").exists() and lab.reader("run").meta().get("kind"):
        if lab.info("run").state != "finished":
            lab.resume("run", from_start=bool(lab.stranded_steps("run")))
    else:
        lab.start(CONFIG, name="run")
    lab.wait("run")
    lab.close()


def wait_for_progress(runs: Path) -> None:
    """Until the run's status shows a step that this life has made, or its end."""
    database, deadline = runs / "run" / "run.sqlite", time.monotonic() + 30
    first = None
    while time.monotonic() < deadline:
        if database.exists():
            with contextlib.suppress(StoreFormatError, sqlite3.Error), RunReader(database) as reader:
                status = reader.status()
                if status is not None and status.state in ("running", "finished"):
                    first = status.step if first is None else first
                    if status.step > first or status.state == "finished":
                        return
        time.sleep(0.02)


def main() -> None:
    """Live, die, look; live to the end."""
    runs, kills = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    draw = random.Random(7)
    for number in range(kills + 1):
        child = os.fork()
        if child == 0:
            life(runs)
            os._exit(0)
        if number < kills:
            if number % 4:
                wait_for_progress(runs)
            time.sleep(draw.uniform(0.0, 0.15))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        path = runs / "run" / "run.sqlite"
        check = "absent"
        if path.exists():
            connection = sqlite3.connect(path)
            check = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.close()
        steps = sorted(folder.name for folder in (runs / "run").glob("step-*")) if (runs / "run").exists() else []
        sys.stdout.write(json.dumps({"check": check, "checkpoints": steps}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    assert qcore.train.worker
    main()
