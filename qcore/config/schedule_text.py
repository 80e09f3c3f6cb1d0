"""Schedules: changes of controls at given steps, written as text, one per line.

`120: coherence_weight = 0.02` changes a control once 120 updates are made, `36%: …` at that share of the run's steps.
`stage concepts 36%: a = 1, b = 2` names what begins there. `100 .. 300: learning_rate = 0.003 -> 0.0003 log` moves a
number from step to step, linearly, as a cosine or geometrically; more knots make it piecewise. A schedule is itself a
live control, so editing it is a command like any other. A point that has passed already is not made up for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

from qcore.config.errors import ConfigError, shorten
from qcore.config.names import assignment
from qcore.config.texts import TextLine, lines_of

Shape = Literal["linear", "cosine", "log"]
_SHAPES = get_args(Shape)
_STAGE = "stage "
_STAGE_END = re.compile(r" (?P<at>[0-9][0-9.]* ?%?) ?:")
_MOMENT = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True)
class SchedulePoint:
    """A step, or percent of the run's steps when `is_share`."""

    at: float
    is_share: bool

    def step(self, total_steps: int) -> int:
        """Number of updates that have been made then."""
        return round(self.at / 100 * total_steps) if self.is_share else int(self.at)


@dataclass(frozen=True)
class ScheduledChange:
    """One change at one moment.

    Attributes:
        stage: what begins with it, as its line says, or empty.
        line: where it stands.
    """

    moment: SchedulePoint
    name: str
    value: str
    stage: str = ""
    line: TextLine = field(default=TextLine("", "", ""), compare=False)

    def step(self, total_steps: int) -> int:
        """Number of updates after which the change is made."""
        return self.moment.step(total_steps)


@dataclass(frozen=True)
class Ramp:
    """A number that moves from knot to knot. linear: v₀ + (v₁−v₀)·u · cosine: v₀ + (v₁−v₀)·(1−cos πu)/2 · log:
    v₀·(v₁/v₀)^u, with u ∈ [0, 1] the share of the way between two knots.
    """

    knots: tuple[SchedulePoint, ...]
    name: str
    values: tuple[float, ...]
    shape: Shape = "linear"
    line: TextLine = field(default=TextLine("", "", ""), compare=False)

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
                return _interpolate(low, high, (step - start) / (end - start), self.shape)
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
    for line in lines_of("schedule line", lines):
        head, colon, rest = line.plain.partition(":")
        if not colon or not rest.strip():
            raise _refuse(line)
        if line.plain.startswith(_STAGE):
            changes += _parse_stage(line)
        elif ".." in head:
            ramps.append(_ramp(line, head, rest))
        else:
            changes += _points(line, _moment(line, head), rest)
    return Schedule(tuple(changes), tuple(ramps))


def _parse_stage(line: TextLine) -> list[ScheduledChange]:
    """`stage NAME MOMENT: …`; the name may hold anything, a colon, too."""
    found = _STAGE_END.search(line.plain, len(_STAGE))
    if found is None:
        raise _refuse(line)
    stage, rest = line.plain[len(_STAGE) : found.start()], line.plain[found.end() :]
    return _points(line, _moment(line, found["at"]), rest, stage)


def _points(line: TextLine, moment: SchedulePoint, text: str, stage: str = "") -> list[ScheduledChange]:
    changes = []
    for part in line.parts(text, ","):
        set_to = assignment(part)
        name = line.name(set_to.written if set_to else part)
        if not set_to or name is None or not set_to.value:
            raise _refuse(line)
        changes.append(ScheduledChange(moment, name, set_to.value, stage, line))
    return changes


def _ramp(line: TextLine, head: str, text: str) -> Ramp:
    set_to = assignment(text)
    name = line.name(set_to.written if set_to else text)
    *before, last = (set_to.value if set_to else "").replace("→", "->").split("->")
    ends = last.split()
    if name is None or not before or not 1 <= len(ends) <= 2:
        raise _refuse(line)
    knots = tuple(_moment(line, part) for part in head.split(".."))
    values = tuple(line.number(part) for part in [*before, ends[0]])
    shape = ends[1] if len(ends) == 2 else "linear"
    if shape not in _SHAPES:
        raise line.refuse(f"{shorten(shape, 80)!r} is not a shape; write {' or '.join(_SHAPES)}")
    if len(knots) != len(values):
        raise line.refuse(f"{len(knots)} steps and {len(values)} values; give each step one")
    # a share and a step can only be compared once the length of the run is known
    if any(a.is_share == b.is_share and a.at >= b.at for a, b in pairwise(knots)):
        raise line.refuse("its steps must increase from knot to knot")
    if shape == "log" and min(values) <= 0:
        raise line.refuse("a geometric ramp needs values above 0; leave out `log`")
    return Ramp(knots, name, values, shape, line)  # type: ignore[arg-type]


def _moment(line: TextLine, text: str) -> SchedulePoint:
    text = text.strip()
    share = text.endswith("%")
    digits = text[:-1].rstrip() if share else text
    # cut before it is matched: a line of a million digits is refused without being read
    if _MOMENT.fullmatch(digits[:41]) is None:
        raise _refuse(line)
    if not share and "." in digits:
        raise line.refuse("a step is a whole number, or a share with %")
    if not share:
        return SchedulePoint(line.whole(digits, "a step,"), False)
    if (number := line.number(digits)) > 100:
        raise line.refuse("a share lies between 0% and 100%")
    return SchedulePoint(number, True)


def _refuse(line: TextLine) -> ConfigError:
    return line.refuse(
        "write STEP: control = value, such as '120: coherence_weight = 0.02' or '36%: coherence_weight = 0.01', or "
        "a ramp between steps, '100 .. 300: learning_rate = 0.003 -> 0.0003 log'"
    )


def _interpolate(low: float, high: float, share: float, shape: Shape) -> float:
    if shape == "log":
        # equal steps multiply by equal factors, which is how rates and weights are felt
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
