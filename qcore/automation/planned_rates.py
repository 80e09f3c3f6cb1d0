"""What a run will do by itself: the numbers that its schedule moves, and the learning rate of every update to come.

The rate that is used is the policy's (`train.schedule`: warm-up, cosine) over the controls as they will be, so a
scheduled peak is multiplied, not taken. Before now stands what was recorded: a plan does not rewrite the past. Rules,
the autopilot and people may still change everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.automation.learning_rate import learning_rate
from qcore.config import ConfigError, Ramp, RunConfig, Schedule, ScheduledChange, check_schedule, find_control
from qcore.probes import catalog
from qcore.runs.control_changes import changes_that_hold
from qcore.store import Event

RATE = catalog.TRAIN_LR
MAX_POINTS = 2000
_SCHEDULE = "schedule"
_RAMP_POINTS = 100
_MOST_LENGTHS = 8
"""Lengths that a run has been given whose corners are looked at, the newest ones."""


@dataclass(frozen=True)
class Course:
    """A number over steps; what lies after step `now` is planned."""

    steps: list[int]
    values: list[float]
    now: int


def board_at(config: RunConfig, events: Iterable[Event], step: int) -> dict[str, Any]:
    """The live controls after what happened up to a step."""
    board = config.live_values()
    for event in changes_that_hold(config, events):
        if event.step <= step:
            board[event.payload["name"]] = event.payload["new"]
    return board


def planned_courses(
    config: RunConfig,
    events: Sequence[Event],
    now: int,
    recorded: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    lines: Sequence[str] | None = None,
) -> dict[str, Course]:
    """The learning rate that was used and will be, by `RATE`, and every number that the schedule moves, by name.

    Args:
        recorded: steps and values of `RATE` and `control/<name>` up to now.
        lines: a schedule to try in place of the one in force.

    Raises:
        ConfigError: for lines that cannot be read.
    """
    events = list(changes_that_hold(config, events))
    board = board_at(config, events, now)
    if lines is not None:
        board[_SCHEDULE] = list(lines)
    schedule = check_schedule(board[_SCHEDULE], config.kind)
    named = [*(change.name for change in schedule.changes), *(ramp.name for ramp in schedule.ramps)]
    # a switch has no course that could be drawn
    moved = [name for name in dict.fromkeys(named) if find_control(name, config.kind).kind in ("float", "int")]
    past = {name: _past_course(config, events, now, name, recorded.get(catalog.control(name))) for name in moved}
    rates = [(step, value) for step, value in zip(*recorded.get(RATE, ((), ())), strict=True) if step <= now]
    total = int(board["steps"])
    for step, values in _future_boards(
        config.kind, board, schedule, events, now, _steps_to_visit(now, total, schedule, board, total)
    ):
        # the schedule itself may shorten the run on the way
        if step < int(values["steps"]):
            rates.append((step + 1, learning_rate(step + 1, values)))
        for name in moved:
            past[name].append((step, float(values[name])))
    found = {RATE: _course(rates, now)}
    return found | {name: _course(points, now) for name, points in past.items()}


def dry_run_rates(
    config: RunConfig, made: Iterable[tuple[int, str, Any]], lines: Sequence[str], last: int
) -> tuple[list[int], list[float]]:
    """The learning rate of updates up to `last` with changes (step, control, value) made, in their order, and the ways
    of a schedule walked: what a dry run would have trained with. Of a short run every update, of a long one the corners
    and as many between as a chart has room for.
    """
    board = config.live_values()
    changes = deque((step, name, value) for step, name, value in made if name in board)
    schedule = check_schedule(list(lines), config.kind)
    ways = _ScheduleSpans(schedule, config.kind, lambda *_: False)
    # a change of `steps` moves every share of the schedule: the corners of each length are looked at
    lengths = [int(board["steps"]), *(int(value) for _, name, value in changes if name == "steps")]
    totals = set(lengths[-_MOST_LENGTHS:])
    visited = {step for total in totals for step in _steps_to_visit(0, last - 1, schedule, board, total)}
    # one step before a change and the change: a jump is drawn as a jump
    visited |= {at + beside for at, _, _ in changes for beside in (-1, 0) if 0 <= at + beside < last}
    rates, before = [], -1
    for step in (steps := sorted(visited)):
        while changes and changes[0][0] <= step:
            _, name, value = changes.popleft()
            board[name] = value
        total = int(board["steps"])
        for name, (ramp, end) in ways.ramps_between(step, before, total).items():
            board[name] = reached_value(ramp, min(step, end), total, config.kind)
        rates.append(learning_rate(step + 1, board))
        before = step
    return [step + 1 for step in steps], rates


class _ScheduleSpans:
    """A schedule's points and ways over ascending steps. The last line that moves a control at a step is the one that
    counts, so a thousand lines cost a look at each, not a thousand values.

    Attributes:
        is_left: asked (name, first and last step) once for each way, whether somebody has taken its control over.
    """

    def __init__(self, schedule: Schedule, kind: str, is_left: Callable[[str, int, int], bool]) -> None:
        self._schedule, self._kind, self._is_left = schedule, kind, is_left
        self._total = -1
        self._points: list[tuple[int, ScheduledChange]] = []
        self._spans: list[tuple[int, int, str, Ramp]] = []
        self._left: dict[tuple[str, int, int], bool] = {}

    def points(self, step: int, before: int, total: int) -> list[tuple[int, ScheduledChange]]:
        """What is due after step `before` and not later than `step`, in the order of the lines."""
        self._place(total)
        return [(at, point) for at, point in self._points if before < at <= step]

    def ramps_between(self, step: int, before: int, total: int) -> dict[str, tuple[Ramp, int]]:
        """Control → the way that moves it, with its last step, of those that began by `step` and end after `before`."""
        self._place(total)
        found: dict[str, tuple[Ramp, int]] = {}
        for start, end, name, ramp in self._spans:
            if start <= step and before < end and not self._is_overridden(name, start, end):
                found[name] = ramp, end
        return found

    def _place(self, total: int) -> None:
        if total == self._total:
            return
        self._total = total
        self._points = [(point.step(total), point) for point in self._schedule.changes]
        self._spans = [
            (*ramp.span(total), find_control(ramp.name, self._kind).name, ramp) for ramp in self._schedule.ramps
        ]

    def _is_overridden(self, *way: Any) -> bool:
        if way not in self._left:
            self._left[way] = self._is_left(*way)
        return self._left[way]


def _past_course(
    config: RunConfig, events: Sequence[Event], now: int, name: str, ramps: tuple[Sequence[int], Sequence[float]] | None
) -> list[tuple[int, float]]:
    """Corners of a control's course up to now, ways that were walked included."""
    points = [(0, float(config.value(name)))]
    walked = dict(zip(*ramps, strict=True)) if ramps is not None else {}
    for event in events:
        if event.payload["name"] == name and event.step <= now:
            # old and new at the same step: the course is a step, not a slope
            points += [(event.step, float(event.payload["old"])), (event.step, float(event.payload["new"]))]
    points += [(int(step), float(value)) for step, value in walked.items() if step <= now]
    return sorted(points, key=lambda point: point[0])


def _steps_to_visit(now: int, last: int, schedule: Schedule, board: Mapping[str, Any], total: int) -> list[int]:
    """Steps from `now` to `last` to look at: all of them when they are few, else the corners and as many between as a
    chart has room for.

    Args:
        total: steps of the run, of which a schedule's shares are.
    """
    if last - now <= MAX_POINTS:
        return list(range(now, last + 1))
    corners = {now, last, int(board["warmup_steps"]), int(board["warmup_steps"]) + 1}
    for point in schedule.changes:
        corners |= {point.step(total) - 1, point.step(total), point.step(total) + 1}
    parts = max(1, min(_RAMP_POINTS, MAX_POINTS // max(1, len(schedule.ramps))))
    for ramp in schedule.ramps:
        start, end = ramp.span(total)
        # a way that is not straight needs points between its ends
        corners |= {start - 1, *(start + round((end - start) * part / parts) for part in range(parts + 1))}
    corners |= {now + round((last - now) * part / MAX_POINTS) for part in range(MAX_POINTS)}
    return sorted(step for step in corners if now <= step <= last)


def _future_boards(
    kind: str, board: dict[str, Any], schedule: Schedule, events: Sequence[Event], now: int, visited: Iterable[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The board after each visited number of updates, as the trainer will have it: points of the schedule at their
    steps, then its ways, where nobody has taken the control over.
    """
    before = now - 1
    ways = _ScheduleSpans(schedule, kind, lambda name, start, end: _is_taken_over(events, name, start, end))
    for step in visited:
        total = int(board["steps"])
        for at, point in ways.points(step, before, total):
            name, value = _checked_change(point.name, point.value, kind)
            if name and not (at == now and _has_set(events, now, name, value)):
                board[name] = value
        for name, (ramp, end) in ways.ramps_between(step, before, total).items():
            board[name] = reached_value(ramp, min(step, end), total, kind)
        before = step
        yield step, board


def _checked_change(name: str, value: Any, kind: str) -> tuple[str, Any]:
    """A scheduled change in its declared form; an empty name where the run will refuse it."""
    control = find_control(name, kind)
    try:
        return control.name, control.check(value)
    except ConfigError:
        return "", None


def reached_value(ramp: Ramp, step: int, total: int, kind: str) -> Any:
    """What a way of a schedule has made of its control at a step of a run of `total` steps."""
    control, value = find_control(ramp.name, kind), ramp.value(step, total)
    return control.check(round(value) if control.kind == "int" else value)


def _has_set(events: Iterable[Event], step: int, name: str, value: Any) -> bool:
    return any(
        event.step == step
        and event.author == _SCHEDULE
        and event.payload["name"] == name
        and event.payload["new"] == value
        for event in events
    )


def _is_taken_over(events: Iterable[Event], name: str, start: int, end: int) -> bool:
    """Whether anything but the schedule has changed a control on its way: the way is then left."""
    return any(
        event.payload["name"] == name and start <= event.step <= end and event.author != _SCHEDULE for event in events
    )


def _course(points: Sequence[tuple[int, float]], now: int) -> Course:
    return Course([step for step, _ in points], [value for _, value in points], now)
