"""Perplexity by coherence, shift check and variance within rows: analytic values, faults B2 and T3, and the limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qcore.diagnostics import coherence_perplexity, context_statistics, local_coherence, shift_check


def all_valid(batch: int, tokens: int) -> torch.Tensor:
    return torch.ones(batch, tokens, dtype=torch.bool)


def logits_with_nats(nats_BT: torch.Tensor, targets_BT: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Logits whose cross-entropy against the targets is exactly this."""
    p_BT = (-nats_BT).exp()
    other = torch.log((1 - p_BT) / (vocabulary - 1)).unsqueeze(-1).expand(*nats_BT.shape, vocabulary)
    return other.scatter(-1, targets_BT.unsqueeze(-1), p_BT.log().unsqueeze(-1))


def test_terciles_and_weights_by_hand():
    nats = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    coherence = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.8, 0.4]])
    targets = torch.randint(0, 9, (2, 3), generator=torch.Generator().manual_seed(0))
    measured = coherence_perplexity(logits_with_nats(nats, targets, 9), targets, all_valid(2, 3), coherence)
    weighted = (0.9 + 0.2 + 1.5 + 0.8 + 4.0 + 2.4) / 2.9
    assert measured.positions == 6
    assert measured.scalars() == {
        "perplexity/teacher_forced": pytest.approx(math.exp(3.5), rel=1e-4),
        "perplexity/incoherent": pytest.approx(math.exp(3), rel=1e-4),
        "perplexity/middle": pytest.approx(math.exp(4.5), rel=1e-4),
        "perplexity/coherent": pytest.approx(math.exp(3), rel=1e-4),
        "perplexity/coherence_weighted": pytest.approx(math.exp(weighted), rel=1e-4),
    }


def test_only_valid_positions_of_known_coherence_count():
    nats = torch.tensor([[1.0, 2.0, 3.0, 9.0, 9.0]])
    coherence = torch.tensor([[0.1, 0.2, 0.3, 0.9, math.nan]])
    mask = torch.tensor([[True, True, True, False, True]])
    targets = torch.zeros(1, 5, dtype=torch.long)
    measured = coherence_perplexity(logits_with_nats(nats, targets, 4), targets, mask, coherence)
    assert measured.positions == 3
    assert measured.teacher_forced == pytest.approx(math.exp(2), rel=1e-4)
    assert measured.coherent == pytest.approx(math.exp(3), rel=1e-4)


def test_equal_coherence_has_no_terciles_and_a_plain_weighted_mean():
    logits, targets = torch.randn(2, 20, 5), torch.zeros(2, 20, dtype=torch.long)
    measured = coherence_perplexity(logits, targets, all_valid(2, 20), torch.full((2, 20), 0.3))
    assert math.isnan(measured.coherent)
    assert measured.coherence_weighted == pytest.approx(measured.teacher_forced)
    zero = coherence_perplexity(logits, targets, all_valid(2, 20), torch.zeros(2, 20))
    assert set(zero.scalars()) == {"perplexity/teacher_forced"}


def test_a_diverged_model_has_a_finite_curve_and_nothing_valid_has_none():
    targets = torch.zeros(1, 4, dtype=torch.long)
    logits = 1e4 * F.one_hot(targets + 1, 3).float()
    coherence = torch.arange(4.0).unsqueeze(0)
    assert coherence_perplexity(logits, targets, all_valid(1, 4), coherence).teacher_forced == pytest.approx(
        math.exp(50)
    )
    assert coherence_perplexity(logits, targets, ~all_valid(1, 4), coherence).scalars() == {}


def test_half_precision_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 8, 6, generator=generator).bfloat16()
    targets, coherence = torch.zeros(2, 8, dtype=torch.long), torch.rand(2, 8, generator=generator)
    low = coherence_perplexity(logits, targets, all_valid(2, 8), coherence)
    full = coherence_perplexity(logits.float(), targets, all_valid(2, 8), coherence)
    assert low == full
    ids = torch.zeros(2, 8, dtype=torch.long)
    assert (
        shift_check(logits, ids, ids, all_valid(2, 8)).ce_here
        == shift_check(logits.float(), ids, ids, all_valid(2, 8)).ce_here
    )


@pytest.mark.parametrize("window", [1, 3, 8])
def test_local_coherence_agrees_with_a_loop(window):
    phases = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(0)) * 5
    measured = local_coherence(phases, window)
    unit = np.exp(1j * phases.double().numpy())
    for b in range(2):
        for t in range(10):
            if t < window - 1:
                assert math.isnan(measured[b, t])
            else:
                expected = np.abs(unit[b, t + 1 - window : t + 1].mean(0)).mean()
                assert float(measured[b, t]) == pytest.approx(expected, abs=1e-5)


def test_local_coherence_of_constant_phases_and_of_a_short_row():
    constant = torch.full((1, 12, 3), 2.5)
    np.testing.assert_allclose(local_coherence(constant)[0, 7:], 1, rtol=1e-6)
    assert local_coherence(constant[:, :7]).isnan().all()
    with pytest.raises(ValueError, match="window is 0"):
        local_coherence(constant, 0)
    with pytest.raises(ValueError, match=r"shape \(12, 3\)"):
        local_coherence(constant[0])


INPUTS = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 0]])


def sure_of(ids: torch.Tensor) -> torch.Tensor:
    return 20 * F.one_hot(ids, 7).float()


def test_a_copying_model_trained_on_unshifted_labels():
    """Fault B2."""
    check = shift_check(sure_of(INPUTS), INPUTS, INPUTS, all_valid(2, 5))
    assert check.copy_rate == 1
    assert check.ce_here < 1e-6
    assert check.ce_next == pytest.approx(20, rel=1e-5)
    assert check.targets_are_inputs == 1


def test_a_model_that_knows_the_next_token():
    targets = torch.cat((INPUTS[:, 1:], torch.tensor([[5], [6]])), dim=1)
    check = shift_check(sure_of(targets), INPUTS, targets, all_valid(2, 5))
    assert check.copy_rate == pytest.approx(1 / 10)  # "5" follows "5" at the end of the first row
    assert check.targets_are_inputs == pytest.approx(1 / 10)
    assert check.ce_next < 1e-6
    assert check.ce_here == pytest.approx(20 * 9 / 10, rel=1e-5)
    assert set(check.scalars()) == {
        f"shift/{name}" for name in ("copy_rate", "ce_here", "ce_next", "targets_are_inputs")
    }


def test_shift_check_skips_padding_and_survives_short_rows():
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    inputs = INPUTS.clone()
    check = shift_check(sure_of(INPUTS), inputs, torch.where(mask, 6, inputs), mask)
    assert check.copy_rate == 1
    assert check.targets_are_inputs == 0
    assert shift_check(sure_of(INPUTS), INPUTS, INPUTS, ~all_valid(2, 5)).scalars() == {}
    one = shift_check(sure_of(INPUTS[:, :1]), INPUTS[:, :1], INPUTS[:, :1], all_valid(2, 1)).scalars()
    assert "shift/ce_next" not in one
    assert one["shift/copy_rate"] == 1


def test_the_same_prediction_everywhere_has_exactly_no_variance():
    """Fault T3."""
    logits = torch.randn(1, 1, 50, generator=torch.Generator().manual_seed(0)).expand(2, 30, 50)
    assert context_statistics(logits, all_valid(2, 30)).row_variance == 0


def test_sure_and_different_predictions_have_the_most_variance():
    logits = 100 * torch.eye(8).unsqueeze(0)
    assert context_statistics(logits, all_valid(1, 8)).row_variance == pytest.approx(1 - 1 / 8)


def test_variance_is_within_rows_and_over_valid_positions():
    logits = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([9, 4, 1]).unsqueeze(1)
    rows = [torch.softmax(logits[b, :n], -1).var(0, correction=0).sum().item() for b, n in ((0, 9), (1, 4))]
    assert context_statistics(logits, mask, rows=3).row_variance == pytest.approx(np.mean(rows), rel=1e-5)
    assert context_statistics(logits, mask, rows=1).scalars() == {"tokens/row_variance": pytest.approx(rows[0])}
    assert context_statistics(logits[2:], mask[2:]).scalars() == {}


def test_mistakes_are_named():
    logits, ids, mask = torch.ones(2, 5, 7), INPUTS, all_valid(2, 5)
    with pytest.raises(ValueError, match=r"logits_BTV has shape \(5, 7\)"):
        context_statistics(logits[0], mask)
    with pytest.raises(ValueError, match="inputs_BT has shape"):
        shift_check(logits, ids[:, :3], ids, mask)
    with pytest.raises(ValueError, match="coherence_BT has shape"):
        coherence_perplexity(logits, ids, mask, torch.ones(1, 5))
    with pytest.raises(ValueError, match="True where the position counts"):
        shift_check(logits, ids, ids, mask.long())
