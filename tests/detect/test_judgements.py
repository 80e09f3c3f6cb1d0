"""What the detectors' table says beyond findings: healthy ranges, the map of cuts, motions of the exact flow."""

import math

import numpy as np
import pytest

from qcore.detect import RULES, Watch, causality_of, healthy_range, motion_choice
from qcore.detect.healthy import _LIMITS, threshold
from qcore.probes import catalog
from tests.detect import streams, video_streams

TABLE = {rule.name: rule for rule in RULES}
TOGETHER = {catalog.PHASE_R, catalog.PHASE_DIMENSION_VARIANCE}
"""Judged with one another, so that alone neither is a finding."""


@pytest.mark.parametrize("series", _LIMITS)
def test_a_healthy_range_is_that_of_a_rule_that_reads_the_series(series):
    rule, low, high = _LIMITS[series]
    assert TABLE[rule].keeps_series(series)
    assert healthy_range(series) == (
        TABLE[rule].thresholds[low] if low else None,
        TABLE[rule].thresholds[high] if high else None,
    )


@pytest.mark.parametrize("series", [name for name in _LIMITS if name not in TOGETHER])
def test_outside_its_range_a_series_is_a_finding_and_inside_none(series):
    low, high = healthy_range(series)
    rule = _LIMITS[series][0]
    text = "text" in TABLE[rule].families
    run = streams if text else video_streams

    def found(value):
        watch = Watch(run.facts())
        return {one.name for step in (1, 2, 3) for one in watch.observe(step, {series: value}, run.weights())}

    assert rule in found(low * 0.99 if low is not None else high * 1.01)
    assert rule not in found(low * 1.01 if low is not None else high * 0.99)


def test_what_is_judged_against_the_run_itself_has_no_range():
    assert healthy_range(catalog.EVAL_CE) is None
    assert healthy_range("nobody/declared_it") is None


def test_the_verdict_of_a_causal_model_a_leak_rounding_and_a_deaf_one():
    cuts = [0, 2]
    causal = np.array([[0, 1, 2, 3], [0, 0, 0, 5.0]])
    assert causality_of(cuts, causal).verdict == "causal"
    assert causality_of(cuts, causal).later == 5
    leak = causal + np.array([[0, 0, 0, 0], [0, 0, 0.5, 0]])
    found = causality_of(cuts, leak)
    assert (found.verdict, found.early_cells, found.early, found.leak) == ("leak", 1, 0.5, 0.1)
    assert causality_of(cuts, causal + np.array([[1e-9, 0, 0, 0], [0] * 4])).verdict == "rounding"
    assert causality_of(cuts, np.zeros((2, 4))).verdict == "ignored"


def test_the_map_and_the_finding_have_one_limit():
    limit = threshold("future_leak", "leak")
    assert causality_of([1], [[0, limit, 1.0]]).verdict == "rounding"
    assert causality_of([1], [[0, math.nextafter(limit, 1), 1.0]]).verdict == "leak"


def test_only_what_must_not_move_moving_or_an_unknown_change_is_a_leak():
    only_early = causality_of([2], [[0.1, 0, 0, 0]])
    assert (only_early.verdict, only_early.leak) == ("leak", np.inf)
    assert causality_of([2], [[np.nan, 0, 0, 1.0]]).verdict == "leak"


@pytest.mark.parametrize(
    ("distinct", "correlation", "choice"),
    [(3, 0.0, "one"), (4, 0.0, "few"), (31, 1.0, "few"), (32, 1.0, "remembered"), (32, 0.9, "chance")],
)
def test_who_chose_the_motions_of_64_samples(distinct, correlation, choice):
    assert motion_choice(distinct, 64, correlation) == choice
