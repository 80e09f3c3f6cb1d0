"""Paired statistics against the tables of Student's t and of its power."""

import math
import statistics

import pytest

from qcore.experiments.statistics import paired_difference, paired_power, pairs_needed, t_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 30, 2.042),
        (0.975, 120, 1.980),
        (0.95, 5, 2.015),
        (0.995, 10, 3.169),
        (0.9995, 2, 31.599),
        (0.6, 7, 0.263),
    ],
)
def test_quantiles_are_those_of_the_table(probability, freedom, value):
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=6e-4)
    assert t_quantile(1 - probability, freedom) == pytest.approx(-value, abs=6e-4)


def test_quantiles_reach_the_normal_and_cauchy():
    assert t_quantile(0.975, 1e7) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-6)
    assert t_quantile(0.8, 1) == pytest.approx(math.tan(math.pi * 0.3), rel=1e-12)
    assert t_quantile(0.5, 3) == 0
    with pytest.raises(ValueError, match="probability = 1"):
        t_quantile(1, 3)


def test_a_worked_example():
    found = paired_difference([0.1, 0.2, 0.15])
    assert found.mean == pytest.approx(0.15)
    assert (found.low, found.high) == pytest.approx((0.15 - 4.302653 * 0.05 / 3**0.5, 0.15 + 4.302653 * 0.05 / 3**0.5))
    assert found.p == pytest.approx(0.035099, abs=1e-6)
    assert (found.n, found.needed, found.detected) == (3, 4, True)
    wider = paired_difference([0.1, 0.2, 0.15], 0.99)
    assert wider.low < 0 < found.low
    assert not wider.detected
    mirrored = paired_difference([-0.1, -0.2, -0.15])
    assert (mirrored.mean, mirrored.high, mirrored.p) == pytest.approx((-found.mean, -found.low, found.p))


def test_limits_one_pair_equal_differences_and_nothing():
    one = paired_difference([0.3])
    assert (one.mean, one.low, one.high, one.p, one.needed, one.detected) == (
        0.3,
        -math.inf,
        math.inf,
        1.0,
        None,
        False,
    )
    same = paired_difference([0.1, 0.1, 0.1])
    assert (same.low, same.high, same.p, same.needed) == (same.mean, same.mean, 0.0, 2)
    none = paired_difference([0.0, 0.0])
    assert (none.mean, none.p, none.needed, none.detected) == (0.0, 1.0, None, False)
    for bad in ([], [math.nan, 1.0], [math.inf]):
        with pytest.raises(ValueError, match="difference"):
            paired_difference(bad)
    with pytest.raises(ValueError, match="confidence = 95"):
        paired_difference([1.0, 2.0], 95)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_pairs_needed_for_80_percent_power_are_the_published_ones(effect, pairs):
    assert pairs_needed(effect) == pairs_needed(-effect) == pairs
    assert paired_power(effect, pairs - 1) < 0.8 <= paired_power(effect, pairs)


def test_power_is_the_level_without_an_effect_and_grows_with_it():
    for n in (2, 3, 5, 20):
        assert paired_power(0.0, n) == pytest.approx(0.05, abs=1e-6)
        assert paired_power(0.5, n) < paired_power(1.0, n) < paired_power(3.0, n)
    assert paired_power(2.0, 3) == pytest.approx(0.470749, abs=1e-5)
    assert pairs_needed(0.0) is None
    assert pairs_needed(1e-4) is None
    assert [paired_power(effect, n) for effect, n in ((0.01, 10**6), (3.0, 100), (10.0, 10))] == pytest.approx(
        [1.0] * 3
    )
