"""How often each probe measures in a run at its budget, when, and what one of its measurements costs.

python bench/measurements.py [--preset tiny] [--steps 400] [--set budget_percent=2] [--cpu]

An ordinary run of the lab in a scratch folder. Printed for each built-in probe: whether it measured before the first
update and after the last one, how often in between, its steps, the median cost of one measurement, and at the end the
share of the steps' time that all measurements took. The last line is the smallest count.
--cpu: every duration is CPU time of the thread that trains, so that the table is that of a machine without other load.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import RunConfig, preset
from qcore.lab import Lab
from qcore.probes import catalog
from qcore.runs.replay_plan import recording_of

POLL_SECONDS = 0.5


def measure(config: RunConfig, folder: Path) -> int:
    """Train the run, print its table; the smallest count of measurements between the first and the last step."""
    with Lab(folder) as lab:
        name = lab.start(config)
        while lab.info(name).alive:
            time.sleep(POLL_SECONDS)
        info, reader = lab.info(name), lab.reader(name)
        recording = recording_of(reader, info.step)
        print(f"{name}: {info.state} at step {info.step}")
        fewest = info.step
        print(f"{'probe':14} first between last  ms      steps")
        for probe, steps in (recording.probes or {}).items():
            between = sorted(steps - {0, info.step})
            costs = reader.scalars(catalog.cost_ms(probe)).values
            cost = statistics.median(costs) if len(costs) else float("nan")
            shown = " ".join(map(str, between[:12])) + (" …" if len(between) > 12 else "")
            last = "yes" if info.step in steps else "no"
            first = "yes" if recording.began else "no"
            print(f"{probe:14} {first:5} {len(between):7} {last:5} {cost:6.1f}  {shown}")
            fewest = min(fewest, len(between))
        spent = reader.last(catalog.COST_SPENT_PERCENT)
        begun = reader.scalars(catalog.COST_BEFORE_TRAINING_MS).values
        step_ms = statistics.median(reader.scalars(catalog.TRAIN_STEP_MS).values)
        print(
            f"spent {spent[1] if spent else 0:.2f} % of the steps' time (budget "
            f"{config.value('budget_percent'):g} %), step {step_ms:.1f} ms, before training "
            f"{begun[0] if len(begun) else 0:.0f} ms; fewest between: {fewest}"
        )
    return fewest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=0, help="0: the preset's")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cpu", action="store_true")
    chosen = parser.parse_args()
    if chosen.cpu:
        time.perf_counter = time.thread_time
    changes = dict(item.split("=", 1) for item in chosen.set)
    if chosen.steps:
        changes["steps"] = chosen.steps
    with tempfile.TemporaryDirectory() as folder:
        measure(preset(chosen.preset).config.with_values(changes), Path(folder))


if __name__ == "__main__":
    main()
