"""The probes of a run, whatever it trains: when they run, what they cost, and what becomes of one that throws.

A probe reads the step's own outputs, detached, or calls the model on a few rows of its batch; it returns scalars by
series name and may write arrays. Probes never change the model: a jitter is taken back bit for bit, gradients of a
probe are its own. Everything is measured once before the first update, so that a fault speaks before it has done
anything. A probe that throws is switched off, with its traceback in the log, and training goes on.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qcore.diagnostics import term_gradients, weight_statistics
from qcore.runs.replay_plan import BEFORE_TRAINING, PROBE_NAMES
from qcore.store import RunWriter
from qcore.train.engine import BaseEngine
from qcore.train.probes import ProbeScheduler

JITTER = 0.02


@dataclass(frozen=True)
class Reading:
    """One step as the probes see it. result: the family's `StepResult`, detached."""

    step: int
    result: Any
    controls: Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """name: of its cost series · every: control that asks for its cadence · measure: returns scalars by series name."""

    name: str
    every: str
    measure: Callable[[Reading], dict[str, float]]


class Instruments(ABC):
    """All probes of one run, run when they are due and within the budget."""

    def __init__(self, engine: BaseEngine, writer: RunWriter) -> None:
        self.scheduler = ProbeScheduler()
        self._engine = engine
        self._writer = writer
        self._disabled: dict[str, str] = {}
        self._probes = self._make_probes()
        self.ran = 0
        """Which probes ran at the step measured last: bit i for the i-th."""
        writer.set_meta("term_names", [term.name for term in engine.terms])
        writer.set_meta(PROBE_NAMES, [probe.name for probe in self._probes])
        writer.set_meta("disabled_probes", {})
        self.name_modules()

    def name_modules(self) -> None:
        """Keep the names of the modules that have weights, anew after the model has grown."""
        names = [name.rpartition(".")[0] or "(model)" for name, _ in self._engine.model.named_parameters()]
        self._writer.set_meta("module_names", list(dict.fromkeys(names)))

    @abstractmethod
    def _make_probes(self) -> list[Probe]:
        """The family's probes, in the order in which they are measured."""

    @abstractmethod
    def _weights_in_force(self, reading: Reading) -> Mapping[str, float]:
        """Effective weight of each term at a step."""

    def _looked_up(self, reading: Reading) -> dict[str, Tensor]:
        """Parameters that are lookup tables, with the ids that the step looked up."""
        del reading
        return {}

    def begin(self, reading: Reading) -> dict[str, float]:
        """Scalars of every probe, before the first update; what they cost here is not part of the budget."""
        if not self.scheduler.begins(reading.controls["budget_percent"]):
            return {}
        started = time.perf_counter()
        found: dict[str, float] = {}
        for probe in self._probes:
            self.scheduler.due(probe.name, 0, int(reading.controls[probe.every]), reading.controls["budget_percent"])
            found |= self._run(probe, reading)
        return found | {BEFORE_TRAINING: (time.perf_counter() - started) * 1e3}

    def measure(self, reading: Reading) -> dict[str, float]:
        """Scalars of every probe that is due at this step."""
        budget = float(reading.controls["budget_percent"])
        found: dict[str, float] = {}
        self.ran = 0
        for place, probe in enumerate(self._probes):
            every = int(reading.controls[probe.every])
            if probe.name not in self._disabled and self.scheduler.due(probe.name, reading.step, every, budget):
                found |= self._run(probe, reading)
                self.ran |= 1 << place
        return found

    def _run(self, probe: Probe, reading: Reading) -> dict[str, float]:
        try:
            with self.scheduler.measured(probe.name):
                return probe.measure(reading)
        except Exception as error:  # noqa: BLE001 - a diagnostic must never end a training run; the log keeps all of it
            self._disabled[probe.name] = f"{type(error).__name__}: {error}"
            self.scheduler.forget(probe.name)
            self._writer.set_meta("disabled_probes", self._disabled)
            self._writer.add_log(
                reading.step, "error", f"the probe {probe.name!r} is switched off:\n{traceback.format_exc()}"
            )
            return {}

    # what every family has: gradients of its terms, and what an update does to its weights

    def _gradients(self, reading: Reading) -> dict[str, float]:
        """Gradients of every weighted term over all parameters."""
        total = self._engine.graph(reading.result, reading.controls)
        parameters = [parameter for parameter in self._engine.model.parameters() if parameter.requires_grad]
        gradients = term_gradients(total.parts, parameters, self._weights_in_force(reading))
        names = [term.name for term in self._engine.terms]
        self._writer.log_arrays(reading.step, "gradients", gradients.arrays(names))
        values = {f"grad/value/{name}": float(part.detach()) for name, part in total.parts.items()}
        return gradients.scalars() | values

    def _weights(self, reading: Reading) -> dict[str, float]:
        """From the gradients that the step left behind; before the first update, from a backward pass of its own."""
        named = [(name, value) for name, value in self._engine.model.named_parameters() if value.requires_grad]
        tables = self._looked_up(reading)
        if reading.step == 0:
            gradients = self._engine.gradients(reading.result, reading.controls)
            statistics = weight_statistics(named, gradients=gradients, tables=tables)
        else:
            before = self._engine.before_update(reading.result.learning_rate)
            statistics = weight_statistics(named, before, tables=tables)
        self._writer.log_arrays(reading.step, "modules", statistics.arrays())
        return statistics.scalars()


@contextlib.contextmanager
def jittered(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Parameters moved by N(0, 0.02²), because a gate that starts at zero hides a leak; put back bit for bit."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator) * JITTER
                parameter.add_(noise.to(parameter.device, parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
