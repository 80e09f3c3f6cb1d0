"""The memory against its recurrence, its limits and its gradients; what it shows of itself; and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import PAMConfig
from qcore.models import PAM, build_model, parameter_count
from qcore.models.pam.memory import ShortConvolution, associate, clock_angle, cut_into_chunks, phase_of, rotation

VOCAB = 23
SMALL = PAMConfig(width=24, layers=2, heads=3, context=64)


def build(**changes: object) -> PAM:
    model = build_model(SMALL.model_copy(update=changes), VOCAB, seed=1)
    assert isinstance(model, PAM)
    return model


def tokens(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (B, T), generator=torch.Generator().manual_seed(seed))


def random_qkv(B: int, T: int, H: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(B, T, H, d, dtype=torch.float64, generator=generator) for _ in range(3))
    return query, key, value


def random_decay(B: int, T: int, H: int, low: float = -1.0) -> Tensor:
    return low * torch.rand(B, T, H, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def read(qkv: tuple[Tensor, Tensor, Tensor], log_decay: Tensor, clock: Tensor | None, chunk: int, *, is_complex: bool):
    """y [B, T, H, d] of the chunked form."""
    B, T, H, d = qkv[0].shape
    writes, n = cut_into_chunks(qkv, log_decay, clock, chunk, is_complex=is_complex)
    return associate(writes, n).view(B, H, -1, d)[:, :, :T].transpose(1, 2)


def by_recurrence(qkv: tuple[Tensor, Tensor, Tensor], log_decay: Tensor, clock: Tensor | None, *, is_complex: bool):
    """S_t = γ_t S_{t−1} + v_t k_tᴴ, y_t = S_t q_t/√d, in complex arithmetic where complex."""
    query, key, value = qkv
    if clock is not None:
        query, key = (
            torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * clock[:, None]).flatten(-2)
            for x in (query, key)
        )
    if is_complex:
        query, key, value = (torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) for x in (query, key, value))
    B, T, H, d = query.shape
    state, found = torch.zeros(B, H, d, d, dtype=query.dtype), []
    for t in range(T):
        write = torch.einsum("bhv,bhk->bhvk", value[:, t], key[:, t].conj())
        state = log_decay[:, t].exp()[..., None, None] * state + write
        found.append(torch.einsum("bhvk,bhk->bhv", state, query[:, t]) / d**0.5)
    y = torch.stack(found, dim=1)
    return torch.view_as_real(y).flatten(-2) if is_complex else y


def slow_clock(T: int, d: int) -> Tensor:
    return rotation(clock_angle(0, T, torch.linspace(0.1, 1, d // 2, dtype=torch.float64)))


@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize("with_clock", [True, False])
@pytest.mark.parametrize(("T", "chunk"), [(1, 8), (7, 8), (8, 8), (9, 8), (37, 8), (37, 64), (20, 1)])
def test_the_chunked_form_equals_the_recurrence(T: int, chunk: int, with_clock: bool, is_complex: bool) -> None:
    qkv, decay = random_qkv(2, T, 3, 6), random_decay(2, T, 3)
    clock = slow_clock(T, 6) if with_clock else None
    expected = by_recurrence(qkv, decay, clock, is_complex=is_complex)
    torch.testing.assert_close(read(qkv, decay, clock, chunk, is_complex=is_complex), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("is_complex", [True, False])
def test_gradients_agree_with_finite_differences(is_complex: bool) -> None:
    query, key, value = (x.requires_grad_() for x in random_qkv(1, 7, 2, 4))
    decay = random_decay(1, 7, 2).requires_grad_()
    clock = slow_clock(7, 4)

    def form(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
        return read((q, k, v), g, clock, 3, is_complex=is_complex)

    assert torch.autograd.gradcheck(form, (query, key, value, decay))


def test_without_decay_and_clock_it_is_linear_attention() -> None:
    qkv = random_qkv(2, 19, 2, 4)
    query, key, value = (x.transpose(1, 2) for x in qkv)
    expected = ((query @ key.mT).tril() @ value / 2).transpose(1, 2)
    found = read(qkv, torch.zeros(2, 19, 2, dtype=torch.float64), None, 5, is_complex=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_complex_memory_without_imaginary_parts_is_a_real_one() -> None:
    real = random_qkv(2, 19, 2, 4)
    pairs = tuple(torch.stack((x, torch.zeros_like(x)), dim=-1).flatten(-2) for x in real)
    decay = random_decay(2, 19, 2)
    found = read(pairs, decay, None, 5, is_complex=True).unflatten(-1, (-1, 2))
    torch.testing.assert_close(found[..., 0], read(real, decay, None, 5, is_complex=False), rtol=1e-12, atol=1e-12)
    assert float(found[..., 1].abs().max()) == 0.0


def test_a_turn_of_all_values_turns_all_reads() -> None:
    query, key, value = random_qkv(1, 11, 2, 6)
    decay = random_decay(1, 11, 2)
    turned = torch.stack((-value[..., 1::2], value[..., ::2]), dim=-1).flatten(-2)
    before = read((query, key, value), decay, None, 4, is_complex=True)
    after = read((query, key, turned), decay, None, 4, is_complex=True)
    expected = torch.stack((-before[..., 1::2], before[..., ::2]), dim=-1).flatten(-2)
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("low", [-1e4, -1e30, -40.0, 0.0])
def test_extreme_decays_stay_exact_and_finite(low: float) -> None:
    """In float32 against float64: after a token that forgets everything, small decays still count."""
    T = 200
    qkv, decay = random_qkv(1, T, 2, 4), random_decay(1, T, 2, low=-0.1)
    decay[:, ::7] = low
    expected = by_recurrence(qkv, decay, None, is_complex=True)
    query, key, value = (x.float().requires_grad_() for x in qkv)
    single = decay.float().requires_grad_()
    found = read((query, key, value), single, None, 32, is_complex=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in (query, key, value, single))


def test_a_memory_that_forgets_at_once_reads_its_own_write_alone() -> None:
    qkv = random_qkv(1, 9, 2, 4)
    found = read(qkv, torch.full((1, 9, 2), -1e9, dtype=torch.float64), None, 4, is_complex=False)
    query, key, value = qkv
    torch.testing.assert_close(found, (query * key).sum(-1, keepdim=True) * value / 2)


@pytest.mark.parametrize("is_complex", [True, False])
def test_all_chunk_sizes_agree_and_have_the_same_gradients(is_complex: bool) -> None:
    window, found = tokens(2, 50), []
    for chunk in (1, 7, 32, 1024):
        model = build(chunk=chunk, complex_state=is_complex)
        logits = model(window).logits_BTV
        functional.cross_entropy(logits.flatten(0, 1), window.flatten()).backward()
        found.append((logits.detach(), [parameter.grad for parameter in model.parameters()]))
    for logits, gradients in found[1:]:
        torch.testing.assert_close(logits, found[0][0], rtol=0, atol=1e-5)
        torch.testing.assert_close(gradients, found[0][1], rtol=0, atol=1e-5)


def test_a_long_window_equals_the_recurrence() -> None:
    model = build(chunk=16).eval()
    with torch.no_grad():
        for memory in model.memories:
            memory.decay.bias += 8  # memories of thousands of tokens
        window = tokens(1, 600)
        expected = model(window).logits_BTV
        state, found = model.start(1), []
        for t in range(600):
            output, state = model.step(window[:, t], state)
            found.append(output.logits_BTV)
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)


def test_the_clock_turns_by_its_rate() -> None:
    clock = rotation(clock_angle(3, 5, torch.tensor([1.0, 0.25])))
    expected = torch.exp(1j * torch.arange(3, 8)[:, None] * torch.tensor([1.0, 0.25]))
    torch.testing.assert_close(clock, expected)


@pytest.mark.parametrize(("T", "K"), [(6, 4), (2, 4), (1, 3), (5, 1)])
def test_the_short_convolution_is_one(T: int, K: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, T, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(K, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    padded = functional.pad(x.transpose(1, 2), (K - 1, 0))
    expected = functional.conv1d(padded, weight.flip(0).t()[:, None], groups=3).transpose(1, 2)
    torch.testing.assert_close(ShortConvolution.apply(x, weight), expected)
    assert torch.autograd.gradcheck(ShortConvolution.apply, (x, weight))


def test_angles_and_their_gradients_are_safe_where_the_wave_is_silent() -> None:
    pairs = torch.tensor([[1.0, 1.0, 0.0, -2.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    phase = phase_of(pairs)
    torch.testing.assert_close(phase, torch.tensor([[math.pi / 4, -math.pi / 2, 0.0]], dtype=torch.float64))
    phase.sum().backward()
    torch.testing.assert_close(pairs.grad, torch.tensor([[-0.5, 0.5, 0.5, 0.0, 0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("is_complex", [True, False])
def test_shares_of_a_read_are_signed_causal_and_add_up(is_complex: bool) -> None:
    window = tokens(2, 20)
    kernels = build(complex_state=is_complex).mixing(window)
    assert len(kernels) == SMALL.layers
    for kernel in kernels:
        assert kernel.shape == (2, SMALL.heads, 20, 20)
        assert float(kernel.triu(1).abs().max()) == 0.0
        total = kernel.abs().sum(-1)
        assert float(total.max()) <= 1 + 1e-5
        if not is_complex:
            torch.testing.assert_close(total, torch.ones_like(total))
        assert float(kernel.min()) < -0.01


def test_shares_rebuild_the_read_of_a_real_memory() -> None:
    """Applied to the values, the shares give each read up to its size, which the norm removes."""
    model = build(complex_state=False, rotary_clock=False).eval()
    window = tokens(1, 20)
    with torch.no_grad():
        memory = model.memories[0]
        entered = model.layers[0].memory_norm(model._embed(window))
        value = memory._ask(memory._mix_lags(entered)).qkv[2]
        expected = memory.read_norm((model.mixing(window)[0] @ value.transpose(1, 2)) * 100).transpose(1, 2).flatten(2)
        _, wave, _ = memory(entered)
    torch.testing.assert_close(wave, expected, rtol=1e-4, atol=1e-4)


def test_waves_fill_the_circle_and_a_real_memory_has_none() -> None:
    window = tokens(4, 60)
    output = build()(window, with_phases=True)
    assert output.state_BTP is not None
    assert output.phases is not None
    assert len(output.phases) == SMALL.layers + 1
    assert all(phase.shape == (4, 60, SMALL.width // 2) for phase in output.phases)
    torch.testing.assert_close(output.state_BTP.angle(), output.phases[-1])
    ratio = float((output.state_BTP.imag.var() / output.state_BTP.real.var()).detach())
    assert 0.5 < ratio < 2
    assert output.phases[0].abs().max() > math.pi  # the clock is not wrapped
    assert build()(window).phases is None
    real = build(complex_state=False)(window, with_phases=True)
    assert real.state_BTP is None
    assert real.phases is None


def test_phases_can_be_trained() -> None:
    model = build()
    output = model(tokens(2, 20), with_phases=True)
    assert output.phases is not None
    sum(phase.sin().sum() for phase in output.phases).backward()
    assert float(model.memories[-1].enter.weight.grad.abs().sum()) > 0
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_memories_start_spread_from_short_to_long() -> None:
    logits = build(heads=4).memories[0].decay.bias
    memory = (1 + logits.exp()).tolist()
    assert memory == sorted(memory)
    assert 2 < memory[0] < 4
    assert 16 < memory[-1] < 32


def test_internals_follow_their_definitions() -> None:
    model = build()
    window = tokens(2, 20)
    internals = model.internals(window)
    L, H, p = SMALL.layers, SMALL.heads, SMALL.width // SMALL.heads // 2
    assert internals.arrays["decay"].shape == (L, H, 20)
    assert internals.arrays["singular"].shape == (L, H, p)
    assert internals.arrays["energy"].shape == (L, 2)
    assert all(name.startswith("pam/") for name in internals.scalars)
    assert internals.scalars["pam/decay_low"] < internals.scalars["pam/decay_mean"]
    assert internals.scalars["pam/decay_mean"] < internals.scalars["pam/decay_high"] < 1
    assert 0 < internals.scalars["pam/state_rank"] <= 1
    assert 0.5 < internals.scalars["pam/im_re_ratio"] < 2
    singular = internals.arrays["singular"]
    assert bool((singular.diff(dim=-1) <= 0).all())
    # The state that a generation carries is the same one.
    state = model.start(1)
    with torch.no_grad():
        for t in range(20):
            _, state = model.step(window[:1, t], state)
    for layer in range(L):
        carried = torch.linalg.svdvals(state.layers[layer].association[0])
        torch.testing.assert_close(singular[layer], carried, rtol=1e-3, atol=1e-3)


def test_a_memory_that_keeps_everything_or_nothing_has_bounded_internals() -> None:
    for logit, mean, memory in ((1e4, 1.0, 1e6), (-1e4, 0.0, 1.0)):
        model = build(complex_state=False)
        with torch.no_grad():
            for each in model.memories:
                each.decay.bias.fill_(logit)
        internals = model.internals(tokens(1, 8))
        assert internals.scalars["pam/decay_mean"] == pytest.approx(mean)
        assert internals.scalars["pam/memory"] == pytest.approx(memory)
        assert "pam/im_re_ratio" not in internals.scalars
        assert float(internals.arrays["energy"][:, 1].max()) == 0.0
        assert all(math.isfinite(value) for value in internals.scalars.values())


def test_the_real_ablation_has_as_many_parameters() -> None:
    counts = {parameter_count(build(complex_state=is_complex, read_gate=True)) for is_complex in (True, False)}
    assert len(counts) == 1


def test_sizes_that_do_not_fit_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"odd width 5.*switch complex_state and rotary_clock off"):
        build(width=15)
    assert build(width=15, complex_state=False, rotary_clock=False)(tokens(1, 4)).logits_BTV.shape == (1, 4, VOCAB)
    with pytest.raises(ValueError, match="24 is not divisible by 5 heads"):
        build(heads=5)
