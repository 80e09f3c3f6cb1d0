"""Run folders as a program without any trainer of ours writes them: through `qcore.store` alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from qcore.store import DATABASE_NAME, Event, Finding, Generation, RunWriter, Status

ODD = "val/<b>acc</b> @1 [%] $x$"


@contextlib.contextmanager
def foreign_run(runs: Path, name: str, config: str | None = None) -> Iterator[RunWriter]:
    """The writer of a new run; config: what its config.yaml holds, None for none."""
    folder = runs / name
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.yaml").write_text(config, "utf-8")
    with RunWriter(folder / DATABASE_NAME) as writer:
        yield writer


def scalars(writer: RunWriter) -> None:
    """Curves alone, one of them with gaps that are not finite."""
    for step in range(40):
        writer.log_scalars(step, {"loss": 3 - step / 20, "lr": 1e-3, "gap": float("nan") if step % 3 else 1.0})


def texts(writer: RunWriter) -> None:
    """Samples alone, without tokens, and one that broke."""
    for step in (1, 2, 3):
        writer.put_generation(
            Generation(f"g{step}", step, time.time(), "timeline", "Once a", text=f"cat *{step}*", status="done")
        )
    writer.put_generation(Generation("broken", 4, time.time(), "prompt", "", status="failed"))


def one_row(writer: RunWriter) -> None:
    """One number."""
    writer.log_scalars(7, {"x": 1.0})


def odd_names(writer: RunWriter) -> None:
    """Series that nobody has declared, with letters that mean something elsewhere."""
    for step in range(5):
        writer.log_scalars(step, {ODD: step / 5, "a" * 200: 1.0, "train/loss": float("inf"), "_": -1e300, "π/é": 0.0})


def nothing(writer: RunWriter) -> None:
    """An empty database."""
    del writer


def living(writer: RunWriter) -> None:
    """A run that its program writes now, without a lock."""
    scalars(writer)
    writer.set_status(Status("running", 39, 100, time.time(), 1, "elsewhere", "epoch 1"))


def gone(writer: RunWriter) -> None:
    """A run whose program has not been heard of for long."""
    scalars(writer)
    writer.set_status(Status("running", 39, 100, 1e9, 1, "elsewhere"))


def everything(writer: RunWriter) -> None:
    """Curves, pictures, samples, events, a finding with remedies, declared controls and series, references."""
    rng = np.random.default_rng(0)
    scalars(writer)
    kernels = np.tril(rng.random((2, 2, 6, 6))).astype(np.float16)
    for step in (10, 20):
        writer.log_arrays(step, "interference", {"kernels": kernels, "tokens": np.arange(6)})
        writer.log_arrays(
            step,
            "modules",
            {
                "parameters": np.array([10, 20]),
                "grad_norm": np.array([1.0, 2.0], np.float32),
                "dead_share": np.array([0.0, 0.5], np.float32),
                "update_ratio": np.array([1e-3, 1e-5], np.float32),
            },
        )
    token = {"label": "cat", "probability": 0.5, "rank": 1, "entropy": 0.3, "top": [["cat", 0.5]]}
    writer.put_generation(
        Generation(
            "g", 20, time.time(), "timeline", "Once", {"temperature": 1.0}, "cat", [token], {"distinct_1": 0.5}, "done"
        )
    )
    writer.add_event(Event(1, 5, time.time(), "me", "control", {"name": "kl_weight", "old": 0.1, "new": 0.2}))
    writer.add_event(Event(2, 6, time.time(), "me", "unfrozen", {"layers": 3}))
    remedies = [{"label": "lower learning_rate", "kind": "set", "changes": {"learning_rate": 1e-4}, "why": "less"}]
    writer.put_finding(
        Finding("own", "own_rule", 12, 20, "active", {}, "Something is *wrong*", "As its program says.", remedies)
    )
    writer.set_meta(
        "declared_controls", [{"name": "kl_weight", "value": 0.1, "low": 0.0, "high": 1.0, "help": "weight of the KL"}]
    )
    writer.set_meta("series:own/thing", {"name": "own/thing", "title": "own thing", "meaning": "A thing."})
    writer.log_scalars(30, {"own/thing": 4.0})
    writer.set_meta("references", {"unigram": 5.0})
    writer.set_status(Status("finished", 39, 40, time.time(), 1, "elsewhere"))


CONTENTS: tuple[Callable[[RunWriter], None], ...] = (
    scalars,
    texts,
    one_row,
    odd_names,
    nothing,
    living,
    gone,
    everything,
)
