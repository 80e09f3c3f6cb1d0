"""Sampling a run: the live or paused model between two steps, or a checkpoint's, opened here on the CPU."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore.config import Sample, Section
from qcore.runs.checkpoint_folders import folder_name, read_state
from qcore.runs.errors import LabError
from qcore.runs.layout import is_held
from qcore.store import DATABASE_NAME, Generation, Inbox

if TYPE_CHECKING:
    from qcore.lab.workers import Workers

POLL_SECONDS = 0.02


def sample_live(lab: Workers, name: str, prompt: str, settings: Section, author: str) -> Iterator[Generation]:
    """Ask the run's worker, in this or another process, and yield the generation as it grows in the store."""
    # the id is ours, so that the row can be watched before the worker has seen the command
    generation_id = uuid.uuid4().hex
    row_id = lab.command(name, Sample(generation_id, prompt, settings.model_dump()), author=author)
    reader, shown = lab.reader(name), -1
    while True:
        generation = reader.generation(generation_id)
        if generation is not None and (len(generation.tokens) != shown or generation.status != "running"):
            shown = len(generation.tokens)
            yield generation
            if generation.status != "running":
                return
        row = lab.outcome(name, row_id)
        if row.status == "refused":
            raise LabError(f"the sample was refused: {row.message}")
        # asked last: a worker that has just ended may have finished the sample before
        if not is_held(lab.folder(name)) and (generation is None or generation.status == "running"):
            raise LabError(f"run {name!r} ended before the sample was finished: sample a checkpoint instead")
        time.sleep(POLL_SECONDS)


class Samplers:
    """The checkpoint's model that was asked last stays open: a person asks it again."""

    def __init__(self) -> None:
        self._open: tuple[Path, float, Any] | None = None
        self._lock = threading.Lock()

    def sample(self, lab: Workers, name: str, prompt: str, settings: Section, step: int | None) -> Iterator[Generation]:
        """Ask the checkpoint of `step`, or the newest, and keep what it said."""
        from qcore.train.session import load_sampler

        available = [info.step for info in lab.checkpoints(name)]
        if not available:
            raise LabError(f"run {name!r} has no checkpoint yet: let it train, or save one")
        chosen = available[-1] if step is None else step
        if chosen not in available:
            raise LabError(
                f"run {name!r} has no checkpoint of step {chosen}; there are {', '.join(map(str, available))}"
            )
        run_dir = lab.folder(name)
        folder = run_dir / folder_name(chosen)
        draft = Generation(
            id=uuid.uuid4().hex,
            step=chosen,
            wall=time.time(),
            kind="prompt",
            prompt=prompt,
            settings={**settings.model_dump(), "source": "checkpoint", "step": chosen},
        )
        # one model at a time: two of them at once would take twice the memory
        with self._lock:
            # with its creation: a rewind may write another checkpoint into a folder of the same name
            key = (folder, read_state(folder).created)
            if self._open is None or self._open[:2] != key:
                self._open = (*key, load_sampler(lab.config(name), run_dir, folder))
            speaker, controls = self._open[2]
            grown = draft
            for grown in speaker.sample(draft, settings, controls):
                yield grown
        # kept only when it is whole: what a person broke off is not the model's word
        with Inbox(run_dir / DATABASE_NAME) as inbox:
            inbox.put_generation(grown)
