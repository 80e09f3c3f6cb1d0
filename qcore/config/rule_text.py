"""Rules: what to do when something shows, and how far automatic changes may go; text, one per line.

`when T1 is active: diversity_weight = 0.3` · `when train/grad_norm > 5 and eos_collapse is active for 20 steps:
learning_rate *= 0.5, clip_norm = 0.5; every 100 steps; at most 3 times` · `…: restore` puts the weights of the last
checkpoint before the trouble back. A limit is `learning_rate: 1e-5 .. 0.01, change x2, every 50 steps`; what it leaves
out is taken from the control's own range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from qcore.config.controls import Control
from qcore.config.errors import shorten
from qcore.config.fault_bank import FAULTS
from qcore.config.names import assignment, nearest_hint
from qcore.config.texts import TextLine, lines_of

Operator = Literal["=", "*=", "+="]
Comparison = Literal[">", "<", ">=", "<="]
RESTORE, PAUSE, CHECKPOINT = "restore", "pause", "checkpoint"
_VERBS = (RESTORE, PAUSE, CHECKPOINT)
LARGEST_FACTOR = 100.0
"""By how much an automatic change may multiply or divide a number on a logarithmic scale, unless a limit says so."""
COOL_DOWN = 25
"""Steps between two automatic changes of one control, unless a limit says so."""

_FINDING = re.compile(r"[A-Za-z]\w*(?::\w+)?")
_SERIES = re.compile(r"[A-Za-z]\w*(?:/\w+)+")
_EVERY, _TIMES = ("step", "steps"), ("time", "times")
_HOW_LIMIT = (
    "write control: LOW .. HIGH, change xFACTOR or ±DIFFERENCE, every N steps; such as 'learning_rate: 1e-5 .. 0.01, "
    "change x2, every 50 steps'"
)


@dataclass(frozen=True)
class IsActive:
    """A finding is active.

    Attributes:
        name: of a rule of detection.
        key: the term it is about, or empty for any.
    """

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
    line: TextLine = field(default=TextLine("", "", ""), compare=False)


@dataclass(frozen=True)
class Limit:
    """How far automatic changes of a control may go.

    Attributes:
        factor: largest × or ÷ of one change.
        delta: its largest difference.
        every: steps between two; None: as the control's range says.
    """

    name: str
    low: float | None = None
    high: float | None = None
    factor: float | None = None
    delta: float | None = None
    every: int | None = None
    line: TextLine = field(default=TextLine("", "", ""), compare=False)

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
    return tuple(map(_rule, lines_of("rule", lines)))


def parse_limits(lines: Iterable[str]) -> tuple[Limit, ...]:
    """The limits of a text; empty lines are skipped. `ConfigError` names a line that is none."""
    return tuple(map(_limit, lines_of("limit", lines)))


def _rule(line: TextLine) -> WhenRule:
    head, colon, rest = line.plain.partition(": ")
    words = head.split()
    if not colon or len(words) < 2 or words[0] != "when":
        raise line.refuse("write when CONDITION: control = value, such as 'when T1 is active: diversity_weight = 0.3'")
    lasting = 1
    if len(words) > 4 and words[-3] == "for" and words[-1] in _EVERY:
        lasting = line.whole(words[-2], "the number of steps,")
        words = words[:-3]
    conditions = tuple(_condition(line, part) for part in " ".join(words[1:]).split(" and "))
    first, *options = rest.split(";")
    actions, verbs = [], []
    for part in line.parts(first, ","):
        if part in _VERBS:
            verbs.append(part)
        else:
            actions.append(_action(line, part))
    # without a word on it a rule rests as long as any automatic change does
    every, times = COOL_DOWN, 1_000_000
    for option in options:
        match option.split():
            case ["every", number, unit] if unit in _EVERY:
                every = line.whole(number, "the number of steps,")
            case ["at", "most", number, unit] if unit in _TIMES:
                times = line.whole(number, "the number of times,")
            case _:
                text = shorten(option.strip(), 80)
                raise line.refuse(f"{text!r} is neither 'every N steps' nor 'at most N times'")
    return WhenRule(line.text, conditions, tuple(actions), tuple(verbs), max(1, lasting), max(1, every), times, line)


def _condition(line: TextLine, text: str) -> IsActive | Compared:
    match text.split():
        case [name, "is", "active"] if _FINDING.fullmatch(name):
            finding, _, key = name.partition(":")
            return IsActive(finding, key)
    # the first sign: what follows it must then be a number
    at = min((place for place in (text.find(">"), text.find("<")) if place > 0), default=-1)
    series = text[:at].strip() if at > 0 else ""
    if not _SERIES.fullmatch(series):
        raise line.refuse(
            f"{shorten(text.strip(), 80)!r} is not a condition; write 'NAME is active' with the name of a finding or "
            "the code of a fault, or 'series/name > number'"
        )
    sign = text[at : at + 2] if text[at + 1 : at + 2] == "=" else text[at]
    return Compared(series, sign, line.number(text[at + len(sign) :]))  # type: ignore[arg-type]


def _action(line: TextLine, text: str) -> Action:
    set_to = assignment(text, "*+")
    name = line.name(set_to.written if set_to else text)
    if not set_to or name is None or not set_to.value:
        hint = nearest_hint(text.strip(), _VERBS)
        raise line.refuse(
            f"{shorten(text.strip(), 80)!r} is not an action; write control = value, *= factor, += difference, or "
            f"one of {', '.join(_VERBS)}{hint}"
        )
    if set_to.sign != "=":
        line.number(set_to.value)
    return Action(name, set_to.sign, set_to.value)  # type: ignore[arg-type]


def _limit(line: TextLine) -> Limit:
    written, _, rest = line.plain.partition(":")
    name = line.name(written)
    if name is None or not rest.strip():
        raise line.refuse(_HOW_LIMIT)
    first, *parts = line.parts(rest, ",")
    values: dict[str, float | int] = {}
    if ".." in first:
        low, _, high = first.partition("..")
        high, _, more = high.strip().partition(" ")
        values = {"low": line.number(low), "high": line.number(high)}
        # `0 .. 1 every 50 steps`: without a comma the clause follows the upper bound
        parts = [more, *parts] if more else parts
    else:
        parts = [first, *parts]
    for part in parts:
        values.update([_clause(line, part)])
    if values.get("low", 0) > values.get("high", math.inf) or values.get("factor", 2) < 1 or values.get("delta", 0) < 0:
        raise line.refuse("LOW must not exceed HIGH, a factor is at least 1, a difference at least 0")
    return Limit(name, line=line, **values)  # type: ignore[arg-type]


def _clause(line: TextLine, text: str) -> tuple[str, float | int]:
    match text.split():
        case ["every", number, unit] if unit in _EVERY:
            return "every", line.whole(number, "the number of steps,")
        case ["change", *words]:
            change = "".join(words)
            for sign in ("x", "×", "±", "+-"):
                if change.startswith(sign):
                    return "factor" if sign in "x×" else "delta", line.number(change.removeprefix(sign))
    raise line.refuse(_HOW_LIMIT)


def finding_names(name: str) -> tuple[str, ...]:
    """The findings that a condition's name means: those of a fault's code, else the name itself."""
    case = FAULTS.get(name)
    return case.findings if case else (name,)
