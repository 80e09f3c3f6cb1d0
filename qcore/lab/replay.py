"""Replay of a run: train it again in a scratch folder from configuration, seed and events, and compare every value.

The scratch run is an ordinary one under a hidden name, so what is proved is the whole way from the loop to the store.
A fork is replayed from the checkpoint that it began with; what came before is its parent's to prove.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qcore.probes import catalog
from qcore.runs.building import REPLAYING, Site, building
from qcore.runs.checkpoint_folders import FORK, checkpoint_folders, link_folder, read_state
from qcore.runs.errors import LabError
from qcore.runs.layout import CONFIG_FILE, TOKENIZER_FILE
from qcore.runs.replay_plan import ReplayPlan, ReplayResult, changes_of, compare, recording_of
from qcore.runs.slots import Slots
from qcore.store import DATABASE_NAME, RunReader, RunWriter

if TYPE_CHECKING:
    from qcore.lab.workers import Workers

_POLL_SECONDS = 0.1


def replay(
    lab: Workers, name: str, steps: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> ReplayResult:
    """See `Lab.replay`."""
    started = time.monotonic()
    run_dir, reader = lab.folder(name), lab.reader(name)
    if steps is not None and steps < 1:
        raise LabError(f"steps = {steps} is refused: a replay makes at least one step")
    base = _base_checkpoint(run_dir, reader)
    after = read_state(base).step if base else 0
    # the newest loss, not the status row: what was recorded is what can be compared
    last = reader.last(catalog.TRAIN_LOSS)
    if last is None or last[0] <= after:
        raise LabError(f"run {name!r} has made no step yet: there is nothing to replay")
    until = last[0] if steps is None else min(last[0], after + steps)
    with building(lab.runs_dir, REPLAYING) as site:
        _prepare(run_dir, reader, base, site.path)
        _train(site, ReplayPlan(until, recording_of(reader, until)), name, until, on_progress)
        with RunReader(site.path / DATABASE_NAME) as again:
            result = compare(reader, again, after, until)
    return replace(result, seconds=time.monotonic() - started)


def _base_checkpoint(run_dir: Path, reader: RunReader) -> Path | None:
    """The checkpoint that a fork began with; None for a run that began at its first step."""
    if not any(event.kind == "fork" for event in reader.events()):
        return None
    for folder in checkpoint_folders(run_dir):
        if read_state(folder).reason == FORK:
            return folder
    raise LabError(f"run {run_dir.name!r} lost the checkpoint that it began with: replay its parent instead")


def _prepare(run_dir: Path, reader: RunReader, base: Path | None, scratch: Path) -> None:
    meta = reader.meta()
    for file in (CONFIG_FILE, TOKENIZER_FILE):
        if (run_dir / file).exists():
            shutil.copyfile(run_dir / file, scratch / file)
    if base is not None:
        link_folder(base, scratch, FORK)
    with RunWriter(scratch / DATABASE_NAME) as writer:
        if "data_fingerprint" in meta:
            # so that the worker refuses data that have changed since: every value would differ, and say nothing
            writer.set_meta("data_fingerprint", meta["data_fingerprint"])
        # events of people and of automation alike: the replay makes them again at the same steps, and decides nothing
        # itself
        for event in changes_of(reader.events()):
            writer.add_event(event)


def _train(
    site: Site, orders: ReplayPlan, name: str, until: int, on_progress: Callable[[int, int], None] | None
) -> None:
    from qcore.train.worker import Worker

    # The worker gives its hold back when it has ended; the folder is needed for the comparison after that.
    lock = None if site.lock is None else site.lock.shared()
    worker = Worker(site.path, Slots(), "replay", orders, lock)
    try:
        worker.start()
        with RunReader(site.path / DATABASE_NAME) as reader:
            while not worker.join(_POLL_SECONDS):
                status = reader.status()
                if on_progress is not None and status is not None:
                    on_progress(status.step, until)
            status = reader.status()
    finally:
        worker.stop()
        worker.join()
    if status is None or (status.step < until and "not finite" not in status.message):
        raise LabError(f"the replay of {name!r} ended early: {status.message if status else 'its worker said nothing'}")
    if on_progress is not None:
        on_progress(until, until)
