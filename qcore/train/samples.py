"""Samples of a run in training, as tasks that the loop advances piece by piece between two steps.

What a sample depends on is taken at the step that asks for it, so that a change made while it is being drawn does not
reach into it, and a replay draws the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from qcore.config import Section
from qcore.store import Generation
from qcore.train.callback import Callback, End, LoopContext
from qcore.train.monitor import Monitor

CUT = "the run ended before this sample was finished"


class Samples(Callback):
    """Draws samples of one run and keeps them. drawn: how many samples of the timeline are whole, by step, of the
    newest, when the run is taken up.
    """

    def __init__(self, context: LoopContext, monitor: Monitor, drawn: Mapping[int, int]) -> None:
        self._loop = context.loop
        self._workload = context.workload
        self._writer = context.writer
        self._controls = context.board
        self._recording = context.orders.recording
        self._monitor = monitor
        self._drawn = drawn

    def before_training(self, resumed: bool) -> None:
        """Draws the samples of this step again, where an end cut one of them short."""
        step = self._loop.step
        if resumed and step in self._drawn:
            tasks = self.timeline(step)
            if self._drawn[step] < len(tasks):
                self._loop.queue(*tasks)

    def after_step(self, result: object, seconds: float) -> None:
        step, every, recording = self._loop.step, self._controls["sample_every"], self._recording
        is_due = step % every == 0 if recording is None else step in recording.samples
        if is_due:
            self._loop.queue(*self.timeline(step))

    def at_end(self, end: End) -> None:
        step = self._loop.step
        if end is End.FINISH and step % self._controls["sample_every"]:  # else they have just been drawn
            self._loop.queue(*self.timeline(step))

    def timeline(self, step: int) -> list[Iterator[object]]:
        """Samples of the fixed prompts or seeds, one task each. Their ids follow from step and place: a sample that was
        cut short is replaced when it is drawn again.
        """
        controls = dict(self._controls)
        samples = self._workload.timeline(controls)
        tasks: list[Iterator[object]] = []
        for place, (prompt, settings) in enumerate(samples, 1):
            draft = _new_generation(f"timeline-{step}-{place}", "timeline", step, prompt, settings, None)
            tasks.append(self._heard(step, self._draw(draft, settings, controls), last=place == len(samples)))
        return tasks

    def asked(self, generation: str, step: int, prompt: str, settings: Section, command: int) -> Iterator[object]:
        """A sample that a command asked for."""
        draft = _new_generation(generation, "prompt", step, prompt, settings, command)
        return self._draw(draft, settings, dict(self._controls))

    def _heard(self, step: int, speaking: Iterator[Generation], *, last: bool) -> Iterator[None]:
        """Pass a sample on, and tell the monitor when it is done; one that was cut short says nothing of the model."""
        for grown in speaking:
            if grown.status != "running" and grown.stats.get("error") != CUT:
                self._monitor.heard(step, grown, last=last)
            yield

    def _draw(
        self,
        draft: Generation,
        settings: Section,
        controls: Mapping[str, Any],
    ) -> Iterator[Generation]:
        is_cut = False

        def ending() -> bool:
            nonlocal is_cut
            is_cut = is_cut or self._loop.must_end
            return is_cut

        for grown in self._workload.sample(draft, settings, controls, ending):
            if is_cut and draft.kind == "timeline" and grown.status == "done":
                grown = replace(grown, status="failed", stats={**grown.stats, "error": CUT})
            self._writer.put_generation(grown)
            yield grown


def _new_generation(
    generation: str, kind: str, step: int, prompt: str, settings: Section, command: int | None
) -> Generation:
    return Generation(
        id=generation,
        step=step,
        wall=time.time(),
        kind=kind,
        prompt=prompt,
        settings={**settings.model_dump(), "source": "live", "step": step},
        command_id=command,
    )
