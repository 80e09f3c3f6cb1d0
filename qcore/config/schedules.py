"""Schedules: changes of controls at given steps, written as text, one a line.

`120: coherence_weight = 0.02` changes a control once 120 updates are made; `36%: …` at that share of the run's steps.
A schedule is itself a live control, so editing it is a command like any other, and what it does are events with the
author `schedule`. A step that has passed already is not made up for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qcore.config.controls import ConfigError

_LINE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*:\s*([A-Za-z_][\w.]*)\s*=\s*(\S.*?)\s*")


@dataclass(frozen=True)
class ScheduledChange:
    """One line. at: step, or percent of the run's steps when `is_share`."""

    at: float
    is_share: bool
    name: str
    value: str

    def step(self, total_steps: int) -> int:
        """Number of updates after which the change is made."""
        return round(self.at / 100 * total_steps) if self.is_share else int(self.at)


def parse_schedule(lines: Iterable[str]) -> tuple[ScheduledChange, ...]:
    """The changes of a schedule in its order; empty lines are skipped. `ConfigError` names a line that is none."""
    changes = []
    for line in lines:
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(
                f"schedule line {line.strip()!r} is refused: write STEP: control = value, such as "
                "'120: coherence_weight = 0.02' or '36%: coherence_weight = 0.01'"
            )
        at, percent, name, value = match.groups()
        if not percent and "." in at:
            raise ConfigError(f"schedule line {line.strip()!r} is refused: a step is a whole number, or a share with %")
        if percent and float(at) > 100:
            raise ConfigError(f"schedule line {line.strip()!r} is refused: a share lies between 0% and 100%")
        changes.append(ScheduledChange(float(at), bool(percent), name, value))
    return tuple(changes)


def _stage(share: float, energy: float, coherence: float) -> list[str]:
    """Energies and coherence from a share of the run on; the share is in percent."""
    at = f"{share:.4g}%"
    energies = ("local_energy", "global_energy", "entanglement")
    return [f"{at}: {name}_weight = {energy:g}" for name in energies] + [f"{at}: coherence_weight = {coherence:g}"]


_EPOCHS = 14
CURRICULA: dict[str, list[str]] = {
    "published": [
        *_stage(0, 0.001, 0.02),
        *_stage(100 * 2 / _EPOCHS, 0.02, 0.005),
        *_stage(100 * 5 / _EPOCHS, 0.015, 0.01),
        *_stage(100 * 9 / _EPOCHS, 0.01, 0.005),
    ],
    "language-first": [*_stage(0, 0.0, 0.0), *_stage(50, 0.001, 0.0005)],
}
"""published: phase alignment for 2 of 14 epochs, local interference 3, global interference 4, concepts 5, with the
authors' weights; language-first: no phase terms in the first half, then the authors' corrected small weights."""
