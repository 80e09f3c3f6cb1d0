"""Phase energies: analytic values, bounds, padding, freedom of scale, and descent that raises coherence."""

import math

import pytest
import torch

from qcore.objectives.inputs import Derived
from qcore.objectives.phases import coherence, entanglement, global_energy, local_energy, stability

ENERGIES = [local_energy, global_energy, entanglement, stability, coherence]
BOUNDS = {
    "local_energy": (-1.0, 1.0),
    "global_energy": (-1.0, 0.0),
    "entanglement": (-1.0, 0.0),
    "stability": (0.0, 1.0),
    "coherence": (0.0, 0.8),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * math.pi * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ramp(step: float, tokens: int, phases: int = 2) -> torch.Tensor:
    """One row whose phases turn by `step` a token."""
    return (step * torch.arange(tokens, dtype=torch.float64)).view(1, -1, 1).expand(1, tokens, phases)


@pytest.fixture
def energy(make_inputs):
    def evaluate(fn, *phases: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return fn(Derived(make_inputs(phases=phases, mask=mask)), {})

    return evaluate


@pytest.mark.parametrize("step", [0.0, 0.3, math.pi / 2, math.pi])
def test_a_constant_frequency_has_known_local_energy_and_perfect_entanglement(step, energy):
    assert energy(local_energy, ramp(step, 40)).item() == pytest.approx(-math.cos(step))
    assert energy(entanglement, ramp(step, 40)).item() == pytest.approx(-1)


def test_still_phases_are_fully_coherent_and_evenly_spread_ones_not_at_all(energy):
    still, even = noise(1, 1, 3).expand(2, 32, 3), ramp(2 * math.pi / 32, 32)
    assert energy(global_energy, still).item() == pytest.approx(-1)
    assert energy(global_energy, even).item() == pytest.approx(0, abs=1e-12)
    assert energy(stability, still).item() == pytest.approx(0)
    assert energy(stability, even).item() == pytest.approx(1)
    assert energy(coherence, still).item() == pytest.approx(0)


def test_global_energy_is_the_mean_over_all_pairs(energy):
    phase = noise(1, 20, 3)
    pairs = (phase.unsqueeze(2) - phase.unsqueeze(1)).cos().mean()
    torch.testing.assert_close(energy(global_energy, phase), -pairs)


def slow_coherence(phase_TP: torch.Tensor) -> torch.Tensor:
    z = torch.polar(torch.ones_like(phase_TP), phase_TP)
    values = [z[max(0, t - w + 1) : t + 1].mean(0).abs() for w in (1, 2, 4, 8, 16) for t in range(len(z))]
    return 1 - torch.stack(values).mean()


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 8, 16, 37])
def test_coherence_equals_the_window_by_window_definition(tokens, energy):
    phase = noise(1, tokens, 3)
    torch.testing.assert_close(energy(coherence, phase), slow_coherence(phase[0]))


def test_coherence_is_causal(energy):
    """Each position's window ends at itself: masking out the targets after t gives what t's past alone gives."""
    phase = noise(1, 24, 3)
    mask = torch.arange(24).unsqueeze(0) < 15
    torch.testing.assert_close(energy(coherence, phase, mask=mask), slow_coherence(phase[0, :15]))


def slow_entanglement(phase_TP: torch.Tensor) -> torch.Tensor:
    z = torch.polar(torch.ones_like(phase_TP), phase_TP)
    lags = [lag for lag in (8, 16, 32, 64, 128) if len(z) - lag >= 2]
    return -torch.stack([(z[lag:] * z[:-lag].conj()).mean(0).abs().square().mean() for lag in lags]).mean()


@pytest.mark.parametrize("tokens", [10, 17, 18, 40, 130])
def test_entanglement_equals_its_definition(tokens, energy):
    phase = noise(1, tokens, 3)
    torch.testing.assert_close(energy(entanglement, phase), slow_entanglement(phase[0]))


def test_entanglement_needs_two_pairs(energy):
    assert energy(entanglement, noise(1, 9, 3)).item() == 0


@pytest.mark.parametrize("fn", ENERGIES)
def test_a_padded_batch_equals_its_rows_alone(fn, energy):
    """Rows weigh their tokens (pairs for the local energy); rows too short for a lag take no part."""
    lengths = [40, 17, 10, 9, 1]
    phase = noise(5, 40, 3)
    mask = torch.arange(40) < torch.tensor(lengths).unsqueeze(-1)
    rows = torch.stack([energy(fn, phase[b : b + 1, :n]) for b, n in enumerate(lengths)])
    weights = torch.tensor([float(n) for n in lengths], dtype=torch.float64)
    if fn is local_energy:
        weights -= 1
    if fn is entanglement:
        weights[3:] = 0
    torch.testing.assert_close(energy(fn, phase, mask=mask), (rows * weights).sum() / weights.sum())


@pytest.mark.parametrize("fn", ENERGIES)
def test_padding_gets_no_gradient(fn, energy):
    phase = noise(2, 24, 3).requires_grad_()
    mask = torch.arange(24) < torch.tensor([[24], [13]])
    (gradient,) = torch.autograd.grad(energy(fn, phase, mask=mask), phase)
    assert not gradient[~mask].any()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("fn", ENERGIES)
def test_scale_free_in_batch_and_phases(fn, energy):
    """Fault G5: an energy summed over width grew as 155, 308, 617."""
    phase = noise(2, 40, 3)
    expected = energy(fn, phase)
    torch.testing.assert_close(energy(fn, phase.repeat(3, 1, 1)), expected)
    torch.testing.assert_close(energy(fn, phase.repeat(1, 1, 4)), expected)
    torch.testing.assert_close(energy(fn, phase, phase), expected)


@pytest.mark.parametrize("fn", [global_energy, stability])
def test_order_parameters_are_scale_free_in_tokens(fn, energy):
    phase = noise(2, 20, 3)
    torch.testing.assert_close(energy(fn, phase.repeat(1, 5, 1)), energy(fn, phase))


@pytest.mark.parametrize("fn", ENERGIES)
def test_turning_any_angle_by_whole_circles_changes_nothing(fn, energy):
    phase = noise(2, 24, 3)
    turns = 2 * math.pi * torch.randint(-5, 6, phase.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(energy(fn, phase + turns), energy(fn, phase))


@pytest.mark.parametrize("fn", ENERGIES)
@pytest.mark.parametrize("seed", range(5))
def test_bounds(fn, seed, energy):
    low, high = BOUNDS[fn.__name__]
    assert low - 1e-12 <= energy(fn, noise(2, 21, 3, seed=seed)).item() <= high + 1e-12


@pytest.mark.parametrize("fn", ENERGIES)
@pytest.mark.parametrize("tokens", [1, 2, 30])
def test_an_empty_mask_gives_a_differentiable_zero(fn, tokens, energy):
    phase = noise(2, tokens, 3).requires_grad_()
    loss = energy(fn, phase, mask=torch.zeros(2, tokens, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert not phase.grad.any()


@pytest.mark.parametrize("fn", ENERGIES)
@pytest.mark.parametrize("phase", [noise(1, 1, 3), torch.zeros(2, 20, 3), ramp(math.pi, 20)])
def test_one_token_and_degenerate_phases_have_finite_gradients(fn, phase, energy):
    phase = phase.clone().requires_grad_()
    loss = energy(fn, phase)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(phase.grad).all()


def named_coherence(fn, phase_BTP: torch.Tensor) -> float:
    """The coherence each energy is named for, computed on its own; larger is more coherent."""
    z = torch.polar(torch.ones_like(phase_BTP), phase_BTP)
    order = z.mean(1).abs()
    return {
        local_energy: lambda: (phase_BTP[:, 1:] - phase_BTP[:, :-1]).cos().mean(),
        global_energy: lambda: order.square().mean(),
        stability: lambda: order.mean(),
        entanglement: lambda: (z[:, 8:] * z[:, :-8].conj()).mean(1).abs().square().mean(),
        coherence: lambda: z.unfold(1, 8, 1).mean(-1).abs().mean(),
    }[fn]().item()


@pytest.mark.parametrize("fn", ENERGIES)
def test_descent_raises_the_coherence_it_is_named_for(fn, energy):
    """Fault G4: a minimised −(−coherence) made the phases incoherent while its curve fell."""
    phase = noise(2, 40, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(fn, phase), phase)
    stepped = (phase - 0.1 * gradient / gradient.abs().max()).detach()
    assert named_coherence(fn, stepped) > named_coherence(fn, phase.detach())


def test_half_precision_phases_are_promoted(energy):
    phase = noise(1, 20, 3)
    assert energy(global_energy, phase.to(torch.bfloat16)).item() == pytest.approx(
        energy(global_energy, phase).item(), abs=0.02
    )
