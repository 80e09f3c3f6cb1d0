"""Generation statistics: values by hand, loops of any period, and texts too short to measure."""

import math

import pytest

from qcore.diagnostics import generation_statistics


def test_values_by_hand():
    statistics = generation_statistics([1, 2, 3, 1, 2, 4], logprobs=[-1.0] * 6, entropies=[0.5, 1.5] * 3)
    assert statistics.tokens == 6
    assert statistics.distinct_1 == pytest.approx(4 / 6)
    assert statistics.distinct_2 == pytest.approx(4 / 5)
    assert statistics.distinct_3 == pytest.approx(4 / 4)
    assert statistics.seq_rep_4 == pytest.approx(0)
    assert statistics.mean_logprob == -1
    assert statistics.mean_entropy == 1


def test_repetition_counts_every_token_of_a_repeated_4_gram():
    """9 8 7 6 stands twice around one other token: 8 of 10 tokens, one of 7 4-grams is a repeat."""
    statistics = generation_statistics([9, 8, 7, 6, 1, 9, 8, 7, 6, 2])
    assert statistics.repetition == pytest.approx(8 / 10)
    assert statistics.seq_rep_4 == pytest.approx(1 / 7)
    assert (statistics.loop_tokens, statistics.loop_period) == (0, 0)


def test_one_token_for_ever():
    """Fault T4, "[ [ [ [": everything repeats."""
    statistics = generation_statistics([5] * 20)
    assert statistics.distinct_1 == pytest.approx(1 / 20)
    assert statistics.seq_rep_4 == pytest.approx(16 / 17)
    assert statistics.repetition == 1
    assert (statistics.loop_tokens, statistics.loop_period) == (20, 1)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3, 4, 5], (0, 0)),
        ([1, 2, 2, 3], (2, 1)),
        ([9, 1, 2, 1, 2, 1, 8], (5, 2)),
        ([1, 2, 3, 1, 2], (0, 0)),
        ([1, 2, 3, 1, 2, 3], (6, 3)),
        ([7, 7, 1, 2, 3, 1, 2, 3, 1], (7, 3)),
        ([4, 4, 4, 1, 2, 1, 2], (4, 2)),
    ],
)
def test_longest_immediate_loop(ids, expected):
    statistics = generation_statistics(ids)
    assert (statistics.loop_tokens, statistics.loop_period) == expected


def test_an_empty_generation_has_no_rates():
    statistics = generation_statistics([], logprobs=[], entropies=[])
    assert statistics.scalars() == {
        "generation/tokens": 0.0,
        "generation/loop_tokens": 0.0,
        "generation/loop_period": 0.0,
    }


def test_one_token_has_unigrams_only():
    statistics = generation_statistics([3], logprobs=[-2.0])
    assert statistics.distinct_1 == 1
    assert math.isnan(statistics.distinct_2)
    assert statistics.repetition == 0
    assert "generation/distinct_2" not in statistics.scalars()
    assert statistics.scalars()["generation/mean_logprob"] == -2


def test_values_that_do_not_pair_with_tokens_are_refused():
    with pytest.raises(ValueError, match="entropies holds 2 values for 3 ids"):
        generation_statistics([1, 2, 3], entropies=[0.1, 0.2])
