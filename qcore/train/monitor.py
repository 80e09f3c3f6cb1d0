"""What a run measures and reports: scalars of every step, probes within their budget, evaluation, the status row.

Everything that is logged is also told to the detectors, at the step at which it was measured.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from qcore.base.run_states import RunState
from qcore.probes import catalog
from qcore.probes.detectors import Detectors
from qcore.probes.scheduler import running_mean
from qcore.runs.replay_plan import MEASURES, MEASURES_VERSION, PLANNED_LR_SUM, PROBES_RUN
from qcore.store import Generation, Status
from qcore.train.callback import Callback, End, LoopContext
from qcore.train.engine import NonFiniteError, StepResult

OF_THE_DATA = ("mask_padding", "label_shift")
STATUS_SECONDS = 0.5
SHARE = 0.1


class Monitor(Callback):
    """Telemetry of one run. seconds_trained: time spent in the loop's steps and duties over the run's whole life, s."""

    name = "monitor"

    def __init__(self, context: LoopContext) -> None:
        self.seconds_trained = 0.0
        self.detectors = Detectors(context.workload, context.writer, context.board)
        self._loop = context.loop
        self._workload = context.workload
        self._engine = context.workload.engine
        self._writer = context.writer
        self._controls = context.board
        self._recording = context.orders.recording
        self._catching_up = context.orders.catching_up
        self._runner = context.workload.runner(context.writer)
        if self._recording is not None:
            plan, first = self._recording.probes or {}, self._recording.first
            self._runner.scheduler.follow(plan, begins=self._recording.began, first=first)
        self._evaluated = -1
        self._is_marked = False
        self._units_per_second = 0.0
        self._step_seconds = 0.0
        self._last: dict[str, float] = {}
        self._published = (0.0, "")
        self._heard: list[dict[str, float]] = []
        self._copied: dict[str, float] = {}
        self._events = context.history
        self._failed_probes: set[str] = set()
        self._samples: list[Generation] = []

    def before_training(self, resumed: bool) -> None:
        recording = self._recording
        if resumed and recording is None and not self._catching_up:
            self._note_resume()
        if resumed or (recording is not None and not recording.opened):
            return
        # The held-out loss comes first: what detectors hear at step 0 they must hear in the same order in a replay.
        if recording is None or 0 in recording.evaluations:
            self.evaluate(0)
        self.begin()

    def before_update(self) -> None:
        self._runner.before_update(self._loop.step + 1, self._controls)

    def _note_resume(self) -> None:
        """A run that is taken up again should go on as it was; a fork may differ from where it comes from."""
        begun = self._events.newest_event("start", "resume")
        if begun is not None and begun.kind == "resume":
            self.detectors.resumed(self._loop.step)
        else:
            self.detectors.restarted(self._loop.step)

    def after_step(self, result: StepResult, seconds: float) -> None:
        step = self._loop.step
        self.record(step, result, seconds)
        self._loop.publish()  # before an evaluation, which may take longer than readers believe a silent run
        # A replay measures exactly when the run did, which was also wherever it had come to an end and was resumed.
        every, recording = self._controls["eval_every"], self._recording
        is_due = step % every == 0 if recording is None else step in recording.evaluations
        if is_due:
            self.evaluate(step)

    def at_end(self, end: End) -> None:
        on_its_way = end is End.UNTIL and self._catching_up
        if end is not End.STOP and not on_its_way and self._evaluated != self._loop.step:
            self.evaluate(self._loop.step)

    def on_failure(self, error: NonFiniteError) -> None:
        self.detectors.failed(error.step, error.terms, str(error))

    def tell_failure_again(self, payload: Mapping[str, Any]) -> None:
        """The run is resumed after it failed: the finding of that stands.

        Args:
            payload: of the event of the failure.
        """
        terms = payload["terms"]
        named = [str(term) for term in terms] if isinstance(terms, list) else []
        self.detectors.failed(payload["at_step"], named, payload["message"])

    def state_dict(self) -> dict[str, Any]:
        return self.detectors.state()

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        self.detectors.restore(state, step)

    def begin(self) -> None:
        """Measure everything on the first batch, before the first update."""
        result = self._engine.preview(self._controls)
        scalars = {catalog.term(name): value for name, value in result.terms.items()}
        scalars[catalog.TRAIN_LOSS] = result.loss
        found = self._workload.data_measurements(self._controls)
        found[PLANNED_LR_SUM] = self.detectors.planned_lr_sum
        measured = self._runner.begin(result, self._controls)
        # The terms of the first batch are logged with the first update, which measures the same.
        self._writer.log_scalars(0, found | measured | self._version())
        self.detectors.observe(0, scalars | found | measured)
        self._tell_failed_probes(0)

    def record(self, step: int, result: StepResult, seconds: float) -> None:
        """Log one update and run the probes that are due."""
        started, probing = time.perf_counter(), self._runner.scheduler.probing
        self.seconds_trained += seconds
        self._runner.scheduler.observe_step(seconds)
        self._units_per_second = running_mean(self._units_per_second, result.units / seconds, SHARE)
        self._step_seconds = running_mean(self._step_seconds, seconds, SHARE)
        self.detectors.lr_sum += result.learning_rate
        scalars = {catalog.term(name): value for name, value in result.terms.items()}
        scalars[catalog.TRAIN_LOSS] = result.loss
        scalars[catalog.TRAIN_LR] = result.learning_rate
        scalars[catalog.TRAIN_GRAD_NORM] = result.grad_norm
        scalars[catalog.TRAIN_STEP_MS] = seconds * 1e3
        scalars[self._engine.speed_name] = self._units_per_second
        self._last["loss"] = result.loss
        if result.skipped:
            self._writer.add_log(step, "warning", "fp16 overflow: this step was skipped, the loss scale halved")
        measured = self._runner.measure(step, result, self._controls)
        added = self._runner.measure_added(step, result, self._controls)
        with self._writer.whole:  # readers see a step with all that was said of it, or not at all
            self._writer.log_scalars(step, scalars if self._is_marked else scalars | self._version())
            if measured:
                measured[catalog.OPTIM_LR_SUM] = self.detectors.lr_sum
                measured[catalog.TRAIN_MEMORY_MB] = memory_mb(self._engine.device)
                measured_when = {PROBES_RUN: float(self._runner.ran)}
                self._writer.log_scalars(step, measured | measured_when | self._runner.scheduler.report())
            elif self._runner.ran:  # probes that found nothing of theirs in this model
                self._writer.log_scalars(step, {PROBES_RUN: float(self._runner.ran)})
            if added:  # apart, so that a run with such a probe is a run without it in all the rest
                self._writer.log_scalars(step, added)
            self.detectors.observe(step, scalars | measured | added)
            if len(self._runner.disabled) > len(self._failed_probes):
                self._tell_failed_probes(step)
        self._runner.scheduler.charge(time.perf_counter() - started - (self._runner.scheduler.probing - probing))

    def _version(self) -> dict[str, float]:
        """Which measurements this worker knows, said with its first numbers."""
        self._is_marked = True
        return {MEASURES: float(MEASURES_VERSION)}

    def _tell_failed_probes(self, step: int) -> None:
        for name, why in self._runner.disabled.items():
            if name not in self._failed_probes:
                self._failed_probes.add(name)
                self.detectors.probe_failed(step, name, why)

    def on_control_change(self, payload: Mapping[str, Any]) -> None:
        """Take note of a change; what is trained on is measured again when it is about the data."""
        step = self._loop.step
        self.detectors.control_changed(step, payload)
        if payload["name"] in OF_THE_DATA:
            self._log(step, self._workload.data_measurements(self._controls))

    def evaluate(self, step: int) -> None:
        """Log the held-out loss after `step` updates."""
        self._evaluated = step
        started = time.perf_counter()
        value = self._engine.evaluate(self._controls)
        seconds = time.perf_counter() - started
        self.seconds_trained += seconds
        name = self._engine.eval_name
        self._log(step, {name: value, catalog.COST_EVAL_MS: seconds * 1e3})
        self._last |= {name.replace("/", "_"): value, "eval_step": step}

    def heard(self, step: int, sample: Generation, *, last: bool) -> None:
        """Take a finished timeline sample; after the last one of a step, log the means of their statistics, the most
        that was copied, and how they agree with the model that is trained.
        """
        heard = self._workload.heard(sample.stats)
        self._heard.append({name: value for name, value in heard.items() if math.isfinite(value)})
        self._samples.append(sample)
        for name, value in self._workload.copied(sample).items():
            self._copied[name] = max(value, self._copied.get(name, 0.0))
        if sample.status == "failed":
            self.detectors.sample_failed(step, sample.prompt, str(sample.stats.get("error", "")))
        if last:
            names = {name for sample in self._heard for name in sample}
            means = {}
            for name in sorted(names):
                values = [sample[name] for sample in self._heard if name in sample]
                means[name] = sum(values) / len(values)
            means |= self._copied
            means |= self._workload.compare_samples(self._samples)
            self._heard, self._samples, self._copied = [], [], {}
            if means:
                self._log(step, means)

    def on_resize(self) -> None:
        """Take note of another model size: its modules, its parameters, and what the detectors know of it."""
        self._runner.name_modules()
        self._writer.set_meta("parameters", sum(value.numel() for value in self._engine.model.parameters()))
        self.detectors.resized(self._loop.step)

    def on_restore(self) -> None:
        """Take note that the weights are those of an earlier step."""
        self.detectors.restarted(self._loop.step)

    def publish(
        self, state: RunState, step: int, total_steps: int, message: str = "", *, force: bool = False, cause: str = ""
    ) -> bool:
        """Write the status row when the state changed or half a second has passed, and tell whether it did.

        Args:
            cause: of a failure.
        """
        now = time.time()
        when, what = self._published
        if not force and state == what and now - when < STATUS_SECONDS:
            return False
        self._published = (now, state)
        seconds_left = (total_steps - step) * self._step_seconds if self._step_seconds else None
        extra = {**self.figures(), "seconds_left": seconds_left, **({"cause": cause} if cause else {})}
        self._writer.set_status(
            Status(
                state=state,
                step=step,
                total_steps=total_steps,
                heartbeat=now,
                pid=os.getpid(),
                host=os.uname().nodename,
                message=message,
                drops=self._writer.drops,
                extra=extra,
            )
        )
        return True

    def figures(self) -> dict[str, Any]:
        """What the status row shows of the run beside its step."""
        return {
            **self._last,
            f"{self._engine.unit}_per_second": self._units_per_second or None,
            "seconds_trained": self.seconds_trained,
            "memory_mb": memory_mb(self._engine.device),
            "torch_threads": torch.get_num_threads(),
        }

    def _log(self, step: int, scalars: dict[str, float]) -> None:
        with self._writer.whole:
            self._writer.log_scalars(step, scalars)
            self.detectors.observe(step, scalars)


def memory_mb(device: torch.device) -> float:
    """Memory in use, MB: the largest allocation so far on CUDA, the process's resident set elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
