"""Codecs: exact inverses where nothing is lost, and an autoencoder that fits, freezes and repeats bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from qcore.models import ConvCodec, IdentityCodec, SpaceToChannelCodec, fit_codec


def smooth(seed: int, B: int = 8) -> Tensor:
    """Clips of low resolution, so that four numbers for 2 × 2 × 3 pixels are enough; standardised."""
    coarse = torch.randn(B * 3, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear", align_corners=True).view(B, 3, 3, 8, 8)
    return (fine - fine.mean()) / fine.std()


def batches() -> Iterator[Tensor]:
    seed = 0
    while True:
        yield smooth(seed)
        seed += 1


def test_pixels_as_they_are() -> None:
    x_BFCHW = smooth(0)
    codec = IdentityCodec()
    assert torch.equal(codec.encode(x_BFCHW), x_BFCHW)
    assert torch.equal(codec.decode(x_BFCHW), x_BFCHW)
    assert codec.latent_shape(3, 8, 6) == (3, 8, 6)


@pytest.mark.parametrize("patch", [2, 4])
def test_patches_become_channels_and_come_back_exactly(patch: int) -> None:
    x_BFCHW, codec = smooth(0), SpaceToChannelCodec(patch)
    z_BFCHW = codec.encode(x_BFCHW)
    assert codec.latent_shape(3, 8, 8) == tuple(z_BFCHW.shape[2:]) == (3 * patch**2, 8 // patch, 8 // patch)
    assert torch.equal(codec.decode(z_BFCHW), x_BFCHW)
    for c, y, x in ((0, 0, 0), (2, 1, 0), (1, 0, 1)):
        assert torch.equal(z_BFCHW[:, :, (c * patch + y) * patch + x], x_BFCHW[:, :, c, y::patch, x::patch])


def test_an_autoencoder_learns_clips_and_is_frozen_with_standardised_latents() -> None:
    codec = ConvCodec(3, 4, 2)
    before = float((codec.decode(codec.encode(smooth(99))) - smooth(99)).square().mean())
    error = fit_codec(codec, batches(), 150, seed=0)
    held_out = torch.cat([smooth(seed) for seed in range(1000, 1010)])
    z_BFCHW = codec.encode(held_out)
    lost = float((codec.decode(z_BFCHW) - held_out).square().mean())
    assert codec.latent_shape(3, 8, 8) == tuple(z_BFCHW.shape[2:]) == (4, 4, 4)
    assert before > 0.8
    assert lost < 0.12
    assert error == pytest.approx(lost, rel=0.5)
    assert z_BFCHW.mean((0, 1, 3, 4)).tolist() == pytest.approx([0] * 4, abs=0.1)
    assert z_BFCHW.std((0, 1, 3, 4)).tolist() == pytest.approx([1] * 4, abs=0.1)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in codec.parameters())


def test_a_fit_depends_on_its_arguments_alone() -> None:
    first, second, other = ConvCodec(3, 4, 2), ConvCodec(3, 4, 2), ConvCodec(3, 4, 2)
    state = torch.get_rng_state()
    listed = [smooth(0), smooth(1)]
    errors = [fit_codec(first, listed, 5, 3), fit_codec(second, listed, 5, 3), fit_codec(other, listed, 5, 4)]
    assert errors[0] == errors[1] != errors[2]
    assert torch.equal(torch.get_rng_state(), state)
    again = fit_codec(first, listed, 5, 3)  # from new weights, not from where the first fit ended
    assert again == errors[0]
    for name, value in second.state_dict().items():
        assert torch.equal(first.state_dict()[name], value)
    copy = ConvCodec(3, 4, 2)
    copy.load_state_dict(first.state_dict())
    assert torch.equal(copy.encode(listed[0]), first.encode(listed[0]))


def test_frames_are_coded_alone_and_gradients_pass_through() -> None:
    codec = ConvCodec(3, 4, 2)
    fit_codec(codec, batches(), 3, 0)
    x_BFCHW = smooth(0).requires_grad_()
    z_BFCHW = codec.encode(x_BFCHW)
    torch.testing.assert_close(codec.encode(x_BFCHW[2:3, 1:2]), z_BFCHW[2:3, 1:2], rtol=0, atol=1e-5)
    codec.decode(z_BFCHW).square().sum().backward()
    assert x_BFCHW.grad is not None
    assert float(x_BFCHW.grad.abs().max()) > 0
    with torch.no_grad():  # a caller that fits inside no_grad gets the same
        inside = ConvCodec(3, 4, 2)
        fit_codec(inside, batches(), 3, 0)
    assert torch.equal(inside.encode(smooth(0)), codec.encode(smooth(0)))


def test_a_channel_that_carries_nothing_stays_finite() -> None:
    codec = ConvCodec(1, 2, 2)
    flat = torch.ones(2, 2, 1, 4, 4)
    fit_codec(codec, [flat], 3, 0)
    assert bool(codec.encode(flat).isfinite().all())


def test_what_needs_no_fit_costs_none() -> None:
    assert fit_codec(IdentityCodec(), iter(()), 5, 0) == fit_codec(SpaceToChannelCodec(2), iter(()), 5, 0) == 0.0


def test_bad_input_is_refused_and_leaves_the_codec_frozen() -> None:
    codec = ConvCodec(3, 4, 2)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        fit_codec(codec, [smooth(0)], 0, 0)
    with pytest.raises(ValueError, match="not enough batches"):
        fit_codec(codec, [], 5, 0)
    with pytest.raises(ValueError, match="not enough batches"):
        fit_codec(codec, iter([smooth(0)]), 5, 0)
    with pytest.raises(FloatingPointError, match="error is nan at step 1"):
        fit_codec(codec, [smooth(0), smooth(1) * float("nan")], 5, 0)
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    with pytest.raises(ValueError, match="patches of 2 × 2 do not fill a frame of 8 × 7"):
        codec.latent_shape(3, 8, 7)
    with pytest.raises(ValueError, match="2 channels; this autoencoder was built for 3"):
        codec.latent_shape(2, 8, 8)
    with pytest.raises(ValueError, match="patches of 4 × 4 do not fill"):
        SpaceToChannelCodec(4).latent_shape(1, 6, 8)
