"""Rules: what to do when something shows, and how far automatic changes may go; text, one a line.

`when T1 is active: diversity_weight = 0.3` · `when train/grad_norm > 5 and eos_collapse is active for 20 steps:
learning_rate *= 0.5, clip_norm = 0.5; every 100 steps; at most 3 times` · `…: restore` puts the weights of the last
checkpoint before the trouble back. A limit is `learning_rate: 1e-5 .. 0.01, change x2, every 50 steps`; what it leaves
out is taken from the control's own range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qcore.config.controls import ConfigError, Control, nearest_hint
from qcore.config.faultbank import FAULTS

Operator = Literal["=", "*=", "+="]
Comparison = Literal[">", "<", ">=", "<="]
RESTORE, PAUSE, CHECKPOINT = "restore", "pause", "checkpoint"
_VERBS = (RESTORE, PAUSE, CHECKPOINT)
LARGEST_FACTOR = 100.0
"""By how much an automatic change may multiply or divide a number on a logarithmic scale, unless a limit says so."""
COOL_DOWN = 25
"""Steps between two automatic changes of one control, unless a limit says so."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RULE = re.compile(r"\s*when\s+(?P<conditions>.+?)(?:\s+for\s+(?P<lasting>\d+)\s+steps?)?\s*:\s+(?P<rest>\S.*?)\s*")
_ACTIVE = re.compile(r"\s*([A-Za-z]\w*)(?::(\w+))?\s+is\s+active\s*")
_COMPARED = re.compile(rf"\s*([A-Za-z]\w*(?:/\w+)+)\s*(>=|<=|>|<)\s*({_NUMBER})\s*")
_CHANGE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(\*=|\+=|=)\s*(\S.*?)\s*")
_EVERY = re.compile(r"\s*every\s+(\d+)\s+steps?\s*")
_AT_MOST = re.compile(r"\s*at\s+most\s+(\d+)\s+times?\s*")
_LIMIT = re.compile(rf"\s*([A-Za-z_][\w.]*)\s*:\s*(?:({_NUMBER})\s*\.\.\s*({_NUMBER}))?\s*((?:,?\s*[^,]+)*)\s*")
_FACTOR = re.compile(rf"\s*change\s+(?:x|×)\s*({_NUMBER})\s*")
_DELTA = re.compile(rf"\s*change\s+(?:±|\+-)\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class IsActive:
    """A finding is active. name: of a rule of detection · key: the term it is about, or empty for any."""

    name: str
    key: str = ""


@dataclass(frozen=True)
class Compared:
    """The newest value of a series against a number."""

    series: str
    comparison: Comparison
    limit: float

    def holds(self, value: float) -> bool:
        """Whether `value` satisfies it; a value that is not finite satisfies none."""
        if not math.isfinite(value):
            return False
        match self.comparison:
            case ">":
                return value > self.limit
            case "<":
                return value < self.limit
            case ">=":
                return value >= self.limit
            case _:
                return value <= self.limit


@dataclass(frozen=True)
class Action:
    """One change that a rule makes."""

    name: str
    operator: Operator
    value: str

    def target(self, old: float) -> object:
        """What the control becomes."""
        if self.operator == "=":
            return self.value
        return old * float(self.value) if self.operator == "*=" else old + float(self.value)


@dataclass(frozen=True)
class WhenRule:
    """One rule: all conditions hold for `lasting` steps in a row, then the verbs and actions, at most once in `every`
    steps and `times` times in all.
    """

    text: str
    conditions: tuple[IsActive | Compared, ...]
    actions: tuple[Action, ...]
    verbs: tuple[str, ...] = ()
    lasting: int = 1
    every: int = COOL_DOWN
    times: int = 1_000_000


@dataclass(frozen=True)
class Limit:
    """How far automatic changes of a control may go. factor: largest × or ÷ of one change · delta: its largest
    difference · every: steps between two; None: as the control's range says.
    """

    name: str
    low: float | None = None
    high: float | None = None
    factor: float | None = None
    delta: float | None = None
    every: int | None = None

    def allowed(self, control: Control, old: float, wanted: float) -> float:
        """The value nearest to `wanted` that bounds and largest change allow. A control on a logarithmic scale may
        change by a factor of 100 unless said otherwise; from 0, and on a linear scale, by its whole range.
        """
        low = control.low if self.low is None else self.low
        high = control.high if self.high is None else self.high
        assert low is not None
        assert high is not None
        factor = self.factor if self.factor is not None or control.scale == "linear" else LARGEST_FACTOR
        value = wanted
        if factor is not None and self.delta is None and old > 0:
            value = min(value, old * factor)
            value = max(value, old / factor) if wanted > 0 else value
        if self.delta is not None:
            value = min(max(value, old - self.delta), old + self.delta)
        value = min(max(value, low), high)
        return round(value) if control.kind == "int" else value


def parse_rules(lines: Iterable[str]) -> tuple[WhenRule, ...]:
    """The rules of a text; empty lines are skipped. `ConfigError` names a line that is none."""
    return tuple(_rule(line) for line in lines if line.strip())


def parse_limits(lines: Iterable[str]) -> tuple[Limit, ...]:
    """The limits of a text; empty lines are skipped. `ConfigError` names a line that is none."""
    return tuple(_limit(line) for line in lines if line.strip())


def _rule(line: str) -> WhenRule:
    found = _RULE.fullmatch(line)
    if found is None:
        raise ConfigError(
            f"rule {line.strip()!r} is refused: write when CONDITION: control = value, such as "
            "'when T1 is active: diversity_weight = 0.3'"
        )
    conditions = tuple(_condition(line, part) for part in re.split(r"\s+and\s+", found["conditions"]))
    first, *options = found["rest"].split(";")
    actions, verbs = [], []
    for part in first.split(","):
        if part.strip() in _VERBS:
            verbs.append(part.strip())
        else:
            actions.append(_action(line, part))
    every, times = COOL_DOWN, 1_000_000
    for option in options:
        if match := _EVERY.fullmatch(option):
            every = int(match[1])
        elif match := _AT_MOST.fullmatch(option):
            times = int(match[1])
        else:
            raise ConfigError(
                f"rule {line.strip()!r} is refused: {option.strip()!r} is neither 'every N steps' nor 'at most N times'"
            )
    return WhenRule(
        line.strip(), conditions, tuple(actions), tuple(verbs), max(1, int(found["lasting"] or 1)), max(1, every), times
    )


def _condition(line: str, text: str) -> IsActive | Compared:
    if match := _ACTIVE.fullmatch(text):
        return IsActive(match[1], match[2] or "")
    if match := _COMPARED.fullmatch(text):
        return Compared(match[1], match[2], float(match[3]))  # type: ignore[arg-type]
    raise ConfigError(
        f"rule {line.strip()!r} is refused: {text.strip()!r} is no condition; write 'NAME is active' with the name "
        "of a finding or the code of a fault, or 'series/name > number'"
    )


def _action(line: str, text: str) -> Action:
    match = _CHANGE.fullmatch(text)
    if match is None:
        hint = nearest_hint(text.strip(), _VERBS)
        raise ConfigError(
            f"rule {line.strip()!r} is refused: {text.strip()!r} is no action; write control = value, *= factor, "
            f"+= difference, or one of {', '.join(_VERBS)}{hint}"
        )
    if match[2] != "=" and re.fullmatch(_NUMBER, match[3]) is None:
        raise ConfigError(f"rule {line.strip()!r} is refused: {match[3]!r} is no number")
    return Action(match[1], match[2], match[3])  # type: ignore[arg-type]


def _limit(line: str) -> Limit:
    found = _LIMIT.fullmatch(line)
    values: dict[str, float | int] = {}
    if found is not None:
        if found[2] is not None:
            values = {"low": float(found[2]), "high": float(found[3])}
        for part in (part for part in found[4].split(",") if part.strip()):
            if match := _FACTOR.fullmatch(part):
                values["factor"] = float(match[1])
            elif match := _DELTA.fullmatch(part):
                values["delta"] = float(match[1])
            elif match := _EVERY.fullmatch(part):
                values["every"] = int(match[1])
            else:
                found = None
                break
    if found is None or not values:
        raise ConfigError(
            f"limit {line.strip()!r} is refused: write control: LOW .. HIGH, change xFACTOR or ±DIFFERENCE, every N "
            "steps; such as 'learning_rate: 1e-5 .. 0.01, change x2, every 50 steps'"
        )
    if values.get("low", 0) > values.get("high", math.inf) or values.get("factor", 2) < 1 or values.get("delta", 0) < 0:
        raise ConfigError(
            f"limit {line.strip()!r} is refused: LOW must not exceed HIGH, a factor is at least 1, a difference at "
            "least 0"
        )
    return Limit(found[1], **values)  # type: ignore[arg-type]


def finding_names(name: str) -> tuple[str, ...]:
    """The findings that a condition's name means: those of a fault's code, else the name itself."""
    case = FAULTS.get(name)
    return case.findings if case else (name,)
