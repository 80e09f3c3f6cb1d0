"""What the lab costs: the same training in a bare script and in the app's process, A B A B A; each stretch in the lab
is compared with the mean of the bare ones before and after it, so that a machine that slows down evenly does not count.

The bare script does what any script does (`_bare.py`), with the lab's checkpoints and samples at the same cadence. The
lab adds its terms, finite check, telemetry, probes, commands, hashes and syncs. A second case leaves samples and
checkpoints out on both sides. With --watched, a real browser on the same machine has the control room open while the
lab trains. Whoever does not train is frozen (SIGSTOP), the app and the browser, or the script: nothing of theirs runs
beside the other. Where a page watches, the lab trains for some seconds before a stretch is timed, so that the page has
taken note; else its stretches follow each other without a gap, so that rare and dear work, such as the probes of every
400th step, counts as often as it comes. Of short stretches with gaps, it falls into too many or too few.

Two processes that do the same differ by up to 4 % here, by where their memory happens to lie. So the app and the script
are started anew in each round. A ratio is that of all rounds' total times, with a 95 % bootstrap interval over rounds
and their pairs.
    python bench/lab_overhead.py [--watched] [--preset tiny|video-tiny] [--steps 140] [--rounds 6] [--pairs 6]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.app import cpu_seconds, drawing_seconds
from qcore.config import Pause, RunConfig, Step, preset
from qcore.lab import Lab
from tests.browser.actions import start_from_yaml, wait_for_curve
from tests.browser.driver import ROOT, chromium, running_app

ENDLESS = 10_000_000
NEVER = 1_000_000
PATIENCE_SECONDS = 600
SETTLED_SECONDS = 5.0
RESAMPLES = 5000

Pair = tuple[float, float]
"""Seconds that the same steps took in the bare script and in the lab."""


@dataclass(frozen=True)
class Script:
    """The bare script in a process of its own."""

    process: subprocess.Popen[str]

    def seconds(self, steps: int) -> float:
        """How long it takes for so many steps."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@dataclass(frozen=True)
class Subject:
    """A run paused in the app's process; app: that process · others: it, and all that belongs to the browser."""

    lab: Lab
    name: str
    app: int
    others: tuple[int, ...]

    def seconds(self, steps: int, settle: int, a_step: float) -> float:
        """How long it takes for so many steps, with all that belongs to them, by the times at which it logged them;
        `settle` more come before. a_step: about what one takes; nobody looks before they can be done.
        """
        first = self.lab.info(self.name).step + 1
        self.lab.command(self.name, Step(settle + steps + 1))
        time.sleep(0.95 * a_step * (settle + steps))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            series = self.lab.reader(self.name).scalars("train/loss", start=first)
            if len(series) > settle + steps:
                return float(series.wall[settle + steps] - series.wall[settle])
            time.sleep(0.2)
        now = self.lab.info(self.name)
        raise RuntimeError(f"{now.name} is {now.state} at step {now.step}, not {first + steps}: {now.message}")


@dataclass
class Load:
    """CPU seconds of the app and of the browser's drawing process, over so many seconds."""

    app: float = 0.0
    drawing: float = 0.0
    wall: float = 0.0

    @contextlib.contextmanager
    def of(self, subject: Subject) -> Iterator[None]:
        """Count what passes meanwhile."""
        app, drawing, started = cpu_seconds(subject.app), drawing_seconds(), time.perf_counter()
        yield
        self.app += cpu_seconds(subject.app) - app
        self.drawing += drawing_seconds() - drawing
        self.wall += time.perf_counter() - started


@dataclass
class Result:
    """Of one case. rounds: pairs of each."""

    rounds: list[list[Pair]] = field(default_factory=list)
    load: Load = field(default_factory=Load)

    def line(self, steps: int) -> str:
        """The figures in words."""
        pairs = [pair for one in self.rounds for pair in one]
        low, high = self._interval()
        bare, lab = (sum(column) for column in zip(*pairs, strict=True))
        of_rounds = " ".join(f"{_ratio(one):.3f}" for one in self.rounds)
        made = steps * len(pairs)
        return (
            f"steps/s in the lab {made / lab:6.2f} · bare {made / bare:6.2f} · ratio {bare / lab:.3f} "
            f"[{low:.3f}, {high:.3f}], {len(pairs)} pairs, by rounds {of_rounds} · the app took "
            f"{self.load.app / self.load.wall:.3f} of a core, the browser's drawing "
            f"{self.load.drawing / self.load.wall:.3f}"
        )

    def _interval(self) -> tuple[float, float]:
        draw = random.Random(0)
        found = sorted(
            _ratio(
                [
                    pair
                    for one in draw.choices(self.rounds, k=len(self.rounds))
                    for pair in draw.choices(one, k=len(one))
                ]
            )
            for _ in range(RESAMPLES)
        )
        return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]


def _ratio(pairs: Sequence[Pair]) -> float:
    return sum(bare for bare, _ in pairs) / sum(lab for _, lab in pairs)


def descendants(pid: int) -> tuple[int, ...]:
    """Processes that this one has started, and theirs."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return tuple(found)


@contextlib.contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Nothing of these processes runs meanwhile."""
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def bare(config: RunConfig, folder: Path) -> Iterator[Script]:
    """The bare script of a run, started."""
    (folder / "bare.yaml").write_text(config.to_yaml())
    command = [sys.executable, "-m", "bench._bare", str(folder / "bare.yaml"), str(folder)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Script(process)
        assert process.stdin
        process.stdin.close()


@contextlib.contextmanager
def paused_run(folder: Path, config: RunConfig, *, watched: bool) -> Iterator[Subject]:
    """A run paused in the app's process, with a browser's page on its control room, or none."""
    with contextlib.ExitStack() as stack:
        there = set(descendants(os.getpid()))
        lab = stack.enter_context(Lab(folder / "runs"))
        app = stack.enter_context(running_app(folder / "runs", folder / "app.log"))
        browser = stack.enter_context(chromium())
        page = browser.new_page()
        name = start_from_yaml(page, app.url, config.to_yaml(), lab)
        if watched:
            page.goto(f"{app.url}/?run={name}")
            wait_for_curve(page)
        else:
            browser.close()
        lab.outcome(name, lab.command(name, Pause()), timeout=60)
        others = tuple(pid for pid in descendants(os.getpid()) if pid not in there)
        yield Subject(lab, name, app.process.pid, others)


def one_round(config: RunConfig, folder: Path, result: Result, *, steps: int, pairs: int, watched: bool) -> None:
    """Add the pairs of an app and a script that are started for them."""
    with bare(config, folder) as script, paused_run(folder, config, watched=watched) as subject:
        with frozen([script.process.pid]):
            a_step = subject.seconds(10, 10, 0.05) / 10
        with frozen(subject.others):
            script.seconds(20)
            alone = script.seconds(steps)
        found: list[Pair] = []
        for _ in range(pairs):
            settle = math.ceil(SETTLED_SECONDS / a_step) if watched else 0
            with frozen([script.process.pid]), result.load.of(subject):
                spent = subject.seconds(steps, settle, a_step)
            a_step = spent / steps
            with frozen(subject.others):
                before, alone = alone, script.seconds(steps)
            found.append((statistics.mean((before, alone)), spent))
        result.rounds.append(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--case", choices=("everything", "steps only"), help="only this one")
    parser.add_argument("--steps", type=int, default=140)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=6, help="in each round")
    parser.add_argument("--watched", action="store_true")
    chosen = parser.parse_args()
    base = preset(chosen.preset).config.with_values({"steps": ENDLESS, "torch_threads": 1})
    cases = {"everything": base, "steps only": base.with_values({"sample_every": NEVER, "checkpoint_every": NEVER})}
    for title, config in cases.items():
        if chosen.case not in (None, title):
            continue
        result = Result()
        for _ in range(chosen.rounds):
            with tempfile.TemporaryDirectory() as folder:
                one_round(config, Path(folder), result, steps=chosen.steps, pairs=chosen.pairs, watched=chosen.watched)
        print(f"{title:10} {'watched' if chosen.watched else ''} {result.line(chosen.steps)}", flush=True)


if __name__ == "__main__":
    main()
