"""How soon a command is applied: from the call to the trainer's answer, less nothing, beside the step time.

Control changes are sent at random instants to a run that trains in this process, and to one in another process. The
target is one step + 20 ms: a command is taken once, before a step. Risky changes write a checkpoint first and are
listed apart.
    python bench/latency.py [--preset tiny] [--commands 40]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from qcore.config import SetControl, Stop, preset
from qcore.lab import Lab


def measure(lab: Lab, name: str, control: str, values: list[float], commands: int) -> None:
    """Send changes and print the time from the call until the trainer resolved it, against the step time at that
    time.
    """
    draw, waits = random.Random(0), []
    for number in range(commands):
        time.sleep(draw.uniform(0.05, 0.3))
        sent = time.time()
        row = lab.outcome(name, lab.command(name, SetControl(control, values[number % len(values)])), timeout=30)
        assert row.status == "applied", row
        assert row.resolved is not None
        waits.append(1e3 * (row.resolved - sent))
    steps = lab.reader(name).scalars("train/step_ms").values[-200:]
    slow = sorted(steps)[int(0.95 * len(steps))]
    late = sum(wait > slow + 20 for wait in waits)
    print(
        f"{control:18} median {statistics.median(waits):6.1f} ms · worst {max(waits):6.1f} ms · "
        f"step median {statistics.median(steps):6.1f} ms, 95 % {slow:6.1f} ms · "
        f"over one step + 20 ms: {late} of {commands}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--commands", type=int, default=40)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    # Samples and evaluations between two steps would be counted as waiting: their cadence is set out of the way.
    values = {"steps": 10_000_000, "sample_every": 1_000_000, "eval_every": 1_000_000, "checkpoint_every": 1_000_000}
    config = preset(chosen.preset).config.with_values(values)
    with tempfile.TemporaryDirectory() as folder, Lab(folder) as lab:
        name = lab.start(config, name="here")
        while lab.info(name).step < 20:
            time.sleep(0.1)
        print("a run in this process")
        measure(lab, name, "diversity_weight", [0.1, 0.2], chosen.commands)
        measure(lab, name, "learning_rate", [1e-3, 2e-3], chosen.commands // 4)
        lab.command(name, Stop())
        lab.wait(name)
        (Path(folder) / "config.yaml").write_text(config.to_yaml())
        command = [sys.executable, "-m", "qcore", "train", "--config", f"{folder}/config.yaml", "--runs", folder]
        process = subprocess.Popen(
            [*command, "--name", "there", "--quiet"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        while not (Path(folder) / "there" / "run.sqlite").exists() or lab.info("there").step < 20:
            time.sleep(0.1)
        print("a run in another process")
        measure(lab, "there", "diversity_weight", [0.1, 0.2], chosen.commands)
        lab.command("there", Stop())
        process.wait()


if __name__ == "__main__":
    main()
