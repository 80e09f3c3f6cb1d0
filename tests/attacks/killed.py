"""What test_kills.py kills: one act on a runs folder, in a process of its own. Not a test file.

    python killed.py RUNS

It reads acts as JSON lines, forks a child for each and answers with its process id; asked {"wait": pid}, with its end.
The parent imports torch once; every child is a fork of it, so that a kill costs no import.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from qcore.config import RunConfig
from qcore.lab import Lab
from qcore.lab.export import export_run, import_run
from tests.support.configs import small_config

import qcore.train.session  # isort: skip  # imported before the forks, so that no child pays for it

CONFIG = small_config(
    steps=40,
    documents=60,
    checkpoint_every=4,
    keep_checkpoints=2,
    eval_every=15,
    sample_every=15,
    dropout=0.1,
    budget_percent=0,
)
FORK_STEP, REWIND_STEP = 17, 9


def act(runs: Path, name: str, what: str, config: RunConfig = CONFIG) -> None:
    """Do it to the run of that name, and wait for its end."""
    with Lab(runs) as lab:
        match what:
            case "train":
                lab.start(config, name=name)
            case "resume":  # one that was killed before its first checkpoint, only from its start
                lab.resume(name, from_start=bool(lab.stranded_steps(name)))
            case "fork":
                lab.fork("twin", step=FORK_STEP, new_name=name)
            case "rewind":
                lab.rewind(name, REWIND_STEP, start=True)
            case "import":
                import_run(lab, runs.with_suffix(".zip"), name)
            case "export":
                export_run(lab, "twin", runs.with_suffix(".zip"), checkpoints="all")
            case "delete":
                lab.delete(name)
                return
        if what != "export":
            lab.wait(name, 300)


def child(runs: Path, request: dict[str, Any]) -> None:
    """The forked process's whole life."""
    code = 0
    try:
        time.sleep(request.get("after", 0.0))
        act(runs, request["name"], request["act"])
    except Exception:  # noqa: BLE001 - the process's outer edge: what went wrong is printed, and told by its exit code
        traceback.print_exc()
        code = 1
    os._exit(code)


def main() -> None:
    """Serve acts until the input ends."""
    runs = Path(sys.argv[1])
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                child(runs, request)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    assert qcore.train.session
    main()
