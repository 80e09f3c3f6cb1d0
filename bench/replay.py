"""Replay and unchanged fork of every model family: differing values over 300 steps, and how soon a fork is ready.

A run is trained with a change of a control on the way, replayed from configuration, seed and events, and forked without
a change at a checkpoint and between two of them; every series that no clock decides is compared bit for bit. The fork
of the default preset is timed from the call to its first update, in a process that has trained before.

    python -m bench.replay [--steps 300] [--only transformer] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from qcore.base.run_states import RunState
from qcore.config import LANGUAGE_KINDS, default_run, preset
from qcore.lab import Lab
from qcore.runs.replay_plan import is_wall_clock

FAMILIES = (*LANGUAGE_KINDS, "video_flow")
TEXT = {"width": 32, "layers": 2, "documents": 300, "context": 64, "dropout": 0.1, "sample_length": 20}
VIDEO = {"width": 32, "layers": 2, "clips": 128, "frames": 4, "batch_size": 8, "measured_clips": 16, "dropout": 0.0}
READY_FORKS = 5


def settings(kind: str, steps: int) -> dict[str, Any]:
    """A small run of a family; what the family does not have is left out."""
    base = default_run(kind)
    wanted = {**(VIDEO if kind == "video_flow" else TEXT), "steps": steps, "sample_every": 100, "checkpoint_every": 50}
    names = {name for section in base.model_dump().values() if isinstance(section, dict) for name in section}
    schedule = [f"{steps // 3}: learning_rate = 0.001", f"{steps // 2}: clip_norm = 0.5"]
    return {"kind": kind, "schedule": schedule, **{name: value for name, value in wanted.items() if name in names}}


def differing(lab: Lab, parent: str, child: str, after: int) -> tuple[int, int]:
    """Values that differ after a step, and values compared: at steps where both runs have the series."""
    ours, theirs = lab.reader(parent), lab.reader(child)
    wrong = total = 0
    for name in sorted(set(ours.names()) | set(theirs.names())):
        if is_wall_clock(name):
            continue
        mine, other = (reader.scalars(name, start=after + 1) for reader in (ours, theirs))
        there = dict(zip(other.steps.tolist(), other.values, strict=True))
        for step, value in zip(mine.steps.tolist(), mine.values, strict=True):
            if step in there:
                total += 1
                wrong += value.tobytes() != there[step].tobytes()
    return wrong, total


def family(lab: Lab, kind: str, steps: int) -> dict[str, Any]:
    """One family's row."""
    started = time.perf_counter()
    parent = lab.start(default_run().with_values(settings(kind, steps)), name=kind)
    info = lab.wait(parent)
    if info.state != RunState.FINISHED:
        return {"family": kind, "state": info.state, "message": info.message}
    replayed = lab.replay(parent)
    row: dict[str, Any] = {
        "family": kind,
        "steps": steps,
        "replay_differing": replayed.differing,
        "replay_values": replayed.values,
        "replay_samples": replayed.samples,
    }
    for name, step in (("checkpoint", max(50, steps // 150 * 50)), ("between", steps // 2 - 7)):
        child = lab.fork(parent, step=step, new_name=f"{kind}-{name}")
        lab.wait(child)
        row[f"fork_{name}_differing"], row[f"fork_{name}_values"] = differing(lab, parent, child, step)
    return row | {"seconds": time.perf_counter() - started}


def ready(lab: Lab) -> list[float]:
    """Seconds from `fork` to the fork's first update, for the default preset."""
    config = preset("tiny").config.with_values({"checkpoint_every": 5})
    parent = lab.start(config, name="default")
    while not lab.checkpoints(parent):
        time.sleep(0.05)
    lab.rewind(parent, lab.checkpoints(parent)[0].step, start=False)
    found = []
    for _ in range(READY_FORKS):
        started = time.perf_counter()
        child = lab.fork(parent, step=5, until=6)
        while not (last := lab.reader(child).last("train/loss")) or last[0] < 6:
            time.sleep(0.005)
        found.append(time.perf_counter() - started)
        lab.wait(child)
        lab.delete(child)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", choices=FAMILIES, action="append")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qcore-replay-") as folder, Lab(Path(folder)) as lab:
        rows = [family(lab, kind, given.steps) for kind in given.only or FAMILIES]
        seconds = ready(lab)
    if given.json:
        print(json.dumps({"families": rows, "fork_ready_s": seconds}, indent=1))
        return
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    print(f"fork ready: median {statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s of {len(seconds)}")


if __name__ == "__main__":
    main()
