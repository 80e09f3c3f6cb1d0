"""A scalar series read back, its merging, and its downsampling for a chart.

Downsampling must not lie: NaN and infinite points stay visible as gaps, the first and the last point are always kept,
and the default method keeps the minimum and the maximum of every bucket, so a spike of a single step cannot vanish.
`lttb` and `minmaxlttb` draw smoother lines; to them the series' overall extremes are added.
"""

from dataclasses import dataclass

import numpy as np
from tsdownsample import LTTBDownsampler, MinMaxDownsampler, MinMaxLTTBDownsampler

MIN_POINTS = 16
_METHODS = {
    "minmax": MinMaxDownsampler(),
    "lttb": LTTBDownsampler(),
    "minmaxlttb": MinMaxLTTBDownsampler(),
}


@dataclass(frozen=True, eq=False)
class Series:
    """Points of one scalar, sorted by step, one a step.

    `steps` int64[n], `wall` float64[n] (epoch seconds), `values` float64[n].

    Attributes:
        counted: of a downsampled series, how many values of the whole one are not finite, of how many; None of a whole
            series.
    """

    steps: np.ndarray
    wall: np.ndarray
    values: np.ndarray
    counted: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def merged(self, newer: "Series") -> "Series":
        """This series with the points of `newer` (a tail read) added; at equal steps the one written last stays."""
        return join_sorted([(self.steps, self.wall, self.values), (newer.steps, newer.wall, newer.values)])

    def downsampled(self, max_points: int, method: str | None = "minmax") -> "Series":
        """At most `max_points` of the points (all when there are no more than that, or when `method` is None).

        Gaps: each stretch of non-finite points is kept as its first point, and the last such point of all. When these
        stretches would take more than a quarter of the budget, the steps are cut into that many equal parts and each
        part keeps its first stretch. `counted` says how many there are.

        Raises:
            ValueError: when `max_points` is below 16 or `method` is unknown.
        """
        if max_points < MIN_POINTS:
            raise ValueError(f"max_points is {max_points}: it must be at least {MIN_POINTS}")
        if method is not None and method not in _METHODS:
            raise ValueError(f"method {method!r} is not one of {', '.join(_METHODS)} or None")
        if method is None or len(self) <= max_points:
            return self
        keep = _selection(self.steps, self.values, max_points, method)
        counted = int((~np.isfinite(self.values)).sum()), len(self)
        return Series(self.steps[keep], self.wall[keep], self.values[keep], counted)


def join_sorted(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Series:
    """Join (steps, wall, values) parts into one series, sorted by step; at equal steps the latest `wall` wins.

    The writer makes `wall` strictly increasing, so "latest wall" is exactly "written last", across layouts too.
    """
    if not parts:
        return Series(np.empty(0, np.int64), np.empty(0), np.empty(0))
    steps, wall, values = (
        np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)
    )
    if not np.all(steps[1:] > steps[:-1]):
        order = np.lexsort((wall, steps))
        order = order[np.append(np.diff(steps[order]) != 0, True)]
        steps, wall, values = steps[order], wall[order], values[order]
    return Series(steps, wall, values)


def _selection(steps: np.ndarray, values: np.ndarray, max_points: int, method: str) -> np.ndarray:
    is_finite = np.isfinite(values)
    finite: np.ndarray | None = None
    gaps = np.empty(0, np.int64)
    if not is_finite.all():
        finite = np.flatnonzero(is_finite)
        starts = ~is_finite
        starts[1:] &= is_finite[:-1]
        gaps = _spread_points(np.flatnonzero(starts), steps, max_points // 4 - 1)
        gaps = np.append(gaps, np.flatnonzero(~is_finite)[-1:])
    ends = np.array([0, len(steps) - 1])
    budget = max_points - len(gaps) - len(ends)
    chosen = np.sort(np.concatenate([ends, gaps, _finite_selection(finite, steps, values, budget, method)]))
    return chosen[_first_of_each(chosen)]


def _first_of_each(rising: np.ndarray) -> np.ndarray:
    """Which elements of a sorted array differ from the one before (`np.unique` would import numpy.ma: 40 ms)."""
    return np.append(True, rising[1:] != rising[:-1])


def _spread_points(points: np.ndarray, steps: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of the indices `points`: the first in each of `limit` equal parts of the step range."""
    if len(points) <= limit:
        return points
    position = (steps[points] - steps[0]).astype(np.float64) / (float(steps[-1]) - float(steps[0]) + 1.0)
    return points[_first_of_each((position * limit).astype(np.int64))][:limit]


def _finite_selection(
    finite: np.ndarray | None, steps: np.ndarray, values: np.ndarray, budget: int, method: str
) -> np.ndarray:
    """Indices of at most `budget` finite points. `finite` None means that all are."""
    x, y = (steps, values) if finite is None else (steps[finite], values[finite])
    if len(y) <= budget:
        chosen = np.arange(len(y))
    elif method == "minmax":
        chosen = _METHODS[method].downsample(np.ascontiguousarray(x), np.ascontiguousarray(y), n_out=budget // 2 * 2)
    else:
        inner = _METHODS[method].downsample(np.ascontiguousarray(x), np.ascontiguousarray(y), n_out=budget - 2)
        chosen = np.append(inner.astype(np.int64), [y.argmin(), y.argmax()])
    chosen = chosen.astype(np.int64)
    return chosen if finite is None else finite[chosen]
