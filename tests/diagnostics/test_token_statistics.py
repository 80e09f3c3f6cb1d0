"""Token statistics: counts by hand, analytic information, padding kept apart, and the limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qcore.diagnostics import token_statistics

PAD, EOS = 0, 2


def sure_of(ids: list[list[int]], vocabulary: int, sharpness: float = 200.0) -> torch.Tensor:
    """Logits that predict exactly these ids."""
    return sharpness * F.one_hot(torch.tensor(ids), vocabulary).float()


def test_counts_and_shares_by_hand():
    statistics = token_statistics(
        sure_of([[3, 3, 4, 1], [3, 2, 1, 1]], 6),
        torch.tensor([[3, 5, 4, PAD], [4, 2, PAD, PAD]]),
        torch.tensor([[True, True, True, False], [True, True, False, False]]),
        eos_id=EOS,
        special_ids={"pad": PAD, "eos": EOS},
    )
    assert statistics.predicted_V.tolist() == [0, 0, 1, 3, 1, 0]
    assert statistics.predicted_padding_V.tolist() == [0, 3, 0, 0, 0, 0]
    assert statistics.target_V.tolist() == [0, 0, 1, 1, 2, 1]
    assert statistics.target_padding_V.tolist() == [3, 0, 0, 0, 0, 0]
    assert (statistics.real_positions, statistics.padding_positions) == (5, 3)
    assert statistics.accuracy == pytest.approx(3 / 5)
    assert (statistics.top1_token, statistics.top1_share) == (3, pytest.approx(3 / 5))
    assert statistics.target_top1_share == pytest.approx(2 / 5)
    assert statistics.coverage == pytest.approx(3 / 4)
    assert statistics.eos_probability == pytest.approx(1 / 5)
    assert statistics.special_predicted == {"pad": 0.0, "eos": pytest.approx(1 / 5)}
    assert statistics.special_target == {"pad": 0.0, "eos": pytest.approx(1 / 5)}
    np.testing.assert_allclose(statistics.mean_probability_V, statistics.predicted_V / 5, atol=1e-6)
    target_V = (statistics.target_V + 0.5) / (5 + 3)
    mean_V = statistics.predicted_V / 5
    expected = sum(p * math.log(p / q) for p, q in zip(mean_V, target_V, strict=True) if p)
    assert statistics.kl_target == pytest.approx(expected, rel=1e-5)


def test_an_arbitrary_word_at_padding_is_not_a_collapse():
    """Fault T2: one word on 80 % of all positions, every one of them padding."""
    predicted = [[3, 4] + [5] * 8]
    mask = torch.tensor([[True] * 2 + [False] * 8])
    statistics = token_statistics(sure_of(predicted, 6), torch.tensor([[3, 4] + [PAD] * 8]), mask)
    assert statistics.top1_share == pytest.approx(0.5)
    assert statistics.predicted_padding_V[5] == 8
    assert statistics.scalars()["tokens/padding_share"] == pytest.approx(0.8)


def test_information_is_ln_n_for_n_sure_and_different_positions():
    logits = sure_of([list(range(8))], 8)
    statistics = token_statistics(logits, torch.arange(8).unsqueeze(0), torch.ones(1, 8, dtype=torch.bool))
    assert statistics.mutual_information == pytest.approx(math.log(8), rel=1e-5)
    assert statistics.mean_entropy == pytest.approx(0, abs=1e-5)


def test_information_is_zero_when_every_position_predicts_the_same():
    """Fault T3: context ignored. Entropy alone can't tell it from a healthy model."""
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5]).expand(3, 7, 4)
    statistics = token_statistics(logits, torch.zeros(3, 7, dtype=torch.long), torch.ones(3, 7, dtype=torch.bool))
    entropy = torch.distributions.Categorical(logits=logits[0, 0]).entropy().item()
    assert statistics.mutual_information == pytest.approx(0, abs=1e-6)
    assert statistics.mean_entropy == pytest.approx(entropy, rel=1e-5)
    assert statistics.marginal_entropy == pytest.approx(entropy, rel=1e-5)


def test_the_subsample_covers_every_position_of_the_context():
    """2,048 real positions, 256 rows: a plain stride of 8 would see only every eighth place of the context of 64."""
    tokens = 64
    logits = sure_of([list(range(tokens))] * 32, tokens)
    statistics = token_statistics(logits, torch.zeros(32, tokens, dtype=torch.long), torch.ones(32, tokens).bool())
    assert statistics.probability_rows == 256
    assert (statistics.mean_probability_V > 0).sum() == tokens
    assert statistics.mutual_information == pytest.approx(math.log(tokens), rel=0.03)


def test_the_subsample_takes_real_positions_only_and_repeats_exactly():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 50, generator=generator) < 0.4
    logits = torch.where(mask.unsqueeze(-1), torch.zeros(5), torch.tensor([0.0, 0.0, 0.0, 0.0, 90.0]))
    targets = torch.zeros(40, 50, dtype=torch.long)
    before = torch.get_rng_state()
    first, second = token_statistics(logits, targets, mask), token_statistics(logits, targets, mask)
    np.testing.assert_allclose(first.mean_probability_V, 0.2, rtol=1e-6)
    assert first.scalars() == second.scalars()
    assert torch.equal(before, torch.get_rng_state())


def test_no_real_position_leaves_the_series_out():
    mask = torch.zeros(2, 3, dtype=torch.bool)
    statistics = token_statistics(
        torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), mask, eos_id=EOS, special_ids={"eos": EOS}
    )
    assert statistics.scalars() == {"tokens/padding_share": 1.0}
    assert statistics.top1_token == -1
    assert math.isnan(statistics.mutual_information)
    assert statistics.target_padding_V[0] == 6


def test_one_position_and_an_infinitely_sure_prediction_are_finite():
    logits = torch.tensor([[[0.0, float("-inf"), float("-inf")]]])
    statistics = token_statistics(logits, torch.tensor([[1]]), torch.ones(1, 1).bool())
    assert all(math.isfinite(value) for value in statistics.scalars().values())
    assert statistics.mean_entropy == 0


def test_series_and_arrays_are_named_under_tokens_and_detached():
    logits = torch.randn(2, 4, 5, requires_grad=True)
    statistics = token_statistics(
        logits, torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4).bool(), eos_id=EOS, special_ids={"bos": 1}
    )
    scalars, arrays = statistics.scalars(), statistics.arrays()
    assert {"tokens/mutual_information", "tokens/eos_probability", "tokens/predicted_bos", "tokens/target_bos"} <= set(
        scalars
    )
    assert all(name.startswith("tokens/") and type(value) is float for name, value in scalars.items())
    assert all(name.startswith("tokens/") and array.shape == (5,) for name, array in arrays.items())
    assert arrays["tokens/predicted"].dtype == np.int64


def test_nan_logits_are_shown_as_nan():
    logits = torch.zeros(1, 2, 3)
    logits[0, 1, 1] = math.nan
    statistics = token_statistics(logits, torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2).bool())
    assert math.isnan(statistics.scalars()["tokens/mutual_information"])
    assert math.isnan(statistics.scalars()["tokens/kl_target"])


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"must both be \(2, 3\)"):
        token_statistics(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 3).bool())
