"""Schedules: changes of controls at given steps, written as text, one a line.

`120: coherence_weight = 0.02` changes a control once 120 updates are made, `36%: …` at that share of the run's steps.
`stage concepts 36%: a = 1, b = 2` names what begins there. `100 .. 300: learning_rate = 0.003 -> 0.0003 log` moves a
number from step to step, linearly, as a cosine or geometrically; more knots make it piecewise. A schedule is itself a
live control, so editing it is a command like any other. A point that has passed already is not made up for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from qcore.config.controls import ConfigError

Shape = Literal["linear", "cosine", "log"]
_MOMENT = r"\d+(?:\.\d+)?\s*%?"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ARROW = r"\s*(?:->|→)\s*"
_POINT = re.compile(rf"\s*(?:stage\s+(?P<stage>\S.*?)\s+)?(?P<at>{_MOMENT})\s*:\s*(?P<changes>\S.*?)\s*")
_RAMP = re.compile(
    rf"\s*(?P<knots>{_MOMENT}(?:\s*\.\.\s*{_MOMENT})+)\s*:\s*(?P<name>[A-Za-z_][\w.]*)\s*=\s*"
    rf"(?P<values>{_NUMBER}(?:{_ARROW}{_NUMBER})+)(?:\s+(?P<shape>\w+))?\s*"
)
_CHANGE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*(\S.*?)\s*")
_NEXT_CHANGE = re.compile(r",(?=\s*[A-Za-z_][\w.]*\s*=)")


@dataclass(frozen=True)
class Moment:
    """A step, or percent of the run's steps when `is_share`."""

    at: float
    is_share: bool

    def step(self, total_steps: int) -> int:
        """Number of updates that have been made then."""
        return round(self.at / 100 * total_steps) if self.is_share else int(self.at)


@dataclass(frozen=True)
class ScheduledChange:
    """One change at one moment. stage: what begins with it, as its line says, or empty."""

    moment: Moment
    name: str
    value: str
    stage: str = ""

    def step(self, total_steps: int) -> int:
        """Number of updates after which the change is made."""
        return self.moment.step(total_steps)


@dataclass(frozen=True)
class Ramp:
    """A number that moves from knot to knot. linear: v₀ + (v₁−v₀)·u · cosine: v₀ + (v₁−v₀)·(1−cos πu)/2 · log:
    v₀·(v₁/v₀)^u, with u ∈ [0, 1] the share of the way between two knots.
    """

    knots: tuple[Moment, ...]
    name: str
    values: tuple[float, ...]
    shape: Shape = "linear"

    def span(self, total_steps: int) -> tuple[int, int]:
        """First and last step of the way."""
        return self.knots[0].step(total_steps), self.knots[-1].step(total_steps)

    def value(self, step: int, total_steps: int) -> float:
        """The value at a step; before the first knot that of the first, after the last that of the last."""
        steps = [knot.step(total_steps) for knot in self.knots]
        if step <= steps[0]:
            return self.values[0]
        for (start, end), (low, high) in zip(pairwise(steps), pairwise(self.values), strict=True):
            if start <= step < end:
                return _between(low, high, (step - start) / (end - start), self.shape)
        return self.values[-1]


@dataclass(frozen=True)
class Schedule:
    """What the lines of a schedule say, in their order."""

    changes: tuple[ScheduledChange, ...] = ()
    ramps: tuple[Ramp, ...] = ()


def parse_schedule(lines: Iterable[str]) -> Schedule:
    """The points and ramps of a schedule; empty lines are skipped. `ConfigError` names a line that is none."""
    changes: list[ScheduledChange] = []
    ramps: list[Ramp] = []
    for line in lines:
        if not line.strip():
            continue
        if found := _RAMP.fullmatch(line):
            ramps.append(_ramp(line, found))
        elif found := _POINT.fullmatch(line):
            changes += _points(line, found)
        else:
            raise _refuse(line)
    return Schedule(tuple(changes), tuple(ramps))


def _points(line: str, found: re.Match[str]) -> list[ScheduledChange]:
    moment, stage = _moment(line, found["at"]), found["stage"] or ""
    changes = []
    for part in _NEXT_CHANGE.split(found["changes"]):
        change = _CHANGE.fullmatch(part)
        if change is None:
            raise _refuse(line)
        changes.append(ScheduledChange(moment, change[1], change[2], stage))
    return changes


def _ramp(line: str, found: re.Match[str]) -> Ramp:
    knots = tuple(_moment(line, text) for text in found["knots"].split(".."))
    values = tuple(float(text) for text in re.split(_ARROW, found["values"]))
    shape = found["shape"] or "linear"
    if shape not in get_args(Shape):
        raise ConfigError(
            f"schedule line {line.strip()!r} is refused: {shape!r} is no shape; write {' or '.join(get_args(Shape))}"
        )
    if len(knots) != len(values):
        raise ConfigError(
            f"schedule line {line.strip()!r} is refused: {len(knots)} steps and {len(values)} values; give each "
            "step one"
        )
    if any(a.is_share == b.is_share and a.at >= b.at for a, b in pairwise(knots)):
        raise ConfigError(f"schedule line {line.strip()!r} is refused: its steps must grow from knot to knot")
    if shape == "log" and min(values) <= 0:
        raise ConfigError(
            f"schedule line {line.strip()!r} is refused: a geometric way needs values above 0; leave out `log`"
        )
    return Ramp(knots, found["name"], values, shape)  # type: ignore[arg-type]


def _moment(line: str, text: str) -> Moment:
    number, share = float(text.rstrip("% \t")), text.rstrip().endswith("%")
    if not share and "." in text:
        raise ConfigError(f"schedule line {line.strip()!r} is refused: a step is a whole number, or a share with %")
    if share and number > 100:
        raise ConfigError(f"schedule line {line.strip()!r} is refused: a share lies between 0% and 100%")
    return Moment(number, share)


def _refuse(line: str) -> ConfigError:
    return ConfigError(
        f"schedule line {line.strip()!r} is refused: write STEP: control = value, such as "
        "'120: coherence_weight = 0.02' or '36%: coherence_weight = 0.01', or a way from step to step, "
        "'100 .. 300: learning_rate = 0.003 -> 0.0003 log'"
    )


def _between(low: float, high: float, share: float, shape: Shape) -> float:
    if shape == "log":
        return float(low * (high / low) ** share)
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return low + (high - low) * share


def _stage(name: str, share: float, energy: float, coherence: float) -> str:
    """Energies and coherence from a share of the run on; the share is in percent."""
    energies = [f"{term}_weight = {energy:g}" for term in ("local_energy", "global_energy", "entanglement")]
    return f"stage {name} {share:.4g}%: {', '.join(energies)}, coherence_weight = {coherence:g}"


_EPOCHS = 14
CURRICULA: dict[str, list[str]] = {
    "published": [
        _stage("phase alignment", 0, 0.001, 0.02),
        _stage("local interference", 100 * 2 / _EPOCHS, 0.02, 0.005),
        _stage("global interference", 100 * 5 / _EPOCHS, 0.015, 0.01),
        _stage("concept learning", 100 * 9 / _EPOCHS, 0.01, 0.005),
    ],
    "language-first": [_stage("language", 0, 0.0, 0.0), _stage("phases", 50, 0.001, 0.0005)],
}
"""published: phase alignment for 2 of 14 epochs, local interference 3, global interference 4, concepts 5, with the
authors' weights; language-first: no phase terms in the first half, then the authors' corrected small weights."""
