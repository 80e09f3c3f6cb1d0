"""The probes of a run, whatever it trains: when they run, what they cost, and what becomes of one that throws.

A probe reads the step's own outputs, detached, or asks the model again about a few rows of its batch; it returns
scalars by series name and may keep arrays. Probes never change the model: a jitter is taken back bit for bit, gradients
of a probe are its own. Everything is measured once before the first update, so that a fault speaks before it has done
anything. A probe that throws is switched off, with its traceback in the log, and training goes on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from qcore.probes.protocol import Probe, Probed, ProbeInput
from qcore.probes.scheduler import ProbeScheduler
from qcore.runs.replay_plan import BEFORE_TRAINING, PROBE_NAMES
from qcore.store import RunWriter


class Runner:
    """All probes of one run, run when they are due and within the budget."""

    def __init__(self, probed: Probed, writer: RunWriter) -> None:
        self.scheduler = ProbeScheduler()
        self.disabled: dict[str, str] = {}
        """Why each probe that threw is switched off."""
        self.probes: Sequence[Probe] = tuple(probed.probes)
        self.ran = 0
        """Which probes ran at the step measured last: bit i for the i-th."""
        self._probed = probed
        self._writer = writer
        writer.set_meta("term_names", list(probed.term_names))
        writer.set_meta(PROBE_NAMES, [probe.name for probe in self.probes])
        writer.set_meta("disabled_probes", {})
        self.name_modules()

    def name_modules(self) -> None:
        """Keep the names of the modules that have weights, anew after the model has grown."""
        names = [name.rpartition(".")[0] or "(model)" for name in self._probed.parameter_names()]
        self._writer.set_meta("module_names", list(dict.fromkeys(names)))

    def begin(self, result: Any, controls: Mapping[str, Any]) -> dict[str, float]:
        """Scalars of every probe, before the first update; what they cost here is not part of the budget."""
        if not self.scheduler.begins(controls["budget_percent"]):
            return {}
        started = time.perf_counter()
        found: dict[str, float] = {}
        seen = self._input(0, result, controls)
        for probe in self.probes:
            self.scheduler.due(probe.name, 0, probe.cadence(controls), controls["budget_percent"])
            found |= self._run(probe, seen)
        return found | {BEFORE_TRAINING: (time.perf_counter() - started) * 1e3}

    def measure(self, step: int, result: Any, controls: Mapping[str, Any]) -> dict[str, float]:
        """Scalars of every probe that is due at this step."""
        budget = float(controls["budget_percent"])
        found: dict[str, float] = {}
        self.ran = 0
        seen: ProbeInput | None = None
        for place, probe in enumerate(self.probes):
            every = probe.cadence(controls)
            if probe.name not in self.disabled and self.scheduler.due(probe.name, step, every, budget):
                seen = seen or self._input(step, result, controls)
                found |= self._run(probe, seen)
                self.ran |= 1 << place
        return found

    def _input(self, step: int, result: Any, controls: Mapping[str, Any]) -> ProbeInput:
        return self._probed.probe_input(step, result, controls, partial(self._writer.log_arrays, step))

    def _run(self, probe: Probe, seen: ProbeInput) -> dict[str, float]:
        try:
            with self.scheduler.measured(probe.name):
                return dict(probe.measure(seen))
        except Exception as error:  # noqa: BLE001 - a diagnostic must never end a training run; the log keeps all of it
            self.disabled[probe.name] = f"{type(error).__name__}: {error}"
            self.scheduler.forget(probe.name)
            self._writer.set_meta("disabled_probes", self.disabled)
            self._writer.add_log(
                seen.step, "error", f"the probe {probe.name!r} is switched off:\n{traceback.format_exc()}"
            )
            return {}
