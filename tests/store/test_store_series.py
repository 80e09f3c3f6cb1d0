"""Downsampling keeps its budget and hides neither spikes, gaps nor ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.store import Series
from qcore.store.series import MIN_POINTS

METHODS = ["minmax", "lttb", "minmaxlttb"]


def series_of(values: np.ndarray, steps: np.ndarray | None = None) -> Series:
    steps = np.arange(len(values)) if steps is None else steps
    return Series(steps, steps * 0.5, np.asarray(values, np.float64))


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=count)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spike", [1, 4999, 12_345, 19_998])
def test_a_spike_of_one_step_stays(method: str, spike: int) -> None:
    for height in (50.0, -50.0):
        values = noise(20_000)
        values[spike] = height
        thin = series_of(values).downsampled(100, method)
        assert len(thin) <= 100
        assert height in thin.values


def test_minmax_keeps_every_bucket_extreme() -> None:
    """A spike up and one down within each of 20 parts: all forty are drawn with eighty points."""
    values = noise(20_000)
    up, down = np.arange(300, 20_000, 1000), np.arange(330, 20_000, 1000)
    values[up], values[down] = 100.0 + np.arange(20), -100.0 - np.arange(20)
    thin = series_of(values).downsampled(82, "minmax")
    assert set(values[up]) | set(values[down]) <= set(thin.values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_gaps_stay_between_their_neighbours(method: str, hole: float) -> None:
    values = noise(50_000)
    for begin, end in [(100, 101), (2_000, 9_000), (30_000, 30_001)]:
        values[begin:end] = hole
    thin = series_of(values).downsampled(200, method)
    assert len(thin) <= 200
    assert thin.steps[~np.isfinite(thin.values)].tolist() == [100, 2_000, 30_000]


def test_a_series_full_of_gaps_shows_gaps_and_points_everywhere() -> None:
    values = noise(10_000)
    values[::2] = np.nan
    thin = series_of(values).downsampled(400)
    assert len(thin) <= 400
    for begin in range(0, 10_000, 1000):
        part = thin.values[(thin.steps >= begin) & (thin.steps < begin + 1000)]
        assert 9 <= np.isnan(part).sum() <= 11
        assert np.isfinite(part).sum() >= 20


@pytest.mark.parametrize("method", METHODS)
def test_ends_stay_and_points_are_the_originals(method: str) -> None:
    steps = np.cumsum(np.random.default_rng(1).integers(1, 400, size=9000))
    whole = series_of(noise(9000), steps)
    thin = whole.downsampled(64, method)
    assert (thin.steps[0], thin.steps[-1]) == (steps[0], steps[-1])
    at = np.searchsorted(whole.steps, thin.steps)
    assert np.array_equal(whole.values[at], thin.values)
    assert np.array_equal(whole.wall[at], thin.wall)


@pytest.mark.parametrize("method", [*METHODS, None])
@pytest.mark.parametrize("count", [0, 1, 2, 64])
def test_a_short_series_is_returned_whole(method: str | None, count: int) -> None:
    whole = series_of(noise(count))
    assert whole.downsampled(64, method) is whole


def test_nothing_but_holes() -> None:
    thin = series_of(np.full(5000, np.nan)).downsampled(50)
    assert 1 <= len(thin) <= 50
    assert np.isnan(thin.values).all()


@given(data=st.data(), count=st.integers(17, 600), points=st.integers(MIN_POINTS, 80), method=st.sampled_from(METHODS))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_budget_holds_and_steps_rise_for_any_series(
    data: st.DataObject, count: int, points: int, method: str
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    values = rng.normal(size=count)
    values[rng.random(count) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))] = np.nan
    steps = np.cumsum(rng.integers(1, data.draw(st.sampled_from([2, 5, 10**12])), size=count))
    thin = series_of(values, steps).downsampled(points, method)
    assert len(thin) <= max(points, 0)
    assert np.all(np.diff(thin.steps) > 0)
    assert np.isnan(thin.values).any() == np.isnan(values).any()
    finite = values[np.isfinite(values)]
    if len(finite):
        assert np.nanmax(thin.values) == finite.max()
        assert np.nanmin(thin.values) == finite.min()


def test_settings_are_checked() -> None:
    whole = series_of(noise(100))
    with pytest.raises(ValueError, match="max_points is 3"):
        whole.downsampled(3)
    with pytest.raises(ValueError, match="'m4'"):
        whole.downsampled(50, "m4")
