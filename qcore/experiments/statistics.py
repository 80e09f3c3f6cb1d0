"""Statistics of paired differences: mean, confidence interval, p-value, and the number of pairs that would be needed.

Few seeds make wide intervals: everything is Student's t with n − 1 degrees of freedom, never the normal in its place;
the power is that of the noncentral t. Both distributions are scipy's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

POWER = 0.8
"""Chance with which `needed` pairs would show a difference as large as the one seen."""
MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Paired:
    """What n paired differences say of their mean.

    Attributes:
        low, high: confidence interval, infinite for one pair.
        p: two-sided p-value of a mean of 0; 1 for one pair.
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


def paired_difference(differences: Sequence[float], confidence: float = 0.95) -> Paired:
    """Mean of the differences with its interval: m ± t₍₁₊c₎⁄₂,ₙ₋₁ · s / √n, p = 2 · P(T ≥ |m| √n / s).

    Differences that are all alike have an interval of no width, p = 0 and need two pairs (all 0: p = 1, none needed).

    Raises:
        ValueError: for no difference, one that is not finite, or a confidence outside (0, 1).

    Example:
        >>> found = paired_difference([-0.02, -0.03, -0.025, -0.028])
        >>> found.detected, round(found.low, 3), round(found.high, 3)
        (True, -0.033, -0.019)
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
    return Paired(mean, mean - reach, mean + reach, _two_tailed_p(mean / error, n - 1), n, needed)


def pairs_needed(effect: float, confidence: float = 0.95, power: float = POWER) -> int | None:
    """Smallest n whose two-sided paired t-test finds a mean of `effect` standard deviations with this power.

    None for an effect of 0, or one that would need more than 10⁶ pairs.

    Example:
        >>> pairs_needed(1.0)
        10
    """
    if effect == 0 or paired_power(effect, MOST_PAIRS, confidence) < power:
        return None
    low, high = 1, 2
    while paired_power(effect, high, confidence) < power:
        low, high = high, min(2 * high, MOST_PAIRS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if paired_power(effect, middle, confidence) >= power else (middle, high)
    return high


def paired_power(effect: float, n: int, confidence: float = 0.95) -> float:
    """Chance that a paired t-test over n ≥ 2 pairs finds a mean of `effect` standard deviations.

    P(|T′| > c) of the noncentral t with δ = effect · √n and n − 1 degrees of freedom.

    Raises:
        ValueError: for n < 2.
    """
    if n < 2:
        raise ValueError(f"n = {n} is refused: a spread needs at least two pairs")
    from scipy import special  # half a second, which only an answer costs

    freedom, delta = n - 1, abs(effect) * math.sqrt(n)
    critical = t_quantile((1 + confidence) / 2, freedom)
    above = 1 - float(special.nctdtr(freedom, delta, critical))
    below = float(special.nctdtr(freedom, delta, -critical))
    return above + (0.0 if math.isnan(below) else below)  # scipy gives up where this tail is below 1e-300


def t_quantile(probability: float, freedom: float) -> float:
    """t with P(T ≤ t) = probability, of Student's t. `ValueError` outside (0, 1)."""
    if not 0 < probability < 1:
        raise ValueError(f"probability = {probability} is refused: it must lie between 0 and 1")
    from scipy import special

    return float(special.stdtrit(freedom, probability))


def _two_tailed_p(t: float, freedom: float) -> float:
    """P(|T| ≥ |t|) of Student's t, from its lower tail: small tails keep their digits."""
    from scipy import special

    return 2 * float(special.stdtr(freedom, -abs(t)))
