"""The states that a run goes back to: its newest good checkpoint at a resume, and the one from before a trouble.

A checkpoint may be whole by its hashes and still hold what this run cannot use, as it may come from elsewhere. Whatever
is wrong with one is a `CheckpointError`, and the next older one is tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qcore.config import ConfigError, live_controls
from qcore.runs.checkpoint_folders import CheckpointError, checkpoint_folders, read_state, refusal
from qcore.store import Event
from qcore.store.shapes import integer, positive, record
from qcore.train.checkpoint import Checkpoint, check_fits, load_checkpoint
from qcore.train.engine import BaseEngine

RECENT = 200
"""How many steps before a trouble a risky change is taken for its cause."""
_UNUSABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What decoding raises when a value is not what it should be."""
_SCALER = record(
    {"scale": positive, "growth_factor": positive, "backoff_factor": positive, "growth_interval": integer}
    | {"_growth_tracker": integer}
)


@contextlib.contextmanager
def decoding(folder: Path, part: str) -> Iterator[None]:
    """Turn whatever goes wrong with a part of a checkpoint within into `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except _UNUSABLE as error:
        raise refusal(folder, f"{part} in it cannot be used ({str(error) or type(error).__name__})") from error


def restore_scaler(engine: BaseEngine, state: Mapping[str, Any], folder: Path) -> None:
    """Take the loss scale of a checkpoint, where both have one: fp16 on a CPU has none. Raises `CheckpointError`."""
    if engine.scaler.is_enabled() and state:
        with decoding(folder, "scaler"):
            _SCALER(state, "scaler")
            engine.scaler.load_state_dict(dict(state))


def newest_good(
    run_dir: Path, take: Callable[[Checkpoint], None], refused: Callable[[CheckpointError], None]
) -> Checkpoint | None:
    """The newest checkpoint that `take` takes; None when there are none. refused: told of each that cannot be used.

    Raises `CheckpointError` when none can: a fresh start would throw work away.
    """
    first, count = None, 0
    for folder in reversed(checkpoint_folders(run_dir)):
        try:
            checkpoint = load_checkpoint(folder)
            take(checkpoint)
        except CheckpointError as error:
            refused(error)
            first, count = first or error, count + 1
        else:
            return checkpoint
    if first is None:
        return None
    raise CheckpointError(
        f"none of the {count} checkpoints can be used ({first}); restore one from a copy, or start a new run"
    )


def before_trouble(
    run_dir: Path, step: int, events: Sequence[Event], engine: BaseEngine, section: Mapping[str, Any]
) -> Checkpoint:
    """The newest good checkpoint from before a trouble that began at `step`: from before its likely cause, too, the
    newest risky change of a control in the 200 steps before it. section: of the model, which the checkpoint must fit.

    `ConfigError` when there is none, with what is wrong with the last one that was tried.
    """
    controls = live_controls(str(section["kind"]))
    changes = [event for event in events if event.kind == "control" and step - RECENT <= event.step < step]
    risky = {name for name, control in controls.items() if control.risky}
    causes = [event.step for event in changes if event.payload.get("name") in risky]
    limit = max(causes, default=step - 1)
    reason = ""
    for folder in reversed(checkpoint_folders(run_dir)):
        if int(folder.name[5:]) > limit:
            continue
        try:
            state = read_state(folder)
            if state.model and state.model != section:
                continue
            checkpoint = load_checkpoint(folder)
            check_fits(engine.saved, engine.model, checkpoint)
        except CheckpointError as error:
            reason = str(error)
        else:
            return checkpoint
    if reason:
        raise ConfigError(f"no checkpoint from before step {step} can be put back: {reason}")
    raise ConfigError(f"there is no checkpoint from before step {step}: nothing can be put back")
