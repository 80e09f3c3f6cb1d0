"""What watching a run costs: the same training with nothing, with all diagnostics at a budget, and beside trackers.

python bench/diagnostics.py [--budget 3] [--steps 200] [--rounds 3] [--peers]

One engine trains the default preset in blocks of steps, the arms in turn. On a shared machine two blocks of the very
same steps differ by more than 10 %, so an arm's cost is not taken as a difference of blocks: it is the CPU of the
process during the block, all threads, less that of the training thread inside the steps, over the latter. What a
tracker does inside a step (hooks of `wandb.watch`, which fire every 100 steps) is added: the slowest steps less the
median one, as many as there were firings. The plain arm shows what this way of measuring itself costs.
--peers adds, when they are installed: TensorBoard with histograms of all weights and gradients every 50 steps,
`wandb.watch(log="all")` offline at its default of every 100 steps, trackio scalars.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.automation.control_board import ControlBoard
from qcore.automation.events import EventLog
from qcore.config import preset
from qcore.runs.replay_plan import ReplayPlan
from qcore.store import RunWriter
from qcore.train.callback import LoopContext
from qcore.train.monitor import Monitor
from qcore.train.session import open_workload
from qcore.train.text_engine import Engine, StepResult

HISTOGRAM_EVERY = 50
WATCH_EVERY = 100
Log = Callable[[int, StepResult, float], None]


@contextlib.contextmanager
def plain(engine: Engine, folder: Path) -> Iterator[Log]:
    """Nothing is measured or written."""
    yield lambda step, result, seconds: None


def lab(monitor: Monitor, writer: RunWriter) -> Callable[[Engine, Path], contextlib.AbstractContextManager[Log]]:
    """Scalars of every step, all probes within the budget, detectors: what a run does. One monitor for all blocks."""

    @contextlib.contextmanager
    def arm(engine: Engine, folder: Path) -> Iterator[Log]:
        yield monitor.record
        writer.flush()

    return arm


def scalars(result: StepResult) -> dict[str, float]:
    """The same scalars for every tracker."""
    return {
        "train/loss": result.loss,
        "train/lr": result.learning_rate,
        "train/grad_norm": result.grad_norm,
        **{f"term/{name}": value for name, value in result.terms.items()},
    }


@contextlib.contextmanager
def tensorboard(engine: Engine, folder: Path) -> Iterator[Log]:
    """Scalars every step, histograms of weights and gradients every 50 steps."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(step: int, result: StepResult, seconds: float) -> None:
        for name, value in scalars(result).items():
            writer.add_scalar(name, value, step)
        if step % HISTOGRAM_EVERY == 0:
            for name, parameter in engine.model.named_parameters():
                writer.add_histogram(name, parameter.detach(), step)
                if parameter.grad is not None:
                    writer.add_histogram(f"{name}.grad", parameter.grad, step)

    yield log
    writer.close()


@contextlib.contextmanager
def wandb_watch(engine: Engine, folder: Path) -> Iterator[Log]:
    """Scalars every step, `watch(log="all")` at its default frequency, offline."""
    import wandb

    run = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(silent=True))
    run.watch(engine.model, log="all")
    yield lambda step, result, seconds: run.log(scalars(result))
    run.unwatch(engine.model)
    run.finish()


@contextlib.contextmanager
def trackio(engine: Engine, folder: Path) -> Iterator[Log]:
    """Scalars every step."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as tracker

    with contextlib.redirect_stdout(sys.stderr):
        tracker.init(project="bench", embed=False)
    yield lambda step, result, seconds: tracker.log(scalars(result))
    with contextlib.redirect_stdout(sys.stderr):
        tracker.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--peers", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    config = preset(chosen.preset).config.with_values({"steps": 10_000_000, "budget_percent": chosen.budget})
    board = ControlBoard(config)
    with tempfile.TemporaryDirectory() as scratch, RunWriter(Path(scratch) / "run.sqlite") as writer:
        workload = open_workload(config, Path(scratch))
        engine, step = workload.engine, 0
        for _ in range(20):
            step += 1
            engine.step(step, board)
        # There is no loop here: the monitor is told of each step by hand, and its hooks are not called.
        no_loop: Any = None
        context = LoopContext(Path(scratch), workload, writer, board, EventLog([], writer), ReplayPlan(), no_loop)
        monitor = Monitor(context)
        monitor.begin()
        arms: dict[str, Any] = {"plain": plain, f"diagnostics at {chosen.budget:g} %": lab(monitor, writer)}
        if chosen.peers:
            arms |= {"TensorBoard, histograms": tensorboard, "wandb.watch, offline": wandb_watch, "trackio": trackio}
        shares: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(chosen.rounds):
            for name, arm in list(arms.items()):
                folder = Path(scratch) / f"{turn}-{list(arms).index(name)}"
                folder.mkdir()
                try:
                    with arm(engine, folder) as log:
                        step, share = block(engine, board, log, step, chosen.steps, inside=arm is wandb_watch)
                        shares[name].append(share)
                except ImportError as error:
                    print(f"{name:26} not installed: {error}")
                    del arms[name]
    for name, found in shares.items():
        if found:
            print(
                f"{name:26} {100 * statistics.median(found):6.2f} % of the steps' CPU "
                f"({100 * min(found):.2f} … {100 * max(found):.2f}, {len(found)} blocks of {chosen.steps} steps)"
            )


def block(engine: Engine, board: ControlBoard, log: Log, step: int, count: int, *, inside: bool) -> tuple[int, float]:
    """Train `count` steps and log each; the last step, and the share of CPU that is not the steps' own."""
    inner = []
    began = time.process_time()
    for _ in range(count):
        step += 1
        started, before = time.perf_counter(), time.thread_time()
        result = engine.step(step, board)
        inner.append(time.thread_time() - before)
        log(step, result, time.perf_counter() - started)
    spent = time.process_time() - began
    typical = statistics.median(inner)
    hooks = sum(seconds - typical for seconds in sorted(inner)[-(count // WATCH_EVERY) :]) if inside else 0.0
    own = sum(inner) - hooks
    return step, (spent - own) / own


if __name__ == "__main__":
    main()
