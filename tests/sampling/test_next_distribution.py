"""The sampling rule against a slow reference in plain Python, filter by filter and all together, and its limits."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.sampling import check_settings, next_distribution
from tests.sampling.plain import Settings


def reference(logits: list[float], recent: list[int], rule: Settings) -> list[float]:
    """The same rule, one step at a time."""
    logits = list(logits)
    window = recent[max(0, len(recent) - rule.repetition_window) :] if rule.repetition_window else recent
    for i in set(window):
        logits[i] = logits[i] / rule.repetition_penalty if logits[i] > 0 else logits[i] * rule.repetition_penalty
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if rule.temperature == 0:
        return [1.0 if i == order[0] else 0.0 for i in range(len(logits))]
    top = logits[order[0]]
    mass = {i: math.exp((logits[i] - top) / rule.temperature) for i in order}
    if rule.top_k:
        mass = dict(list(mass.items())[: rule.top_k])
    if rule.top_p < 1:
        total, running, kept = sum(mass.values()), 0.0, {}
        for i, weight in mass.items():
            kept[i] = weight
            running += weight
            if running >= rule.top_p * total:
                break
        mass = kept
    mass = {i: weight for i, weight in mass.items() if weight >= rule.min_p * mass[order[0]]}
    total = sum(mass.values())
    return [mass.get(i, 0.0) / total for i in range(len(logits))]


def distribution(logits: list[float], recent: list[int], rule: Settings) -> list[float]:
    return next_distribution(torch.tensor(logits, dtype=torch.float64), recent, rule).tolist()


LOGITS = [1.3, -0.4, 2.2, 0.1, -2.0, 0.9, 1.1]


@pytest.mark.parametrize(
    "rule",
    [
        Settings(),
        Settings(temperature=0.3),
        Settings(temperature=3.0),
        Settings(temperature=0.0),
        Settings(top_k=1),
        Settings(top_k=3),
        Settings(top_k=99),
        Settings(top_p=0.5),
        Settings(top_p=0.9),
        Settings(top_p=0.01),
        Settings(min_p=0.2),
        Settings(min_p=1.0),
        Settings(repetition_penalty=1.7),
        Settings(repetition_penalty=1.7, repetition_window=2),
        Settings(repetition_penalty=0.5, repetition_window=1),
        Settings(0.7, 5, 0.8, 0.1, 1.3, 3),
        Settings(0.0, 5, 0.8, 0.1, 5.0, 3),
    ],
)
def test_equals_the_reference(rule):
    assert distribution(LOGITS, [2, 4, 0, 2, 5], rule) == pytest.approx(reference(LOGITS, [2, 4, 0, 2, 5], rule))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    logits=st.lists(st.integers(-2000, 2000).map(lambda n: n / 317), min_size=1, max_size=9, unique=True),
    recent=st.lists(st.integers(0, 100), max_size=6),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 10),
    top_p=st.floats(0.013, 1),
    min_p=st.floats(0, 1),
    penalty=st.floats(0.5, 3),
    window=st.integers(0, 4),
)
def test_equals_the_reference_for_any_combination(logits, recent, temperature, top_k, top_p, min_p, penalty, window):
    rule = Settings(temperature, top_k, top_p, min_p, penalty, window)
    recent = [i % len(logits) for i in recent]
    found = distribution(logits, recent, rule)
    assert sum(found) == pytest.approx(1)
    assert found == pytest.approx(reference(logits, recent, rule), abs=1e-12)


def test_a_penalised_token_becomes_less_likely_whatever_its_sign():
    for recent in (2, 4):
        plain = distribution(LOGITS, [], Settings(repetition_penalty=2.0))
        penalised = distribution(LOGITS, [recent, recent], Settings(repetition_penalty=2.0))
        assert penalised[recent] < plain[recent]


def test_ties_keep_exactly_k_and_the_lower_ids():
    assert distribution([1.0] * 400, [], Settings(top_k=2)) == [0.5, 0.5] + [0.0] * 398
    assert distribution([1.0] * 4, [], Settings(temperature=0.0)) == [1.0, 0.0, 0.0, 0.0]


def test_top_p_keeps_the_token_that_crosses_the_line():
    logits = [math.log(p) for p in (0.5, 0.3, 0.2)]
    assert distribution(logits, [], Settings(top_p=0.6)) == pytest.approx([0.625, 0.375, 0.0])


def test_impossible_tokens_stay_impossible():
    found = distribution([0.0, -math.inf, 1.0], [1], Settings(temperature=5.0, repetition_penalty=0.5))
    assert found[1] == 0
    assert sum(found) == pytest.approx(1)


def test_a_tiny_temperature_is_greedy_and_finite():
    assert distribution([300.0, 900.0, 899.0], [], Settings(temperature=1e-307)) == [0.0, 1.0, 0.0]


def test_the_arguments_are_not_changed():
    logits, recent = torch.tensor(LOGITS, dtype=torch.float64), [1, 2]
    next_distribution(logits, recent, Settings(repetition_penalty=2.0, top_k=2))
    assert logits.tolist() == LOGITS
    assert recent == [1, 2]


@pytest.mark.parametrize(("broken", "message"), [(math.nan, "hold NaN"), (math.inf, r"hold \+inf")])
def test_broken_logits_are_named(broken, message):
    with pytest.raises(FloatingPointError, match=message):
        distribution([0.0, broken], [], Settings())


def test_nothing_allowed_is_refused():
    with pytest.raises(ValueError, match="every token is forbidden"):
        distribution([-math.inf] * 3, [], Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.nan),
        ("repetition_window", -1),
        ("max_tokens", 0),
        ("sample_seed", -1),
    ],
)
def test_a_setting_out_of_range_is_named_with_value_and_range(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}; it must be in (\[|\(|an integer)"):
        check_settings(replace(Settings(), **{name: value}))
