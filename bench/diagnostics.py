"""What watching a run costs: the same training with nothing, with all diagnostics at a budget, and beside trackers.

python bench/diagnostics.py [--budget 3] [--steps 200] [--rounds 3] [--peers]

One engine trains the default preset; blocks of steps alternate between the arms, so that drift of the machine meets all
alike. CPU is that of the whole process, writer threads included; an arm's share is its CPU a step over that of plain
steps of the same round, minus one. --peers adds, when they are installed: TensorBoard with histograms of all weights
and gradients every 50 steps, `wandb.watch(log="all")` offline at its default of every 100 steps, trackio scalars.
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

from qcore.config import preset
from qcore.data import open_dataset
from qcore.store import RunWriter
from qcore.train.board import ControlBoard
from qcore.train.engine import Engine, StepResult
from qcore.train.monitor import Monitor

HISTOGRAM_EVERY = 50
Log = Callable[[int, StepResult, float], None]


@contextlib.contextmanager
def plain(engine: Engine, folder: Path) -> Iterator[Log]:
    """Nothing is measured or written."""
    yield lambda step, result, seconds: None


def lab(board: ControlBoard) -> Callable[[Engine, Path], contextlib.AbstractContextManager[Log]]:
    """Scalars of every step, all probes within the budget, detectors: what a run does. One monitor for all blocks."""
    kept: list[Monitor] = []

    @contextlib.contextmanager
    def arm(engine: Engine, folder: Path) -> Iterator[Log]:
        with RunWriter(folder / "run.sqlite") as writer:
            if not kept:
                kept.append(Monitor(engine, writer, board))
                kept[0].begin()
            kept[0]._writer = kept[0]._instruments._writer = kept[0].detectors._writer = writer
            yield lambda step, result, seconds: kept[0].record(step, result, seconds)

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
    engine = Engine(config, open_dataset(config.data, config.model.context, None))
    board = ControlBoard(config)
    arms: dict[str, Any] = {"plain": plain, f"diagnostics at {chosen.budget:g} %": lab(board)}
    if chosen.peers:
        arms |= {"TensorBoard, histograms": tensorboard, "wandb.watch, offline": wandb_watch, "trackio": trackio}
    step = 0
    for _ in range(20):
        step += 1
        engine.step(step, board)
    spent: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(chosen.rounds):
            for name, arm in list(arms.items()):
                folder = Path(scratch) / f"{turn}-{len(spent[name])}-{list(arms).index(name)}"
                folder.mkdir()
                try:
                    with arm(engine, folder) as log:
                        began = time.process_time()
                        for _ in range(chosen.steps):
                            step += 1
                            started = time.perf_counter()
                            result = engine.step(step, board)
                            log(step, result, time.perf_counter() - started)
                        spent[name].append((time.process_time() - began) / chosen.steps)
                except ImportError as error:
                    print(f"{name:26} not installed: {error}")
                    del arms[name]
    base = spent["plain"]
    for name, seconds in spent.items():
        if seconds:
            shares = [100 * (mine / bare - 1) for mine, bare in zip(seconds, base, strict=True)]
            print(
                f"{name:26} {1e3 * statistics.median(seconds):7.2f} ms CPU a step · "
                f"{statistics.median(shares):+6.2f} % ({min(shares):+.2f} … {max(shares):+.2f}, {len(shares)} rounds)"
            )


if __name__ == "__main__":
    main()
