"""The façade that pages, CLI and tests share: list, start, attach, command, read, fork, replay, sample, close.

A `Lab` is the workers of this process (`workers.py`) with what is built upon them. Torch is imported when a run starts
or a checkpoint is sampled, not before: finished runs open without it.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qcore.config import (
    ClipSamplingConfig,
    Section,
)
from qcore.lab.forks import fork, rewind
from qcore.lab.replay import replay
from qcore.lab.sample import Samplers, sample_live
from qcore.lab.workers import Workers
from qcore.runs.errors import lab_errors, with_run_errors
from qcore.runs.layout import is_held
from qcore.runs.replay_plan import ReplayResult
from qcore.store import Generation


class Lab(Workers):
    """All runs under `runs_dir`. `training` runs of this process train at a time; the others queue.

    Example:
        >>> from qcore.config import preset
        >>> with Lab(folder / "runs") as own:
        ...     name = own.start(preset("tiny").config.with_values({"steps": 3}), name="a")
        ...     info = own.wait(name)
        >>> str(info.state), info.step
        ('finished', 3)
    """

    def __init__(self, runs_dir: Path | str, *, training: int = 1) -> None:
        super().__init__(runs_dir, training=training)
        self._speakers = Samplers()

    @with_run_errors
    def replay(
        self, name: str, steps: int | None = None, on_progress: Callable[[int, int], None] | None = None
    ) -> ReplayResult:
        """Train a run again in a scratch folder, from configuration, seed and events, and compare every value bit for
        bit; only the first `steps` updates when given. A fork is replayed from the checkpoint that it began with.

        Takes as long as the training did. Series that follow the clock are left out and named in the result.

        Args:
            on_progress: told (step, last step) now and then.

        Raises:
            LabError: for a run without steps, or whose data is gone.

        Example:
            >>> lab.replay("first").identical
            True
        """
        self.require_trainer(name)
        return replay(self, name, steps, on_progress)

    @with_run_errors
    def fork(
        self,
        name: str,
        *,
        step: int | None = None,
        changes: dict[str, Any] | None = None,
        config_changes: dict[str, Any] | None = None,
        new_name: str | None = None,
        author: str = "person",
        reason: str = "",
        start: bool = True,
        until: int | None = None,
    ) -> str:
        """Start a run that goes on from a step of another, with changes; return its name. Without any it is its parent
        bit for bit.

        Args:
            step: a checkpoint as it was saved, or any other step as it was before the changes made at it; None: now.
            changes: of live controls, made at the fork.
            config_changes: of anything else but `seed` and `kind`: data (its tokenizer stays), order_seed, batch_size,
                or sizes of the model, which grows.
            start: train it at once, `until` a step.

        Raises:
            ConfigError: for a change that cannot be.
            LabError: for a step that the run has not made.

        Example:
            >>> child = lab.fork("first", step=5, changes={"learning_rate": 0.001}, new_name="slower")
            >>> lab.wait(child).step, lab.lineage(child).changes
            (12, {'learning_rate': 0.001})
        """
        return fork(
            self,
            name,
            step=step,
            changes=changes,
            config_changes=config_changes,
            new_name=new_name,
            author=author,
            reason=reason,
            start=start,
            until=until,
        )

    @with_run_errors
    def rewind(self, name: str, step: int, *, author: str = "person", start: bool | None = None) -> str:
        """Take a run back to a step, before the changes that were made at it (a schedule's stay); what came after is
        kept as a run of its own, whose name is returned. Forks of what came after hang on that run from now on.

        A training run is stopped first.

        Args:
            start: train on at once; None: if it was training.

        Raises:
            LabError: for a step that the run has not made.

        Example:
            >>> child = lab.fork("first", step=10, new_name="back")
            >>> lab.wait(child).step
            12
            >>> branch = lab.rewind(child, 10, start=False)  # `branch` keeps what came after
            >>> lab.info(child).step
            10
        """
        self.require_trainer(name)
        return rewind(self, name, step, author=author, start=start)

    def sample(
        self, name: str, prompt: str, settings: Section, *, checkpoint: int | None = None, author: str = "person"
    ) -> Iterator[Generation]:
        """Continue `prompt`, yielding the generation as it grows; the last one is done or failed.

        Without `checkpoint` the live or paused model speaks between two steps, or, when no worker holds the run, its
        newest checkpoint.

        Raises:
            LabError: when there is neither.
            CheckpointError: for a damaged checkpoint.

        Example:
            >>> from qcore.config import SamplingConfig
            >>> *_, last = lab.sample("first", "the", SamplingConfig(max_tokens=3))
            >>> last.status, last.stats["tokens"]
            ('done', 3.0)
        """
        with lab_errors(f"run {name!r}"):
            self.require_trainer(name)
            if checkpoint is None and is_held(self.folder(name)):
                yield from sample_live(self, name, prompt, settings, author)
            else:
                yield from self._speakers.sample(self, name, prompt, settings, checkpoint)

    def sample_clips(
        self, name: str, settings: ClipSamplingConfig, *, checkpoint: int | None = None, author: str = "person"
    ) -> Iterator[Generation]:
        """Draw clips of a video run, as `sample` does text; they appear in pieces."""
        yield from self.sample(name, f"seed {settings.sample_seed}", settings, checkpoint=checkpoint, author=author)


_shared: dict[Path, Lab] = {}
_shared_lock = threading.Lock()


def shared_lab(runs_dir: Path | str) -> Lab:
    """The one lab of this process for a runs folder, created under a lock and closed when the process exits."""
    key = Path(os.path.realpath(runs_dir))
    with _shared_lock:
        if not _shared:
            atexit.register(_at_exit)
        if key not in _shared:
            _shared[key] = Lab(key)
        return _shared[key]


def close_shared() -> None:
    """Close every shared lab of this process. A server that ends by a signal does this before it dies of it."""
    with _shared_lock:
        labs = list(_shared.values())
    for lab in labs:
        lab.close()


def _at_exit() -> None:
    # Whoever presses Ctrl-C once more has been heard: the checkpoints are being written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    close_shared()
