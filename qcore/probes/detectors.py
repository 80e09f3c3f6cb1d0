"""The detectors' place in a run: what they are told, and their verdicts on the way to the store.

The watch is a pure function of the measurements it has been given; a checkpoint keeps its memory, so that a resumed run
finds what an undisturbed one finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from qcore.automation.learning_rate import learning_rate
from qcore.base import BAD_VALUES
from qcore.detect import Facts, Verdict, Watch
from qcore.probes import catalog
from qcore.store import Finding, RunWriter

_PLANNED_POINTS = 4096
_OF_THE_RATE = ("steps", "learning_rate", "lr_policy", "manual_learning_rate", "warmup_steps", "min_lr_ratio")


class WatchedRun(Protocol):
    """A run that detectors watch: what they must know of it beside its measurements."""

    def facts(self, controls: Mapping[str, Any], planned_lr_sum: float) -> Facts:
        """What is known before the first step."""

    def term_weights(self, step: int, controls: Mapping[str, Any]) -> Mapping[str, float]:
        """Effective weight of each term at a step."""


class Detectors:
    """A `Watch` over one run that writes its verdicts as findings."""

    def __init__(self, judged: WatchedRun, writer: RunWriter, controls: Mapping[str, Any]) -> None:
        self._judged = judged
        self._writer = writer
        self._controls = controls
        self.planned_lr_sum = planned_lr_sum(controls)
        self.lr_sum = 0.0
        self.listener: Callable[[Mapping[str, float]], None] | None = None
        """Told every measurement, as it is judged."""
        self._watch = Watch(judged.facts(controls, self.planned_lr_sum))

    @property
    def active(self) -> list[Verdict]:
        """What was found and is not resolved."""
        return self._watch.active

    def observe(self, step: int, values: Mapping[str, float]) -> None:
        """Judge what was measured at a step."""
        if self.listener is not None:
            self.listener(values)
        self._keep(self._watch.observe(step, values, self._judged.term_weights(step, self._controls)))
        for verdict in self._watch.refreshed_verdicts():
            self._writer.update_finding(Finding(**vars(verdict)))

    def control_changed(self, step: int, payload: Mapping[str, Any]) -> None:
        """A person, a schedule or a replay changed a control."""
        self._watch.note_event(step, "control", payload)
        if payload["name"] in _OF_THE_RATE:
            self.planned_lr_sum = planned_lr_sum(self._controls)
            self.observe(step, {catalog.OPTIM_PLANNED_LR_SUM: self.planned_lr_sum})

    def sample_failed(self, step: int, prompt: str, error: str) -> None:
        """A sample of the timeline ended with an error."""
        self._watch.note_event(step, "failed_sample", {"prompt": prompt, "error": error})

    def resumed(self, step: int) -> None:
        """The run goes on from a checkpoint of its own, as it was."""
        self._watch.note_event(step, "resume", {})

    def restarted(self, step: int) -> None:
        """Weights, or all of a run that another comes from, are others than at the step before."""
        self._watch.note_event(step, "restart", {})

    def probe_failed(self, step: int, name: str, why: str) -> None:
        """A probe has thrown and is switched off."""
        self._keep([self._watch.probe_failed(step, name, why)])

    def resized(self, step: int) -> None:
        """The model has another size than before; what was remembered of its losses does not hold any more."""
        if step > 0:  # else a worker takes up a run that has grown before, with what was remembered since
            self.restarted(step)
        self._watch.facts = self._judged.facts(self._controls, self.planned_lr_sum)

    def failed(self, step: int, terms: Iterable[str], message: str) -> None:
        """The finite check stopped the run at update `step`; said again when a run is resumed after it."""
        self._keep([self._watch.failure(step, terms, message)])

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, JSON-able."""
        return {"watch": self._watch.state(), "lr_sum": self.lr_sum}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Take the memory of a checkpoint of `step`; one from before there were detectors has none. What is damaged of
        it is left aside, which the run's log says: no run ends because its detectors have forgotten something.
        """
        if not state:
            return
        try:
            self._watch.restore(state.get("watch", {}))
            lr_sum = float(state["lr_sum"])
            if not math.isfinite(lr_sum):
                raise ValueError(f"the learning rates of the detectors' memory sum to {lr_sum}")
            self.lr_sum = lr_sum
        except BAD_VALUES as error:
            why = str(error) if type(error) is ValueError else f"the memory of the detectors is damaged ({error!r})"
            self._writer.add_log(step, "warning", f"{why}: they start from scratch, without what the checkpoint knew")

    def _keep(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            self._writer.put_finding(Finding(**vars(verdict)))


def planned_lr_sum(controls: Mapping[str, Any]) -> float:
    """Σ of the planned learning rate over all steps; of a long run, the mean of some 4096 of them times the count."""
    steps = int(controls["steps"])
    points = range(1, steps + 1, max(1, steps // _PLANNED_POINTS))
    return sum(learning_rate(step, controls) for step in points) / len(points) * steps
