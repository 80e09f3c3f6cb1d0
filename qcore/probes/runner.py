"""The probes of a run, whatever it trains: when they run, what they cost, and what becomes of one that throws.

A probe reads the step's own outputs, detached, or asks the model again about a few rows of its batch; it returns
scalars by series name and may keep arrays. Probes never change the model: a jitter is taken back bit for bit, gradients
of a probe are its own. Everything is measured once before the first update, so that a fault speaks before it has done
anything. A probe that throws is switched off, with its traceback in the log, and training goes on.

Probes from outside come behind the built-in ones. Which of these ran is one bit each of one series, by place in a list
that never changes; a probe from outside may be missing the next time, so it has a series of its own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from qcore.base import QcoreError
from qcore.probes import catalog
from qcore.probes.protocol import Probe, ProbedRun, ProbeInput
from qcore.probes.registry import register_installed, registered
from qcore.probes.scheduler import UNLIMITED, ProbeScheduler
from qcore.runs.replay_plan import BEFORE_TRAINING, FIRST_PROBES, PROBE_NAMES
from qcore.store import RunWriter


class UndeclaredError(QcoreError):
    """A probe from outside measured a series that it has not declared."""


class Runner:
    """All probes of one run, run when they are due and within the budget."""

    def __init__(self, probed: ProbedRun, writer: RunWriter, *, probe_version: int = 2) -> None:
        """Args:
        probe_version: 2: everything is measured after the last update, too, and where there is a budget probes are told
            to ask less of the model before that; a run of version 1 measures as it began to.
        """
        self.scheduler = ProbeScheduler(last_look=probe_version > 1)
        self._light_looks = probe_version > 1
        self.disabled: dict[str, str] = {}
        """Why each probe that threw is switched off."""
        self.probes: Sequence[Probe] = tuple(probed.probes)
        self._of_updates = frozenset(probe.name for probe in self.probes if probe.records_update)
        self.ran = 0
        """Which probes ran at the step measured last: bit i for the i-th."""
        self._chosen: frozenset[str] = frozenset()
        self._chosen_for = 0
        """The step that these were chosen for, before its update where that is recorded."""
        self._probed = probed
        self._writer = writer
        self.added = self._from_outside()
        self._kept: set[str] = set()
        writer.set_meta("term_names", list(probed.term_names))
        writer.set_meta(PROBE_NAMES, [probe.name for probe in self.probes])
        writer.set_meta("disabled_probes", {})
        self.name_modules()

    def _from_outside(self) -> tuple[Probe, ...]:
        """Probes that a person added and whose needs this run can meet."""
        for problem in register_installed():
            self._writer.add_log(0, "warning", problem)
        added = registered()
        return tuple(probe for probe in added if probe.needs <= self._probed.capabilities) if added else ()

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
        # for their cadences to be known; whether a turn has come does not matter before the first step
        cadences = self._cadences(controls)
        self.scheduler.expect(cadences, float(controls["budget_percent"]), int(controls["steps"]))
        first = [probe for probe in self.probes if self.scheduler.begins_with(probe.name)]
        self._writer.set_meta(FIRST_PROBES, [probe.name for probe in first])
        for probe in first:
            found |= self._run(probe, seen)
        for probe in self.added:
            if self.scheduler.knows(probe.name) and probe.name in cadences:
                found |= self._run_added(probe, seen)
        return found | {BEFORE_TRAINING: (time.perf_counter() - started) * 1e3}

    def before_update(self, step: int, controls: Mapping[str, Any]) -> None:
        """Decide what is measured after update `step`, which is about to be made, and record it for who needs that."""
        self._choose(step, controls)
        if self._chosen & self._of_updates:
            started = time.perf_counter()
            self._probed.record_update()
            if not self.scheduler.is_outside:
                self.scheduler.charge(time.perf_counter() - started)

    def measure(self, step: int, result: Any, controls: Mapping[str, Any]) -> dict[str, float]:
        """Scalars of every built-in probe whose turn it is at this step; of all of them after the last update, which
        is not part of the budget either.
        """
        started = time.perf_counter()
        if self._chosen_for != step:
            self._choose(step, controls)
        found: dict[str, float] = {}
        self.ran = 0
        seen: ProbeInput | None = None
        for place, probe in enumerate(self.probes):
            if probe.name in self._chosen:
                # made for the first probe that is due: at most steps there is none, and the input costs a pass
                seen = seen or self._input(step, result, controls)
                found |= self._run(probe, seen)
                self.ran |= 1 << place
        if self.scheduler.is_last and found:
            found[catalog.COST_AFTER_TRAINING_MS] = (time.perf_counter() - started) * 1e3
        return found

    def _choose(self, step: int, controls: Mapping[str, Any]) -> None:
        budget = float(controls["budget_percent"])
        cadences = self._cadences(controls)
        of_updates = self._of_updates & cadences.keys()
        self._chosen = self.scheduler.choose(step, cadences, budget, int(controls["steps"]), of_updates)
        self._chosen_for = step

    def measure_added(self, step: int, result: Any, controls: Mapping[str, Any]) -> dict[str, float]:
        """Scalars of every probe from outside whose turn it is at the step that `measure` was asked about last."""
        found: dict[str, float] = {}
        seen: ProbeInput | None = None
        for probe in self.added:
            if probe.name in self._chosen:
                seen = seen or self._input(step, result, controls)
                found |= self._run_added(probe, seen) | {catalog.cost_ran(probe.name): 1.0}
        return found

    def _cadences(self, controls: Mapping[str, Any]) -> dict[str, int]:
        """Of every probe that may run."""
        may_run = [probe for probe in self.probes if probe.name not in self.disabled]
        may_run += [probe for probe in self.added if self._has_cadence(probe, controls)]
        return {probe.name: probe.cadence(controls) for probe in may_run}

    def _has_cadence(self, probe: Probe, controls: Mapping[str, Any]) -> bool:
        """Whether a probe from outside may be asked at all; one that names a control this run lacks is switched off."""
        if isinstance(probe.every, str) and probe.every not in controls and probe.name not in self.disabled:
            self._switch_off(probe, 0, f"its cadence {probe.every!r} is no control of this run: give a number of steps")
        return probe.name not in self.disabled

    def _input(self, step: int, result: Any, controls: Mapping[str, Any]) -> ProbeInput:
        # by step and controls alone, not by what the budget did: a replay must ask the same
        in_between = 0 < step < controls["steps"] and controls["budget_percent"] < UNLIMITED
        seen = self._probed.probe_input(step, result, controls, partial(self._writer.log_arrays, step))
        return replace(seen, thorough=False) if in_between and self._light_looks else seen

    def _run_added(self, probe: Probe, seen: ProbeInput) -> dict[str, float]:
        """As of every probe; its arrays are kept as `own_…`, and what its series mean is kept, too."""
        # under a prefix: two authors may both call an array `map`
        own = replace(seen, keep=lambda name, arrays: seen.keep(f"own_{name}", arrays))
        found = self._run(replace(probe, measure=lambda seen: _check_declared(probe.measure(seen))), own)
        # kept with the run, as whoever opens it later may not have the probe installed
        for name in sorted(found.keys() - self._kept):
            self._kept.add(name)
            self._writer.set_meta(catalog.meta_key(name), catalog.declaration_row(name))
        return found

    def _run(self, probe: Probe, seen: ProbeInput) -> dict[str, float]:
        try:
            with self.scheduler.measured(probe.name):
                return dict(probe.measure(seen))
        except Exception as error:  # noqa: BLE001 - a diagnostic must never end a training run; the log keeps all of it
            self._switch_off(probe, seen.step, f"{type(error).__name__}: {error}", traceback.format_exc())
            return {}

    def _switch_off(self, probe: Probe, step: int, why: str, details: str = "") -> None:
        self.disabled[probe.name] = why
        self.scheduler.forget(probe.name)
        self._writer.set_meta("disabled_probes", self.disabled)
        self._writer.add_log(step, "error", f"the probe {probe.name!r} is switched off:\n{details or why}")


def _check_declared(measured: Mapping[str, float]) -> dict[str, float]:
    """Numbers of a probe from outside.

    Raises:
        UndeclaredError: for one whose series nobody has declared.
    """
    for name in measured:
        if not catalog.is_from_outside(name):
            raise UndeclaredError(
                f"{name!r} is no series of yours: declare it first, catalog.declare({name!r}, title, unit, meaning=…)"
            )
    return {name: float(value) for name, value in measured.items()}
