"""The linear-time forms against their definitions, their limits, and their gradients in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qcore.models import interference_kernel, interference_strength, wave
from qcore.models.phase.interference import interference_attention, mix_with_means, split_phases


def random_wave(B: int, T: int, P: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    amplitude = torch.rand(B, T, P, generator=generator, dtype=dtype) + 0.1
    phase = 6.28 * torch.rand(B, T, P, generator=generator, dtype=dtype)
    return amplitude, phase


def attention_by_definition(amplitude: Tensor, phase: Tensor, value: Tensor, heads: int) -> Tensor:
    """The double sum, written out with cosines of phase differences."""
    a, psi, v = amplitude.chunk(heads, -1), phase.chunk(heads, -1), value.chunk(heads, -1)
    out = []
    for a_h, psi_h, v_h in zip(a, psi, v, strict=True):
        both = a_h[:, :, None] * a_h[:, None]
        kernel = (both * torch.cos(psi_h[:, :, None] - psi_h[:, None])).sum(-1).tril()
        out.append(kernel @ v_h / both.sum(-1).tril().sum(-1, keepdim=True))
    return torch.cat(out, dim=-1)


def means_by_recurrence(y_HTBd: Tensor, decay_logit: Tensor, share_logit: Tensor) -> Tensor:
    r, w = torch.sigmoid(decay_logit)[:, None, None], torch.sigmoid(share_logit)[:, None, None]
    total, decayed, out = torch.zeros_like(y_HTBd[:, 0]), torch.zeros_like(y_HTBd[:, 0]), []
    for t, y in enumerate(y_HTBd.unbind(1), 1):
        total, decayed = total + y, r * decayed + (1 - r) * y
        out.append(y + 0.5 * ((1 - w) * total / t + w * decayed))
    return torch.stack(out, dim=1)


@pytest.mark.parametrize(("T", "chunk"), [(1, 8), (7, 8), (8, 8), (9, 8), (37, 8), (37, 64), (64, 1)])
def test_chunked_attention_equals_its_definition(T: int, chunk: int) -> None:
    amplitude, phase = random_wave(2, T, 12, torch.float64)
    value = torch.randn(2, T, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = interference_attention(wave(amplitude, phase), amplitude, value, 4, chunk)
    torch.testing.assert_close(out, attention_by_definition(amplitude, phase, value, 4), rtol=1e-5, atol=1e-6)


def test_kernel_and_strength_give_the_attention() -> None:
    amplitude, phase = random_wave(2, 33, 12)
    value = torch.randn(2, 33, 8, generator=torch.Generator().manual_seed(1))
    z = wave(amplitude, phase)
    kernel = interference_kernel(z, 4)
    assert kernel.shape == (2, 4, 33, 33)
    assert torch.equal(kernel, kernel.tril())
    torch.testing.assert_close(kernel.diagonal(dim1=2, dim2=3), split_phases(amplitude**2, 4).sum(-1).transpose(1, 2))
    weights = kernel / interference_strength(amplitude, 4)[..., None]
    expected = (weights @ value.unflatten(-1, (4, 2)).transpose(1, 2)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(interference_attention(z, amplitude, value, 4, 8), expected, rtol=1e-5, atol=1e-6)


def test_equal_phases_average_and_opposite_phases_cancel() -> None:
    value = torch.arange(6.0).view(1, 6, 1)
    ones = torch.ones(1, 6, 2)
    aligned = interference_attention(wave(ones, 0.7 * ones), ones, value, 1)
    torch.testing.assert_close(aligned[0, :, 0], torch.arange(6.0) / 2)
    alternating = torch.pi * torch.arange(6.0).view(1, 6, 1).expand(1, 6, 2)
    opposed = interference_attention(wave(ones, alternating), ones, torch.ones(1, 6, 1), 1)
    torch.testing.assert_close(opposed[0, :, 0], torch.tensor([1, 0, 1 / 3, 0, 1 / 5, 0]), atol=1e-5, rtol=0)


def test_silent_tokens_read_zero_with_finite_gradients() -> None:
    amplitude = torch.zeros(1, 5, 4, requires_grad=True)
    phase = torch.zeros(1, 5, 4, requires_grad=True)
    out = interference_attention(wave(amplitude, phase), amplitude, torch.ones(1, 5, 4), 2)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert amplitude.grad is not None
    assert phase.grad is not None
    assert bool(amplitude.grad.isfinite().all())
    assert bool(phase.grad.isfinite().all())


def test_attention_is_bounded_by_its_values() -> None:
    amplitude, phase = random_wave(4, 100, 8)
    value = torch.rand(4, 100, 8, generator=torch.Generator().manual_seed(1))
    assert float(interference_attention(wave(amplitude, phase), amplitude, value, 2).abs().max()) <= 1.0


def test_phases_that_do_not_divide_fill_up_with_silence() -> None:
    amplitude, phase = random_wave(1, 9, 7)
    z = wave(amplitude, phase)
    kernel = interference_kernel(z, 3)
    last = (amplitude[..., 6:] * amplitude[..., 6:].transpose(1, 2)) * torch.cos(phase[..., 6:] - phase[..., 6:].mT)
    torch.testing.assert_close(kernel[:, 2], last.tril())
    with pytest.raises(ValueError, match="without any"):
        split_phases(z, 6)


@pytest.mark.parametrize(("T", "chunk"), [(1, 8), (8, 8), (13, 8), (40, 8), (40, 64)])
def test_means_equal_their_recurrence(T: int, chunk: int) -> None:
    y = torch.randn(3, T, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    decay, share = torch.tensor([-1.0, 0.5, 3.0]).double(), torch.tensor([0.3, -2.0, 1.0]).double()
    torch.testing.assert_close(mix_with_means(y, decay, share, chunk), means_by_recurrence(y, decay, share))


def test_means_of_a_constant_and_of_one_token() -> None:
    y = torch.full((1, 30, 1, 2), 2.0)
    only_prefix = mix_with_means(y, torch.zeros(1), torch.full((1,), -40.0), 8)
    torch.testing.assert_close(only_prefix, torch.full_like(y, 3.0))
    forgets_at_once = mix_with_means(y, torch.full((1,), -40.0), torch.full((1,), 40.0), 8)
    torch.testing.assert_close(forgets_at_once, torch.full_like(y, 3.0))


@pytest.mark.parametrize("logit", [-1e4, -90.0, -20.0, 20.0, 90.0, 1e4])
def test_means_are_finite_when_the_decay_reaches_0_or_1(logit: float) -> None:
    y = torch.randn(1, 200, 1, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    decay = torch.full((1,), logit, requires_grad=True)
    out = mix_with_means(y, decay, torch.zeros(1), 16)
    out.square().sum().backward()
    torch.testing.assert_close(out, means_by_recurrence(y, decay, torch.zeros(1)), rtol=1e-4, atol=1e-5)
    assert y.grad is not None
    assert decay.grad is not None
    assert bool(y.grad.isfinite().all())
    assert bool(decay.grad.isfinite().all())


def test_gradients_of_both_forms_in_float64() -> None:
    y = torch.randn(2, 7, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    decay = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    share = torch.tensor([-0.5, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: mix_with_means(*x, 3), (y, decay, share))
    amplitude, phase = (x.requires_grad_() for x in random_wave(1, 7, 4, torch.float64))
    value = torch.randn(1, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, psi, v: interference_attention(wave(a, psi), a, v, 2, 3), (amplitude, phase, value)
    )


def test_wave_is_complex64_also_under_autocast() -> None:
    amplitude, phase = random_wave(1, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = wave(amplitude.bfloat16(), phase)
    assert z.dtype == torch.complex64
    torch.testing.assert_close(z.angle(), torch.remainder(phase + torch.pi, 2 * torch.pi) - torch.pi)
