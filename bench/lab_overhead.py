"""What the lab costs: the same training in a bare script and in the lab, A B A B A in one process; each stretch in the
lab is compared with the mean of the bare ones before and after it, so that a machine that slows down evenly does not
count.

The bare script does what any script does (`_bare.py`), with the lab's checkpoints and samples at the same cadence. The
lab adds its terms, finite check, telemetry, probes, commands, hashes and syncs. A second case leaves samples and
checkpoints out on both sides. With --watched, a real browser on the same machine has the control room open while the
lab trains: the app then trains in its own process and is steered from here. A ratio is the median of the pairs, with
its 95 % interval in brackets.
    python bench/lab_overhead.py [--watched] [--preset tiny|video-tiny] [--steps 100] [--pairs 5]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._bare import Train, bare_script
from qcore.config import Pause, RunConfig, Step, preset
from qcore.lab import Lab
from tests.browser.actions import start_from_yaml, wait_for_curve
from tests.browser.driver import chromium, running_app

ENDLESS = 10_000_000
NEVER = 1_000_000
PATIENCE_SECONDS = 600
SETTLED_MS = 8000
"""Loading a page is not watching it."""


def lab_steps(lab: Lab, name: str, steps: int, asleep: float = 0.0) -> float:
    """Seconds that a paused run needs for `steps` more steps, with all that belongs to them: from the end of the first
    to the end of the last of `steps` + 1, by the times at which it logged them. What a person's pause and command
    take is no part of it.

    asleep: seconds for which it is left alone before anyone looks: who asks every few milliseconds takes part of the
    interpreter that trains, and part of what is measured.
    """
    reader = lab.reader(name)
    first = lab.info(name).step + 1
    lab.command(name, Step(steps + 1))
    time.sleep(asleep)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        series = reader.scalars("train/loss", start=first)
        if len(series) > steps:
            return float(series.wall[steps] - series.wall[0])
        time.sleep(0.05)
    now = lab.info(name)
    raise RuntimeError(f"{name} is {now.state} at step {now.step}, after waiting for {first + steps}: {now.message}")


def timed(train: Train, steps: int) -> float:
    """Seconds that a bare script needs for so many steps."""
    started = time.perf_counter()
    train(steps)
    return time.perf_counter() - started


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Order statistics between which the median lies with about 95 %, whatever the distribution."""
    ordered, n = sorted(values), len(values)
    outside = max(0, int((n - 1.96 * n**0.5) / 2))
    return ordered[outside], ordered[n - 1 - outside]


@contextlib.contextmanager
def paused_run(folder: Path, config: RunConfig, *, watched: bool) -> Iterator[tuple[Lab, str, Page | None, str]]:
    """A run paused at its first step; watched: in the app's process, with a browser's page on the control room."""
    with contextlib.ExitStack() as stack:
        page, url = None, ""
        lab = stack.enter_context(Lab(folder))
        if watched:
            app = stack.enter_context(running_app(folder, folder / "app.log"))
            page = stack.enter_context(chromium()).new_page()
            url = app.url
            name = start_from_yaml(page, url, config.to_yaml(), lab)
        else:
            name = lab.start(config, name="bench")
        command = lab.command(name, Pause())
        lab.outcome(name, command, timeout=60)
        yield lab, name, page, url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--watched", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base = preset(chosen.preset).config.with_values({"steps": ENDLESS, "torch_threads": chosen.threads})
    cases = {"everything": base, "steps only": base.with_values({"sample_every": NEVER, "checkpoint_every": NEVER})}
    with tempfile.TemporaryDirectory() as folder:
        for title, config in cases.items():
            run_dir = Path(folder) / title.replace(" ", "-")
            run_dir.mkdir()
            train = bare_script(config, run_dir)
            with paused_run(run_dir, config, watched=chosen.watched) as (lab, name, page, url):
                train(10)
                a_step = lab_steps(lab, name, 10) / 10
                bare = [timed(train, chosen.steps)]
                ratios, seconds = [], []
                for _ in range(chosen.pairs):
                    if page:
                        page.goto(f"{url}/?run={name}")
                        wait_for_curve(page)
                        page.wait_for_timeout(SETTLED_MS)
                    spent = lab_steps(lab, name, chosen.steps, 0.7 * a_step * chosen.steps)
                    a_step = spent / chosen.steps
                    if page:
                        page.goto("about:blank")
                    bare.append(timed(train, chosen.steps))
                    ratios.append(statistics.mean(bare[-2:]) / spent)
                    seconds.append((spent, bare[-1]))
            in_lab, alone = (statistics.median(column) for column in zip(*seconds, strict=True))
            low, high = median_interval(ratios)
            print(
                f"{title:16} steps/s in the lab {chosen.steps / in_lab:6.2f} · bare {chosen.steps / alone:6.2f} · "
                f"ratio {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] ({min(ratios):.3f}–{max(ratios):.3f}, "
                f"{len(ratios)} pairs)"
                f"{' · watched by a browser' if chosen.watched else ''}"
            )


if __name__ == "__main__":
    main()
