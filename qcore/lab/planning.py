"""What a run will do by itself: the numbers that its schedule moves, and the learning rate of every update to come.

The rate that is used is the policy's (`train.schedule`: warm-up, cosine) over the controls as they will be, so a
scheduled peak is multiplied, not taken. Before now stands what was recorded: a plan does not rewrite the past. Rules,
the autopilot and people may still change everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.config import ConfigError, Ramp, RunConfig, Schedule, check_schedule, find_control
from qcore.store import Event
from qcore.train.schedule import learning_rate

RATE = "train/lr"
MAX_POINTS = 2000
_SCHEDULE = "schedule"
_RAMP_POINTS = 100


@dataclass(frozen=True)
class Course:
    """A number over steps; what lies after step `now` is planned."""

    steps: list[int]
    values: list[float]
    now: int


def board_now(config: RunConfig, events: Iterable[Event], step: int) -> dict[str, Any]:
    """The live controls after what happened up to a step."""
    board = config.live_values()
    for event in events:
        if event.kind == "control" and event.step <= step and event.payload["name"] in board:
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

    recorded: steps and values of `RATE` and `control/<name>` up to now · lines: a schedule to try in place of the one
    in force. `ConfigError` for lines that cannot be read.
    """
    board = board_now(config, events, now)
    if lines is not None:
        board[_SCHEDULE] = list(lines)
    schedule = check_schedule(board[_SCHEDULE], config.kind)
    written = [change.name for change in schedule.changes] + [ramp.name for ramp in schedule.ramps]
    moved = [
        name
        for name in dict.fromkeys(find_control(name, config.kind).name for name in written)
        if find_control(name, config.kind).kind in ("float", "int")
    ]
    past = {name: _past(config, events, now, name, recorded.get(f"control/{name}")) for name in moved}
    rates = [(step, value) for step, value in zip(*recorded.get(RATE, ((), ())), strict=True) if step <= now]
    total = int(board["steps"])
    for step, values in _ahead(config.kind, board, schedule, events, now, _visited(now, total, schedule, board)):
        if step < int(values["steps"]):
            rates.append((step + 1, learning_rate(step + 1, values)))
        for name in moved:
            past[name].append((step, float(values[name])))
    found = {RATE: _course(rates, now)}
    return found | {name: _course(points, now) for name, points in past.items()}


def tried_rates(
    config: RunConfig, made: Iterable[tuple[int, str, Any]], lines: Sequence[str], last: int
) -> tuple[list[int], list[float]]:
    """The learning rate of every update up to `last` with changes (step, control, value) made, in their order, and the
    ways of a schedule walked: what a dry run would have trained with."""
    board, by_step = config.live_values(), dict[int, list[tuple[str, Any]]]()
    for step, name, value in made:
        if name in board:
            by_step.setdefault(step, []).append((name, value))
    ramps = check_schedule(list(lines), config.kind).ramps
    rates = []
    for step in range(last):
        for name, value in by_step.get(step, ()):
            board[name] = value
        for ramp in ramps:
            start, end = ramp.span(int(board["steps"]))
            if start <= step <= end:
                board[find_control(ramp.name, config.kind).name] = _reached(ramp, step, board, config.kind)
        rates.append(learning_rate(step + 1, board))
    return list(range(1, last + 1)), rates


def _past(
    config: RunConfig, events: Sequence[Event], now: int, name: str, ramps: tuple[Sequence[int], Sequence[float]] | None
) -> list[tuple[int, float]]:
    """Corners of a control's course up to now, ways that were walked included."""
    points = [(0, float(config.value(name)))]
    walked = dict(zip(*ramps, strict=True)) if ramps is not None else {}
    changes = [event for event in events if event.kind == "control" and event.payload["name"] == name]
    for event in changes:
        if event.step <= now:
            points += [(event.step, float(event.payload["old"])), (event.step, float(event.payload["new"]))]
    points += [(int(step), float(value)) for step, value in walked.items() if step <= now]
    return sorted(points, key=lambda point: point[0])


def _visited(now: int, total: int, schedule: Schedule, board: Mapping[str, Any]) -> list[int]:
    """Steps to look at: all of them when they are few, else the corners and as many between as a chart has room for."""
    if total - now <= MAX_POINTS:
        return list(range(now, total + 1))
    corners = {now, total, int(board["warmup_steps"]), int(board["warmup_steps"]) + 1}
    for point in schedule.changes:
        corners |= {point.step(total) - 1, point.step(total), point.step(total) + 1}
    for ramp in schedule.ramps:
        start, end = ramp.span(total)
        corners |= {
            start - 1,
            *(start + round((end - start) * part / _RAMP_POINTS) for part in range(_RAMP_POINTS + 1)),
        }
    corners |= {now + round((total - now) * part / MAX_POINTS) for part in range(MAX_POINTS)}
    return sorted(step for step in corners if now <= step <= total)


def _ahead(
    kind: str, board: dict[str, Any], schedule: Schedule, events: Sequence[Event], now: int, visited: Iterable[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The board after each visited number of updates, as the trainer will have it: points of the schedule at their
    steps, then its ways, where nobody has taken the control over."""
    before = now - 1
    for step in visited:
        total = int(board["steps"])
        for point in schedule.changes:
            at = point.step(total)
            if before < at <= step:
                name, value = _checked(point.name, point.value, kind)
                if name and not (at == now and _made(events, now, name, value)):
                    board[name] = value
        for ramp in schedule.ramps:
            start, end = ramp.span(total)
            name = find_control(ramp.name, kind).name
            if start <= step and before < end and not _taken_over(events, name, start, end):
                board[name] = _reached(ramp, min(step, end), board, kind)
        before = step
        yield step, board


def _checked(name: str, value: Any, kind: str) -> tuple[str, Any]:
    """A scheduled change in its declared form; an empty name where the run will refuse it."""
    control = find_control(name, kind)
    try:
        return control.name, control.check(value)
    except ConfigError:
        return "", None


def _reached(ramp: Ramp, step: int, board: Mapping[str, Any], kind: str) -> Any:
    control, value = find_control(ramp.name, kind), ramp.value(step, int(board["steps"]))
    return control.check(round(value) if control.kind == "int" else value)


def _made(events: Iterable[Event], step: int, name: str, value: Any) -> bool:
    return any(
        event.kind == "control"
        and event.step == step
        and event.author == _SCHEDULE
        and event.payload["name"] == name
        and event.payload["new"] == value
        for event in events
    )


def _taken_over(events: Iterable[Event], name: str, start: int, end: int) -> bool:
    """Whether anything but the schedule has changed a control on its way: the way is then left."""
    return any(
        event.kind == "control"
        and event.payload["name"] == name
        and start <= event.step <= end
        and event.author != _SCHEDULE
        for event in events
    )


def _course(points: Sequence[tuple[int, float]], now: int) -> Course:
    return Course([step for step, _ in points], [value for _, value in points], now)
