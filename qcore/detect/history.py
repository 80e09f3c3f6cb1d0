"""A bounded memory of every series that a rule reads, for the charts of its evidence.

A track keeps the newest measurements one by one and the older ones thinned by a growing power of two, so that a run of
any length costs the same, and a chart shows both how it was and how it went wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from qcore.detect.finding import side_of

CHART_POINTS = 60
_RECENT = CHART_POINTS
_OLDER = 2 * CHART_POINTS


class Track:
    """One series: at most 120 thinned points over its whole life and the newest 60."""

    __slots__ = ("_count", "_older", "_recent", "_stride")

    def __init__(self) -> None:
        self._count = 0
        self._stride = 1
        self._older: list[tuple[int, float]] = []
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)

    def __len__(self) -> int:
        return len(self._older) + len(self._recent)

    def add(self, step: int, value: float) -> None:
        """Take a measurement. A second one of the same step replaces the first; an earlier step than the newest is
        left out (a run that went back starts from the state that was saved with it).
        """
        if self._recent and step <= self._recent[-1][0]:
            if step == self._recent[-1][0]:
                self._recent[-1] = (step, value)
            return
        if self._count % self._stride == 0:
            self._older.append((step, value))
            if len(self._older) == _OLDER:
                del self._older[1::2]
                self._stride *= 2
        self._count += 1
        self._recent.append((step, value))

    @property
    def newest(self) -> tuple[int, float] | None:
        """Step and value of the newest measurement."""
        return self._recent[-1] if self._recent else None

    def line(self) -> list[tuple[int, float]]:
        """At most 60 points in order of step: all there are, or the older ones thinned to 30 and the newest 30."""
        if self._count <= _RECENT:
            return list(self._recent)
        half = CHART_POINTS // 2
        newest = list(self._recent)[-half:]
        older = [point for point in self._older if point[0] < newest[0][0]]
        return [older[i * len(older) // half] for i in range(min(half, len(older)))] + newest

    def state(self) -> dict[str, Any]:
        """JSON-able; `restore` gives an equal track."""
        return {"count": self._count, "stride": self._stride, "older": list(self._older), "recent": list(self._recent)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Track:
        """The track whose state it was. Raises what a value of another type raises, ValueError for other counts."""
        track = cls()
        track._count, track._stride = int(state["count"]), int(state["stride"])
        if track._count < 0 or track._stride < 1:
            raise ValueError(f"a track of {track._count} points, every {track._stride}. one kept, cannot be")
        track._older = [(int(step), float(value)) for step, value in state["older"]]
        track._recent.extend((int(step), float(value)) for step, value in state["recent"])
        return track


class History:
    """The tracks of a run, by series."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}

    def __len__(self) -> int:
        return sum(len(track) for track in self._tracks.values())

    def add(self, name: str, step: int, value: float) -> None:
        """Take a measurement of one series."""
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = Track()
        track.add(step, value)

    def newest(self, name: str) -> tuple[int, float] | None:
        """Step and value of the newest measurement of a series; None when there is none."""
        return self._tracks[name].newest if name in self._tracks else None

    def before(self, name: str, step: int) -> float | None:
        """The newest value of a series from before `step`; None when there is none."""
        points = reversed(self._tracks[name].line()) if name in self._tracks else ()
        return next((value for at, value in points if at < step), None)

    def at(self, name: str, step: int, since: int = 0) -> float | None:
        """The newest value of a series from `step` or before it, but not from before `since`; None without one."""
        points = reversed(self._tracks[name].line()) if name in self._tracks else ()
        return next((value for at, value in points if since <= at <= step), None)

    def chart(
        self, title: str, y_title: str, lines: Mapping[str, str], limit: float | None = None
    ) -> dict[str, Any] | None:
        """A figure of the evidence, `lines` from label to series; None when no series has two points to join."""
        drawn = []
        for label, series in lines.items():
            points = self._tracks[series].line() if series in self._tracks else []
            if len(points) > 1:
                steps, values = (list(column) for column in zip(*points, strict=True))
                drawn.append({"name": label, "steps": steps, "values": values})
        if not drawn:
            return None
        held = {"limit": None, "side": ""} if limit is None else {"limit": float(limit), "side": side_of(limit)}
        return {"title": title, "y_title": y_title, "lines": drawn, **held}

    def state(self) -> dict[str, Any]:
        """JSON-able; see `restore`."""
        return {name: track.state() for name, track in self._tracks.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace all tracks by those of `state`."""
        self._tracks = {name: Track.restore(track) for name, track in state.items()}
