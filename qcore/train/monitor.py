"""What the loop measures and reports: scalars of every step, probes within their budget, evaluation, the status row."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from qcore.diagnostics import token_statistics
from qcore.store import RunWriter, Status
from qcore.train.engine import Engine, StepResult
from qcore.train.probes import ProbeScheduler, running_mean

STATUS_SECONDS = 0.5
SHARE = 0.1


class Monitor:
    """Telemetry of one run. seconds_trained: time spent in the loop's steps and duties over the run's whole life, s."""

    def __init__(self, engine: Engine, writer: RunWriter) -> None:
        self.seconds_trained = 0.0
        self._engine = engine
        self._writer = writer
        self._probes = ProbeScheduler()
        self._tokens_per_second = 0.0
        self._step_seconds = 0.0
        self._last: dict[str, float] = {}
        self._published = (0.0, "")
        tokenizer = engine.dataset.tokenizer
        self._special_ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")}

    def record(self, step: int, result: StepResult, controls: Mapping[str, Any], seconds: float) -> None:
        """Log one update and run the probes that are due."""
        self.seconds_trained += seconds
        self._probes.observe_step(seconds)
        self._tokens_per_second = running_mean(self._tokens_per_second, result.tokens / seconds, SHARE)
        self._step_seconds = running_mean(self._step_seconds, seconds, SHARE)
        scalars = {f"term/{name}": value for name, value in result.terms.items()}
        scalars["train/loss"] = result.loss
        scalars["train/lr"] = result.learning_rate
        scalars["train/grad_norm"] = result.grad_norm
        scalars["train/step_ms"] = seconds * 1e3
        scalars["train/tokens_per_second"] = self._tokens_per_second
        self._writer.log_scalars(step, scalars)
        self._last["loss"] = result.loss
        if result.skipped:
            self._writer.add_log(step, "warning", "fp16 overflow: this step was skipped, the loss scale halved")
        self._run_probes(step, result, controls)

    def evaluate(self, step: int) -> None:
        """Log the held-out cross-entropy after `step` updates."""
        started = time.perf_counter()
        value = self._engine.evaluate()
        seconds = time.perf_counter() - started
        self.seconds_trained += seconds
        self._writer.log_scalars(step, {"eval/ce": value, "cost/eval_ms": seconds * 1e3})
        self._last["eval_ce"] = value

    def publish(self, state: str, step: int, total_steps: int, message: str = "", *, force: bool = False) -> None:
        """Write the status row when the state changed or half a second has passed."""
        now = time.time()
        when, what = self._published
        if not force and state == what and now - when < STATUS_SECONDS:
            return
        self._published = (now, state)
        extra: dict[str, float | None] = {
            **self._last,
            "tokens_per_second": self._tokens_per_second or None,
            "seconds_left": (total_steps - step) * self._step_seconds if self._step_seconds else None,
            "seconds_trained": self.seconds_trained,
            "memory_mb": memory_mb(self._engine.device),
            "torch_threads": torch.get_num_threads(),
        }
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

    def _run_probes(self, step: int, result: StepResult, controls: Mapping[str, Any]) -> None:
        every, budget = controls["tokens_every"], controls["budget_percent"]
        scalars: dict[str, float] = {}
        if self._probes.due("tokens", step, every, budget):
            with self._probes.measured("tokens"):
                statistics = token_statistics(
                    result.output.logits_BTV,
                    result.batch.targets_BT,
                    result.batch.mask_BT,
                    eos_id=self._engine.dataset.tokenizer.eos_id,
                    special_ids=self._special_ids,
                )
                scalars |= statistics.scalars()
                self._writer.log_arrays(step, "tokens", statistics.arrays())
        if self._probes.due("terms", step, every, budget):
            with self._probes.measured("terms"):
                measured = self._engine.measure_terms(result, controls)
                scalars |= {f"term/{name}": value for name, value in measured.items() if name not in result.terms}
        if scalars:
            scalars["train/memory_mb"] = memory_mb(self._engine.device)
            self._writer.log_scalars(step, scalars | self._probes.report())


def memory_mb(device: torch.device) -> float:
    """Memory in use, MB: the largest allocation so far on CUDA, the process's resident set elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
