"""Connections of Quantum Flux against their definition written out, and the fast form within its bound."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qcore.models.flux.connections import Past, connect, connections, fused_available, read_newest, thresholds
from qcore.models.flux.connections_grid import (
    chebyshev_nodes,
    connect_on_grid,
    interpolation,
    nodes_needed,
    weight_error,
)
from qcore.models.flux.gate import TIE, Gate

SOFT, HARD = Gate(0.1), Gate(0.1, hard=True)


def discs(N: int, T: int, planes: int, m: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries and states of length ≤ 1, and values."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(2):
        x = torch.randn(N, T, 2 * planes, generator=generator, dtype=dtype)
        free = torch.rand(N, T, 1, generator=generator, dtype=dtype).sqrt()
        found.append(x / x.norm(dim=-1, keepdim=True) * free)
    return [*found, torch.randn(N, T, m, generator=generator, dtype=dtype)]


def similarity(query: Tensor, state: Tensor) -> Tensor:
    return (query @ state.transpose(-1, -2) + 1) / 2


def by_hand(query: Tensor, state: Tensor, spread: float) -> Tensor:
    rows = similarity(query, state)
    return torch.stack(
        [
            torch.stack([row[: i + 1].mean() + spread * row[: i + 1].std(correction=0) for i, row in enumerate(one)])
            for one in rows
        ]
    )


@pytest.mark.parametrize("planes", [1, 6])
@pytest.mark.parametrize("T", [1, 31, 32, 101])
def test_thresholds_are_those_of_the_past_of_each_row(planes: int, T: int) -> None:
    query, state, _ = discs(3, T, planes)
    for spread in (0.0, 0.7, -1.5):
        torch.testing.assert_close(thresholds(query, state, spread), by_hand(query, state, spread), rtol=0, atol=2e-5)
    per_kernel = torch.tensor([[0.0], [1.0], [-2.0]], dtype=torch.float64)
    expected = torch.stack([by_hand(query, state, float(c))[n] for n, c in enumerate(per_kernel)])
    torch.testing.assert_close(thresholds(query, state, per_kernel), expected, rtol=0, atol=4e-5)


def test_a_threshold_does_not_know_what_comes_later() -> None:
    query, state, _ = discs(2, 70, 2, dtype=torch.float32)
    before = thresholds(query, state, 1.0)
    state[:, 40:], query[:, 40:] = -state[:, 40:], 0.3
    assert torch.equal(thresholds(query, state, 1.0)[:, :40], before[:, :40])


def test_equal_states_have_no_spread_and_a_finite_gradient() -> None:
    state = torch.full((1, 40, 2), 0.6).requires_grad_()
    found = thresholds(state, state, 3.0)
    torch.testing.assert_close(found, torch.full((1, 40), 0.86))
    found.sum().backward()
    assert state.grad is not None
    assert bool(state.grad.isfinite().all())


def test_almost_equal_states_keep_their_small_spread() -> None:
    """In 32 bits, mean of squares minus square of the mean would lose it all."""
    query, state, _ = discs(1, 200, 1, dtype=torch.float32)
    close = 0.999 * state[:, :1] / state[:, :1].norm() + 1e-4 * state
    found, exact = thresholds(query, close, 1e3), thresholds(query.double(), close.double(), 1e3)
    torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("gate", [SOFT, HARD], ids=["soft", "hard"])
@pytest.mark.parametrize(("T", "block"), [(1, 8), (40, 64), (40, 7), (130, 32), (700, 16)])
def test_tiles_are_the_definition(gate: Gate, T: int, block: int) -> None:
    query, state, value = discs(2, T, 2)
    tau = thresholds(query, state, 0.5)
    weight, sim = connections(query, state, tau, gate)
    passed = (sim >= tau[..., None] - TIE).double() if gate.hard else torch.sigmoid((sim - tau[..., None]) / 0.1)
    plain = (similarity(query, state).relu() * passed).tril()
    found = connect(query, state, value, tau, gate, block=block)
    torch.testing.assert_close(found.values, weight @ value, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.strength, plain.sum(-1) / torch.arange(1, T + 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(weight.sum(-1), torch.ones(2, T, dtype=torch.float64))
    filled = plain.sum(-1) > 1e-3
    torch.testing.assert_close(weight[filled], (plain / plain.sum(-1, keepdim=True))[filled], rtol=0, atol=1e-3)
    assert not weight.triu(1).any()


@pytest.mark.parametrize("gate", [SOFT, HARD], ids=["soft", "hard"])
@pytest.mark.parametrize("block", [5, 64])
def test_gradients_of_tiles_are_those_of_the_definition(gate: Gate, block: int) -> None:
    query, state, value = discs(2, 43, 2)
    inputs = [x.requires_grad_() for x in (query, state, value, thresholds(query, state, 0.5).detach())]
    query, state, value, tau = inputs
    toward, along = torch.randn_like(value), torch.randn(2, 43, dtype=torch.float64)
    found = connect(query, state, value, tau, gate, block=block)
    tiled = torch.autograd.grad((found.values * toward).sum() + (found.strength * along).sum(), inputs)
    sim = similarity(query, state)
    above = sim - tau[..., None]
    weight = (sim * ((above >= -TIE).double() if gate.hard else torch.sigmoid(above / 0.1))).tril()
    strength = weight.sum(-1) / torch.arange(1, 44)
    mixed = connections(query, state, tau, gate)[0] @ value
    whole = torch.autograd.grad(
        (mixed * toward).sum() + (strength * along).sum(), inputs, allow_unused=True, materialize_grads=True
    )
    for one, other in zip(tiled, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_memory_between_forward_and_backward_is_linear_in_the_window() -> None:
    kept = []
    for T in (256, 512):
        query, state, value = (x.requires_grad_() for x in discs(2, T, 1, dtype=torch.float32))
        sizes: dict[int, int] = {}

        def pack(x: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            connect(query, state, value, thresholds(query, state, 0.5), SOFT, block=32).values.sum().backward()
        kept.append(sum(sizes.values()))
    assert kept[1] < 2.1 * kept[0]
    assert kept[1] < 2 * 512 * 512 * 4


@pytest.mark.parametrize("gate", [SOFT, HARD], ids=["soft", "hard"])
def test_a_row_without_connections_keeps_its_own_values(gate: Gate) -> None:
    query, state, value = discs(1, 9, 1)
    tau = torch.full((1, 9), 60.0, dtype=torch.float64)
    found = connect(query, state, value, tau, gate)
    torch.testing.assert_close(found.values, value, rtol=0, atol=1e-6)
    assert float(found.strength.max()) < 1e-6


def test_ties_at_the_hard_threshold_are_connected() -> None:
    state = torch.full((1, 50, 2), 0.43)
    weight, _ = connections(state, state, thresholds(state, state, 0.5), HARD)
    found = connect(state, state, torch.arange(50.0)[None, :, None], thresholds(state, state, 0.5), HARD)
    torch.testing.assert_close(weight[0, -1], torch.full((50,), 0.02))
    torch.testing.assert_close(found.values[0, :, 0], torch.arange(50) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", [SOFT, HARD], ids=["soft", "hard"])
def test_one_token_at_a_time_reads_the_same(gate: Gate) -> None:
    query, state, value = discs(2, 45, 2)
    spread = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    tau = thresholds(query, state, spread)
    whole = connect(query, state, value, tau, gate)
    past = Past.empty(state, value)
    for t in range(45):
        past = past.with_token(state[:, t : t + 1], value[:, t : t + 1])
        newest = past.threshold(query[:, t : t + 1], spread)
        torch.testing.assert_close(newest[:, 0], tau[:, t], rtol=0, atol=1e-9)
        read = read_newest(query[:, t : t + 1], past, newest, gate)
        torch.testing.assert_close(read.values[:, 0], whole.values[:, t], rtol=0, atol=1e-6)
        torch.testing.assert_close(read.strength[:, 0], whole.strength[:, t], rtol=0, atol=1e-6)


# the fast form


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("T", [1, 20, 64, 65, 400])
def test_the_grid_is_within_its_bound(temperature: float, T: int) -> None:
    query, state, value = discs(2, T, 1)
    gate, tau = Gate(temperature), thresholds(query, state, 0.5)
    exact, fast = connect(query, state, value, tau, gate), connect_on_grid(query, state, value, tau, gate, chunk=64)
    error = weight_error(nodes_needed(temperature), temperature)
    assert error <= 0.01
    assert float((fast.strength - exact.strength).abs().max()) <= error
    weakest = float(exact.strength.min())
    assert weakest > 2 * error
    largest = float(value.abs().max())
    assert float((fast.values - exact.values).abs().max()) <= 2 * error / (weakest - error) * largest
    assert float((fast.values - exact.values).abs().max()) < 1e-3  # what is measured is far below what is proven
    if T <= 64:
        torch.testing.assert_close(fast.values, exact.values, rtol=0, atol=1e-12)


def test_the_bound_covers_the_worst_weights_of_the_disc() -> None:
    """Thresholds and directions all over, and states at the rim, where interpolation is at its worst."""
    points = chebyshev_nodes(8)
    angle = torch.linspace(0, 6.28, 60, dtype=torch.float64)
    state = torch.stack((angle.cos(), angle.sin()), dim=-1)
    basis = interpolation(state, points)
    grid = torch.cartesian_prod(points, points)
    worst = 0.0
    for tau in torch.linspace(-0.2, 1.2, 15).tolist():
        for query in state[::7]:

            def weight(at: Tensor, query: Tensor = query, tau: float = tau) -> Tensor:
                sim = (at @ query + 1) / 2
                return sim * torch.sigmoid((sim - tau) / 0.3)

            near = torch.einsum("ta,tb,ab->t", basis[:, 0], basis[:, 1], weight(grid).view(8, 8))
            worst = max(worst, float((near - weight(state)).abs().max()))
    assert 1e-6 < worst <= weight_error(8, 0.3)


def test_more_nodes_are_better_and_sharper_gates_need_more() -> None:
    errors = [weight_error(n, 0.1) for n in (1, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    assert nodes_needed(0.05) > nodes_needed(0.1) > nodes_needed(1.0)
    with pytest.raises(ValueError, match=r"raise it to 0\.05"):
        nodes_needed(0.01)


def test_interpolation_is_exact_for_polynomials_and_at_the_nodes() -> None:
    points = chebyshev_nodes(6)
    x = torch.linspace(-1, 1, 17, dtype=torch.float64)
    torch.testing.assert_close(interpolation(points, points), torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    for degree in range(6):
        torch.testing.assert_close(interpolation(x, points) @ points**degree, x**degree, rtol=0, atol=1e-12)


def test_the_grid_does_not_see_the_future() -> None:
    query, state, value = discs(1, 100, 1, dtype=torch.float32)
    tau = thresholds(query, state, 0.5)
    before = connect_on_grid(query, state, value, tau, SOFT, chunk=16)
    for x in (query, state, value, tau):
        x[:, 53:] *= -0.5
    after = connect_on_grid(query, state, value, tau, SOFT, chunk=16)
    assert torch.equal(after.values[:, :53], before.values[:, :53])
    assert torch.equal(after.strength[:, :53], before.strength[:, :53])


def test_gradients_of_the_grid_are_close_to_the_exact_ones() -> None:
    inputs = [x.requires_grad_() for x in discs(2, 90, 1)]
    query, state, value = inputs
    found = []
    for form in (connect, lambda *given: connect_on_grid(*given, chunk=16)):
        mixed = form(query, state, value, thresholds(query, state, 0.5), SOFT)
        found.append(torch.autograd.grad((mixed.values.sin() + mixed.strength[..., None]).sum(), inputs))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("planes", "gate"), [(2, SOFT), (1, HARD)])
def test_what_has_no_grid_is_refused(planes: int, gate: Gate) -> None:
    query, state, value = discs(1, 9, planes)
    with pytest.raises(ValueError, match="evaluation to blocks"):
        connect_on_grid(query, state, value, thresholds(query, state, 0.5), gate)


@pytest.mark.skipif(not (torch.cuda.is_available() and fused_available()), reason="needs a CUDA device and Triton")
@pytest.mark.parametrize("gate", [SOFT, HARD], ids=["soft", "hard"])
@pytest.mark.parametrize(("planes", "m", "T"), [(1, 2, 100), (6, 40, 257)])
def test_the_fused_kernel_is_the_tiles(gate: Gate, planes: int, m: int, T: int) -> None:
    here = [x.requires_grad_() for x in discs(3, T, planes, m, dtype=torch.float32)]
    there = [x.detach().cuda().requires_grad_() for x in here]
    toward = torch.randn(3, T, m, generator=torch.Generator().manual_seed(5))
    found = []
    for inputs in (here, there):
        query, state, value = inputs
        mixed = connect(query, state, value, thresholds(query, state, 0.5), gate)
        loss = (mixed.values * toward.to(query.device)).sum() + mixed.strength.sum()
        found.append([mixed.values, mixed.strength, *torch.autograd.grad(loss, inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-3)
