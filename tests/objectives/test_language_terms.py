"""Language terms: analytic values, slow references, limits, and gradients that point where the name says."""

import math

import pytest
import torch
import torch.nn.functional as F

from qcore.objectives import TermInputs, total_loss
from qcore.objectives.inputs import Derived
from qcore.objectives.language import (
    cross_entropy,
    diversity,
    dominance,
    entropy_floor,
    eos,
    uniform_cross_entropy,
    unlikelihood,
    z_loss,
)

EOS = 2
TERMS = [cross_entropy, uniform_cross_entropy, diversity, dominance, entropy_floor, eos, unlikelihood, z_loss]


def value(fn, inputs: TermInputs, controls) -> torch.Tensor:
    return fn(Derived(inputs), controls)


def padded_mask(lengths: list[int], tokens: int) -> torch.Tensor:
    return torch.arange(tokens) < torch.tensor(lengths).unsqueeze(-1)


def test_cross_entropy_equals_torch_with_a_mask_and_with_smoothing(make_inputs, controls):
    mask = padded_mask([12, 5, 1], 12)
    inputs = make_inputs(mask=mask)
    total = total_loss(inputs, controls | {"ce_weight": 2.0, "label_smoothing": 0.1})
    logits, targets = inputs.logits_BTV[mask], inputs.targets_BT[mask]
    torch.testing.assert_close(total.parts["ce"], F.cross_entropy(logits, targets))
    torch.testing.assert_close(total.loss, 2 * F.cross_entropy(logits, targets, label_smoothing=0.1))


def test_cross_entropy_of_half_precision_logits_is_computed_in_float32(make_inputs, controls):
    inputs = make_inputs(logits=torch.randn(2, 5, 9).to(torch.bfloat16))
    loss = value(cross_entropy, inputs, controls)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, F.cross_entropy(inputs.logits_BTV.float().flatten(0, 1), inputs.targets_BT.flatten())
    )


@pytest.mark.parametrize("fn", TERMS)
def test_padding_changes_no_value_and_gets_no_gradient(fn, make_inputs, controls):
    lengths = [12, 7, 3]
    full = make_inputs(mask=padded_mask(lengths, 12))
    noisy = make_inputs(
        logits=torch.where(full.mask_BT.unsqueeze(-1), full.logits_BTV, 9.0).requires_grad_(),
        targets=full.targets_BT.masked_fill(~full.mask_BT, EOS),
        mask=full.mask_BT,
        inputs=full.inputs_BT,
    )
    loss = value(fn, noisy, controls)
    torch.testing.assert_close(loss, value(fn, full, controls))
    (gradient,) = torch.autograd.grad(loss, noisy.logits_BTV)
    assert not gradient[~full.mask_BT].any()
    assert gradient[full.mask_BT].any()


@pytest.mark.parametrize("fn", [cross_entropy, uniform_cross_entropy, eos, z_loss, entropy_floor])
def test_rows_are_weighted_by_their_tokens(fn, make_inputs, controls):
    lengths = torch.tensor([12, 7, 3])
    batch = make_inputs(mask=padded_mask(lengths.tolist(), 12), targets=torch.full((3, 12), 5))
    rows = [
        value(
            fn,
            make_inputs(logits=batch.logits_BTV[b : b + 1, :n], targets=batch.targets_BT[b : b + 1, :n]),
            controls,
        )
        for b, n in enumerate(lengths.tolist())
    ]
    torch.testing.assert_close(value(fn, batch, controls), (torch.stack(rows) * lengths).sum() / lengths.sum())


@pytest.mark.parametrize("fn", TERMS)
def test_duplicating_the_batch_leaves_the_value(fn, make_inputs, controls):
    one = make_inputs(mask=padded_mask([12, 7, 3], 12))
    two = make_inputs(
        logits=one.logits_BTV.repeat(2, 1, 1),
        targets=one.targets_BT.repeat(2, 1),
        mask=one.mask_BT.repeat(2, 1),
        inputs=one.inputs_BT.repeat(2, 1),
    )
    torch.testing.assert_close(value(fn, two, controls), value(fn, one, controls))


@pytest.mark.parametrize("fn", TERMS)
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 1, 5)])
def test_an_empty_mask_gives_a_differentiable_zero(fn, shape, make_inputs, controls):
    logits = torch.randn(shape, requires_grad=True)
    loss = value(fn, make_inputs(logits=logits, mask=torch.zeros(shape[:2], dtype=torch.bool)), controls)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("fn", TERMS)
def test_one_token_is_finite_with_finite_gradient(fn, make_inputs, controls):
    logits = torch.randn(1, 1, 5, requires_grad=True)
    loss = value(fn, make_inputs(logits=logits), controls)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_uniform_cross_entropy_is_ln_v_for_a_uniform_prediction(make_inputs, controls):
    inputs = make_inputs(logits=torch.zeros(2, 3, 8))
    assert value(uniform_cross_entropy, inputs, controls).item() == pytest.approx(math.log(8))


def test_diversity_is_zero_at_the_unigram_and_the_analytic_kl_elsewhere(make_inputs, controls):
    unigram = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    at_unigram = make_inputs(logits=unigram.log().expand(2, 3, 4), unigram=unigram)
    assert value(diversity, at_unigram, controls).item() == pytest.approx(0, abs=1e-6)
    uniform = make_inputs(logits=torch.zeros(2, 3, 4, dtype=torch.float64), unigram=unigram)
    expected = sum(0.25 * math.log(0.25 / u) for u in unigram.tolist())
    assert value(diversity, uniform, controls).item() == pytest.approx(expected, rel=1e-6)


def test_diversity_looks_at_the_mean_not_at_each_position(make_inputs, controls):
    """Sure but varied predictions are what a good model makes: their mean matches the unigram and costs nothing."""
    varied = 50.0 * torch.eye(4).unsqueeze(0)
    assert value(diversity, make_inputs(logits=varied), controls).item() == pytest.approx(0, abs=1e-5)


def test_diversity_of_a_token_the_data_never_shows_is_bounded(make_inputs, controls):
    unigram = torch.tensor([1.0, 0.0, 0.0, 0.0])
    logits = (100.0 * F.one_hot(torch.full((2, 3), 1), 4)).requires_grad_()
    loss = value(diversity, make_inputs(logits=logits, unigram=unigram), controls)
    assert loss.item() == pytest.approx(math.log(1e8), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()


def test_dominance_is_zero_below_its_threshold_and_the_excess_above(make_inputs, controls):
    probabilities = torch.tensor([0.7, 0.1, 0.1, 0.1])
    inputs = make_inputs(logits=probabilities.log().expand(2, 3, 4))
    assert value(dominance, inputs, controls | {"dominance_threshold": 0.5}).item() == pytest.approx(0.2)
    assert value(dominance, inputs, controls | {"dominance_threshold": 0.8}).item() == 0


def test_entropy_floor_is_the_mean_shortfall_over_its_whole_range(make_inputs, controls):
    """Fault G2: a hinge clamped at half a nat has no gradient at H = 1; this one has, all the way to the floor."""
    logits = torch.stack([torch.zeros(8), torch.tensor([3.0] + [0.0] * 7)]).unsqueeze(0).requires_grad_()
    entropy = torch.distributions.Categorical(logits=logits).entropy()[0]
    assert 0.5 < entropy[1] < 2
    loss = value(entropy_floor, make_inputs(logits=logits), controls | {"entropy_floor": 2.0})
    assert loss.item() == pytest.approx(max(0, 2 - entropy[1].item()) / 2)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[0, 0].any()
    assert gradient[0, 1].abs().max() > 0.01


def test_eos_counts_false_ends_only(make_inputs, controls):
    probabilities = torch.tensor([0.1, 0.1, 0.6, 0.2])
    logits = probabilities.log().expand(1, 4, 4).clone().requires_grad_()
    loss = value(eos, make_inputs(logits=logits, targets=torch.tensor([[0, EOS, 1, EOS]])), controls)
    assert loss.item() == pytest.approx(0.6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[0, [1, 3]].any()
    only_ends = make_inputs(logits=logits, targets=torch.full((1, 4), EOS))
    assert value(eos, only_ends, controls).item() == 0


def test_z_loss_is_the_squared_log_partition(make_inputs, controls):
    inputs = make_inputs()
    torch.testing.assert_close(value(z_loss, inputs, controls), inputs.logits_BTV.logsumexp(-1).square().mean())
    logits = inputs.logits_BTV.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(z_loss, make_inputs(logits=logits), controls), logits)
    (expected,) = torch.autograd.grad(logits.logsumexp(-1).square().mean(), logits)
    torch.testing.assert_close(gradient, expected)


def slow_unlikelihood(inputs: TermInputs, window: int) -> tuple[torch.Tensor, int]:
    """The definition, read aloud: a set of candidates for each position."""
    terms = []
    probabilities = inputs.logits_BTV.softmax(-1)
    for b in range(inputs.inputs_BT.shape[0]):
        for t in range(inputs.inputs_BT.shape[1]):
            if not inputs.mask_BT[b, t]:
                continue
            recent = inputs.inputs_BT[b, max(0, t - window + 1) : t + 1].tolist()
            terms += [-(1 - probabilities[b, t, c]).log() for c in set(recent) - {inputs.targets_BT[b, t].item()}]
    return torch.stack(terms).mean(), len(terms)


@pytest.mark.parametrize("window", [1, 3, 5, 12, 100])
def test_unlikelihood_equals_the_set_definition_in_value_and_gradient(window, make_inputs, controls):
    generator = torch.Generator().manual_seed(3)
    logits = (4 * torch.randn(4, 12, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    inputs = make_inputs(logits=logits, mask=padded_mask([12, 7, 1, 0], 12))
    expected, pairs = slow_unlikelihood(inputs, window)
    assert pairs > 10
    loss = value(unlikelihood, inputs, controls | {"unlikelihood_window": window})
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], torch.autograd.grad(expected, logits)[0])


def test_unlikelihood_of_left_padding_ignores_the_padding_token(make_inputs, controls):
    pad, mask = 0, torch.tensor([[False, True, True, True]])
    inputs = make_inputs(
        logits=torch.randn(1, 4, 6, dtype=torch.float64),
        mask=mask,
        inputs=torch.tensor([[pad, pad, 3, 4]]),
        targets=torch.tensor([[pad, 3, 4, 5]]),
    )
    probabilities = inputs.logits_BTV.softmax(-1)[0]
    expected = -((1 - probabilities[2, 3]).log() + (1 - probabilities[3, 3]).log() + (1 - probabilities[3, 4]).log())
    torch.testing.assert_close(value(unlikelihood, inputs, controls), expected / 3)


@pytest.mark.parametrize("gap", [1.0, 15.0, 60.0])
def test_unlikelihood_keeps_its_gradient_where_the_repeat_is_certain(gap, make_inputs, controls):
    """At gap 60, p rounds to 1 in float32: the value is still the gap and the pull on the repeated logit is still 1."""
    logits = torch.zeros(1, 1, 5)
    logits[..., 3] = gap
    logits.requires_grad_()
    loss = value(
        unlikelihood, make_inputs(logits=logits, inputs=torch.tensor([[3]]), targets=torch.tensor([[1]])), controls
    )
    assert loss.item() == pytest.approx(math.log1p(math.exp(gap) / 4), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 0, 3].item() == pytest.approx(1 / (1 + 4 * math.exp(-gap)), rel=1e-4)
    assert torch.isfinite(gradient).all()


def test_unlikelihood_without_a_candidate_is_a_differentiable_zero(make_inputs, controls):
    logits = torch.randn(1, 3, 5, requires_grad=True)
    same = torch.full((1, 3), 4)
    loss = value(unlikelihood, make_inputs(logits=logits, inputs=same, targets=same), controls)
    assert loss.item() == 0
    loss.backward()


def test_unlikelihood_refuses_an_empty_window(make_inputs, controls):
    with pytest.raises(ValueError, match="unlikelihood_window is 0"):
        value(unlikelihood, make_inputs(), controls | {"unlikelihood_window": 0})


def quantity(name: str, logits: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> float:
    """What each term says it moves, computed on its own; larger is worse."""
    probabilities = logits.softmax(-1)
    mean = probabilities.flatten(0, 1).mean(0)
    return {
        "ce": lambda: -probabilities.gather(-1, targets.unsqueeze(-1)).log().mean(),
        "label_smoothing": lambda: probabilities.std(-1).mean(),
        "diversity": lambda: (mean - 1 / len(mean)).abs().sum(),
        "dominance": lambda: mean.max(),
        "entropy_floor": lambda: -torch.distributions.Categorical(probabilities).entropy().mean(),
        "eos": lambda: mean[EOS],
        "unlikelihood": lambda: probabilities.gather(-1, inputs.unsqueeze(-1)).mean(),
        "z_loss": lambda: logits.logsumexp(-1).abs().mean(),
    }[name]().item()


@pytest.mark.parametrize(
    "name", ["ce", "label_smoothing", "diversity", "dominance", "entropy_floor", "eos", "unlikelihood", "z_loss"]
)
def test_a_descent_step_lowers_the_quantity_a_term_is_named_for(name, make_inputs, controls):
    """Faults G1 (no gradient) and G4 (wrong sign), on a batch that leans towards EOS and repeats its input."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(3, 9, (4, 10), generator=generator)
    repeated = (targets - 3 + 1) % 6 + 3
    logits = torch.randn(4, 10, 9, generator=generator) + 2 * F.one_hot(repeated, 9)
    logits[..., EOS] += 2
    logits.requires_grad_()
    inputs = make_inputs(logits=logits, targets=targets, inputs=repeated)
    weights = {"ce_weight": 1.0, "label_smoothing": 0.9} if name == "label_smoothing" else {f"{name}_weight": 1.0}
    total = total_loss(inputs, controls | {"unlikelihood_window": 1} | weights)
    (gradient,) = torch.autograd.grad(total.parts[name], logits)
    assert gradient.abs().max() > 1e-6
    stepped = (logits - 0.05 * gradient / gradient.abs().max()).detach()
    assert quantity(name, stepped, targets, repeated) < quantity(name, logits.detach(), targets, repeated)
