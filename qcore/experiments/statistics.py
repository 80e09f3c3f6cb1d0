"""Statistics of paired differences: mean, confidence interval, p-value, and the number of pairs that would be needed.

Few seeds make wide intervals: everything is Student's t with n − 1 degrees of freedom, never the normal in its place.
The t distribution comes from the incomplete beta function's continued fraction (Lentz), its quantile by bisection; the
power is that of the noncentral t, integrated over the distribution of the standard deviation. Standard library only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

POWER = 0.8
"""Chance with which `needed` pairs would show a difference as large as the one seen."""
MOST_PAIRS = 1_000_000
_NORMAL = statistics.NormalDist()
_TINY = 1e-300
_SLICES = 400


@dataclass(frozen=True)
class Paired:
    """What n paired differences say of their mean.

    low, high: confidence interval, infinite for one pair · p: two-sided p-value of a mean of 0; 1 for one pair ·
    needed: pairs for 80 % power at the effect seen; None where the mean is 0, one pair has no spread, or over 10⁶.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    needed: int | None

    @property
    def detected(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired(differences: Sequence[float], confidence: float = 0.95) -> Paired:
    """Mean of the differences with its interval: m ± t₍₁₊c₎⁄₂,ₙ₋₁ · s / √n, p = 2 · P(T ≥ |m| √n / s).

    Differences that are all alike have an interval of no width, p = 0 and need two pairs (all 0: p = 1, none needed).
    `ValueError` for no difference, one that is not finite, or a confidence outside (0, 1).
    """
    if not differences:
        raise ValueError("there are no differences: give at least one pair")
    if bad := [value for value in differences if not math.isfinite(value)]:
        raise ValueError(f"the difference {bad[0]} is refused: every difference must be finite")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} is refused: it must lie between 0 and 1, such as 0.95")
    n, mean = len(differences), math.fsum(differences) / len(differences)
    if n == 1:
        return Paired(mean, -math.inf, math.inf, 1.0, 1, None)
    deviation = statistics.stdev(differences, mean)
    if deviation <= 1e-15 * abs(mean):
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, n, None if mean == 0 else 2)
    error = deviation / math.sqrt(n)
    reach = t_quantile((1 + confidence) / 2, n - 1) * error
    needed = pairs_needed(mean / deviation, confidence)
    return Paired(mean, mean - reach, mean + reach, _two_tails(mean / error, n - 1), n, needed)


def pairs_needed(effect: float, confidence: float = 0.95, power: float = POWER) -> int | None:
    """Smallest n whose two-sided paired t-test finds a mean of `effect` standard deviations with this power.

    None for an effect of 0, or one that would need more than 10⁶ pairs.
    """
    if effect == 0 or power_of(effect, MOST_PAIRS, confidence) < power:
        return None
    low, high = 1, 2
    while power_of(effect, high, confidence) < power:
        low, high = high, min(2 * high, MOST_PAIRS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect, middle, confidence) >= power else (middle, high)
    return high


def power_of(effect: float, n: int, confidence: float = 0.95) -> float:
    """Chance that a paired t-test over n ≥ 2 pairs finds a mean of `effect` standard deviations.

    P(|T′| > c) of the noncentral t with δ = effect · √n: E over s = √(χ²/ν) of Φ(δ − c s) + Φ(−δ − c s), by Simpson's
    rule over the twelve standard deviations of s around its mean.
    """
    if n < 2:
        raise ValueError(f"n = {n} is refused: a spread needs at least two pairs")
    freedom, delta = n - 1, abs(effect) * math.sqrt(n)
    critical = t_quantile((1 + confidence) / 2, freedom)
    spread = 6 / math.sqrt(2 * freedom)
    start, stop = max(1e-9, 1 - spread), 1 + spread
    constant = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)
    width = (stop - start) / _SLICES
    total = mass = 0.0
    for index in range(_SLICES + 1):
        s = start + index * width
        density = math.exp(constant + (freedom - 1) * math.log(s) - freedom * s * s / 2)
        density *= (1 if index in (0, _SLICES) else 4 if index % 2 else 2) * width / 3
        mass += density
        total += density * (_NORMAL.cdf(delta - critical * s) + _NORMAL.cdf(-delta - critical * s))
    return min(1.0, total / mass)


def t_cdf(t: float, freedom: float) -> float:
    """P(T ≤ t) of Student's t with `freedom` > 0 degrees."""
    tail = _two_tails(t, freedom) / 2
    return tail if t < 0 else 1 - tail


def t_quantile(probability: float, freedom: float) -> float:
    """t with P(T ≤ t) = probability, to 1e-12 of its size. `ValueError` outside (0, 1)."""
    if not 0 < probability < 1:
        raise ValueError(f"probability = {probability} is refused: it must lie between 0 and 1")
    if probability == 0.5:
        return 0.0
    tails = 2 * min(probability, 1 - probability)
    low, high = 0.0, 1.0
    while _two_tails(high, freedom) > tails:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _two_tails(middle, freedom) > tails else (low, middle)
    return math.copysign((low + high) / 2, probability - 0.5)


def _two_tails(t: float, freedom: float) -> float:
    """P(|T| ≥ |t|) = I_x(ν/2, 1/2) at x = ν / (ν + t²): small tails keep their digits."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(front) * fraction / a


def _away(value: float) -> float:
    """The value, kept off 0."""
    return value if abs(value) > _TINY else _TINY
