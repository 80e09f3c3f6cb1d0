"""The learning rate: analytic values at the joints, and a live change takes effect at the next step."""

import math
from itertools import pairwise

import pytest

from qcore.automation.learning_rate import learning_rate

BASE = {
    "lr_policy": "cosine",
    "learning_rate": 1e-2,
    "manual_learning_rate": 5e-4,
    "warmup_steps": 9,
    "min_lr_ratio": 0.1,
    "steps": 109,
}


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 1e-3), (5, 5e-3), (9, 9e-3), (59, 1e-2 * 0.55), (109, 1e-3), (500, 1e-3)],
)
def test_cosine_with_warmup(step, expected):
    assert learning_rate(step, BASE) == pytest.approx(expected)


def test_it_never_jumps():
    rates = [learning_rate(step, BASE) for step in range(1, 110)]
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 1e-3 + 1e-12
    assert max(rates) <= 1e-2


def test_constant_and_manual():
    assert learning_rate(3, {**BASE, "lr_policy": "constant"}) == pytest.approx(3e-3)
    assert learning_rate(400, {**BASE, "lr_policy": "constant"}) == 1e-2
    assert learning_rate(1, {**BASE, "lr_policy": "manual"}) == 5e-4


def test_edges_are_finite():
    for changes in ({"warmup_steps": 0}, {"warmup_steps": 200}, {"steps": 1}, {"min_lr_ratio": 0}):
        for step in (1, 2, 10**7):
            assert math.isfinite(learning_rate(step, {**BASE, **changes}))
            assert learning_rate(step, {**BASE, **changes}) >= 0
