"""Probes on toy models: causal, leaking (five ways), context-free, batch-mixing and noisy ones, and the real models."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qcore.config import PhaseLMConfig, TransformerConfig
from qcore.diagnostics import batch_dependence, causality_probe, strict_loss
from qcore.models import build_model

V, T = 11, 24


def table(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ITEMS, HEAD = table(0, V, 16), table(1, 16, V)


def tokens(batch: int = 4, length: int = T, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(seed))


def read(hidden: torch.Tensor) -> torch.Tensor:
    return torch.tanh(hidden) @ HEAD


def causal(ids: torch.Tensor) -> torch.Tensor:
    """Prefix means: reads everything so far and nothing else."""
    x = ITEMS[ids]
    return read(x + x.cumsum(1) / torch.arange(1, ids.shape[1] + 1).view(1, -1, 1))


def whole_mean(ids: torch.Tensor) -> torch.Tensor:
    """Fault L1."""
    x = ITEMS[ids]
    return read(x + x.mean(1, keepdim=True))


def next_token(ids: torch.Tensor) -> torch.Tensor:
    """Fault L2."""
    x = ITEMS[ids]
    return read(x + 0.5 * F.pad(x[:, 1:], (0, 0, 0, 1)))


def threshold(ids: torch.Tensor) -> torch.Tensor:
    """Fault L3: only a statistic of the whole row leaks, through a comparison."""
    x = ITEMS[ids]
    return read(x * (x > x.mean(1, keepdim=True) + 0.5 * x.std(1, keepdim=True)))


def last_token(ids: torch.Tensor) -> torch.Tensor:
    x = ITEMS[ids]
    return read(x + x[:, -1:])


def normalised_over_the_row(ids: torch.Tensor) -> torch.Tensor:
    x = ITEMS[ids]
    return read((x - x.mean((0, 1))) / x.std((0, 1)))


def context_free(ids: torch.Tensor) -> torch.Tensor:
    """Fault T3 in its mildest form: the current token is read, and nothing before it."""
    return read(ITEMS[ids])


def rows_mixed(ids: torch.Tensor) -> torch.Tensor:
    """Fault B1: every row reads the row before it in the batch, at the same position: causal in time."""
    x = ITEMS[ids]
    return read(x + x.roll(1, dims=0))


def batch_mean(ids: torch.Tensor) -> torch.Tensor:
    x = ITEMS[ids].cumsum(1)
    return read(x + x.mean(0, keepdim=True))


def test_a_causal_model_leaks_exactly_nothing():
    probe = causality_probe(causal, tokens(), vocab_size=V)
    assert probe.leak == 0
    assert probe.response > 0.1
    assert probe.context_response > 0.1
    assert not probe.confirmed
    for cut, change in zip(probe.cut_C, probe.change_CT, strict=True):
        assert (change[: cut + 1] == 0).all()
        assert change[cut + 1] > 0


@pytest.mark.parametrize("model", [whole_mean, next_token, threshold, last_token, normalised_over_the_row])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_leak_is_found_and_confirmed(model, seed):
    probe = causality_probe(model, tokens(seed=seed), seed=seed, vocab_size=V)
    assert probe.leak > 1e-2
    assert probe.confirmed
    worst = probe.leak_C.argmax()
    cut = probe.cut_C[worst]
    change = probe.change_CT[worst]
    assert probe.leak == pytest.approx(change[: cut + 1].max() / change[cut + 1 :].max())


def test_a_leak_is_shown_where_it_reads():
    """Reading the next token moves exactly the position at the cut."""
    probe = causality_probe(next_token, tokens(), vocab_size=V)
    for cut, change in zip(probe.cut_C, probe.change_CT, strict=True):
        assert (change[:cut] == 0).all()
        assert change[cut] > 0


@pytest.mark.parametrize("model", [rows_mixed, batch_mean])
def test_a_model_that_mixes_rows_is_no_leak(model):
    probe = causality_probe(model, tokens(), vocab_size=V)
    assert probe.leak == 0
    assert batch_dependence(model, tokens(), vocab_size=V).dependence > 0.1


def test_ignored_context_has_exactly_no_response():
    probe = causality_probe(context_free, tokens(), vocab_size=V)
    assert probe.context_response == 0
    assert probe.response > 0
    assert probe.leak == 0


def test_a_faint_response_that_comes_from_the_batch_is_none():
    mixed = causality_probe(lambda ids: context_free(ids) + 1e-5 * rows_mixed(ids), tokens(), vocab_size=V)
    assert mixed.context_response == 0
    assert mixed.confirmed


def test_the_response_has_the_size_that_context_has():
    weak = causality_probe(lambda ids: context_free(ids) + 0.01 * causal(ids), tokens(), vocab_size=V)
    strong = causality_probe(lambda ids: context_free(ids) + causal(ids), tokens(), vocab_size=V)
    assert 0 < weak.context_response < 0.2 * strong.context_response


def test_a_constant_model_cannot_answer():
    probe = causality_probe(lambda ids: torch.zeros(*ids.shape, V), tokens(), vocab_size=V)
    assert probe.scalars() == {"causality/leak": 0.0}


def test_noise_is_refused_instead_of_called_a_leak():
    generator = torch.Generator().manual_seed(0)

    def noisy(ids):
        return causal(ids) + 1e-3 * torch.randn(*ids.shape, V, generator=generator)

    with pytest.raises(ValueError, match=r"switch dropout off"):
        causality_probe(noisy, tokens(), vocab_size=V)
    with pytest.raises(ValueError, match=r"switch dropout off"):
        batch_dependence(noisy, tokens(), vocab_size=V)


def test_nonfinite_logits_are_no_verdict():
    probe = causality_probe(lambda ids: causal(ids) * math.nan, tokens(), vocab_size=V)
    assert probe.scalars() == {}
    assert batch_dependence(lambda ids: causal(ids) * math.nan, tokens(), vocab_size=V).scalars() == {}


def test_probes_repeat_with_their_seed_and_leave_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = causality_probe(whole_mean, tokens(), seed=3, vocab_size=V)
    again = causality_probe(whole_mean, tokens(), seed=3, vocab_size=V)
    batch_dependence(batch_mean, tokens(), seed=3, vocab_size=V)
    strict_loss(causal, tokens(), tokens(seed=1), torch.ones(4, T, dtype=torch.bool), seed=3)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first.change_CT, again.change_CT)
    assert causality_probe(whole_mean, tokens(), seed=4, vocab_size=V).cut_C.tolist() != first.cut_C.tolist()


def test_changed_tokens_are_new_and_the_others_are_not():
    calls = []

    def recorded(ids):
        calls.append(ids)
        return causal(ids)

    probe = causality_probe(recorded, tokens(), cuts=5, vocab_size=V)
    rows = calls[0]
    assert [call.shape for call in calls] == [(7, T), (1, T), (1, T)]
    assert torch.equal(rows[0], tokens()[0])
    for cut, row in zip(probe.cut_C, rows[1:-1], strict=True):
        assert torch.equal(row[: cut + 1], rows[0, : cut + 1])
        assert (row[cut + 1 :] != rows[0, cut + 1 :]).all()
    assert (rows[-1] == rows[0]).nonzero().flatten().tolist() == [5, 11, 17, 23]
    assert int(rows.max()) < V
    assert int(rows.min()) >= 0


def test_arrays_and_limits_of_the_causality_probe():
    arrays = causality_probe(causal, tokens(length=4), vocab_size=V).arrays()
    assert arrays["cuts"].tolist() == [0, 1, 2]
    assert (str(arrays["cuts"].dtype), str(arrays["change"].dtype)) == ("int32", "float32")
    assert arrays["change"].shape == (3, 4)
    single = causality_probe(causal, tokens(length=1), vocab_size=V)
    assert single.scalars() == {}
    assert single.arrays() == {}
    pair = causality_probe(next_token, tokens(length=2), vocab_size=V)
    assert pair.cut_C.tolist() == [0]
    assert pair.leak > 0


def test_batch_dependence_needs_mates():
    alone = batch_dependence(batch_mean, tokens(batch=1), vocab_size=V)
    assert math.isnan(alone.dependence)
    assert "one row" in alone.reason
    assert alone.scalars() == {}
    assert batch_dependence(causal, tokens(), vocab_size=V).scalars() == {"batch/dependence": 0.0}


def test_batch_dependence_through_a_threshold_is_found():
    """The width is chosen by how varied the *batch* is: random mates are as varied as the real ones."""

    def chooses(ids):
        varied = float(F.one_hot(ids, V).float().mean((0, 1)).max()) < 0.5
        return causal(ids) * (1.0 if varied else 0.5)

    assert batch_dependence(chooses, tokens(), vocab_size=V).dependence > 0.1


def test_strict_loss_of_a_causal_model_has_no_gap():
    ids, targets, mask = tokens(), tokens(seed=1), torch.ones(4, T, dtype=torch.bool)

    def running(rows):
        """A loop over the positions: each is computed alone, so that the window's length can't even change rounding."""
        return torch.stack([read(ITEMS[rows[:, : t + 1]].sum(1)) for t in range(rows.shape[1])], dim=1)

    loss = strict_loss(running, ids, targets, mask)
    assert loss.gap == 0
    assert loss.positions == 16


def test_strict_loss_of_a_model_that_reads_its_target():
    """Fault L2 in the extreme: nothing is left when the future is cut off."""
    ids, mask = tokens(), torch.ones(4, T, dtype=torch.bool)
    targets = F.pad(ids[:, 1:], (0, 1))
    cheat = lambda rows: 9.0 * F.one_hot(F.pad(rows[:, 1:], (0, 1)), V).float()  # noqa: E731
    loss = strict_loss(cheat, ids, targets, mask, positions=5)
    assert loss.teacher_forced < 0.01
    assert loss.gap > 2
    assert loss.scalars()["perplexity/strict"] == pytest.approx(math.exp(loss.strict))


def test_strict_loss_agrees_with_a_loop_over_valid_positions():
    ids, targets = tokens(2), tokens(2, seed=1)
    mask = torch.arange(T) < torch.tensor([T, 5]).unsqueeze(1)
    loss = strict_loss(whole_mean, ids, targets, mask, positions=T)
    strict, whole = [], []
    for b, length in enumerate([T - 1, 5]):
        for t in range(length):
            strict.append(F.cross_entropy(whole_mean(ids[b : b + 1, : t + 1])[0, -1], targets[b, t]).item())
            whole.append(F.cross_entropy(whole_mean(ids[b : b + 1])[0, t], targets[b, t]).item())
    assert loss.positions == len(strict)
    assert loss.strict == pytest.approx(np.mean(strict), rel=1e-5)
    assert loss.teacher_forced == pytest.approx(np.mean(whole), rel=1e-5)


@pytest.mark.parametrize(("length", "valid"), [(1, 1), (5, 0)])
def test_strict_loss_without_a_position_is_empty(length, valid):
    mask = (torch.arange(length) < valid).expand(2, length)
    assert strict_loss(causal, tokens(2, length), tokens(2, length), mask).scalars() == {}


@pytest.mark.parametrize(
    "config",
    [PhaseLMConfig(width=16, layers=2, heads=2, phases=4, context=T), TransformerConfig(width=16, layers=2, heads=2)],
)
def test_the_real_models_pass(config):
    model = build_model(config, V, torch.ones(V), seed=0)
    forward = lambda ids: model(ids).logits_BTV  # noqa: E731
    probe = causality_probe(forward, tokens(), vocab_size=V)
    assert probe.leak == 0
    assert probe.context_response > 1e-3
    assert batch_dependence(forward, tokens(), vocab_size=V).dependence == 0
    assert abs(strict_loss(forward, tokens(), tokens(seed=1), torch.ones(4, T, dtype=torch.bool)).gap) < 1e-5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"shape \(24,\)"):
        causality_probe(causal, tokens()[0])
    with pytest.raises(ValueError, match="pass vocab_size"):
        causality_probe(causal, torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="float32"):
        batch_dependence(causal, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="targets_BT has shape"):
        strict_loss(causal, tokens(), tokens()[:2], torch.ones(4, T, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask_BT has dtype"):
        strict_loss(causal, tokens(), tokens(), torch.ones(4, T))
