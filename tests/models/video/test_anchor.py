"""The anchor network: starts as the prior, knows no order of frames, keeps its limits, pools as it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qcore.models import AnchorNetwork, AnchorOutput


def build(perturbed: bool = True, patch: int = 2, features: int = 32) -> AnchorNetwork:
    torch.manual_seed(0)
    network = AnchorNetwork(3, patch, features)
    if perturbed:
        with torch.no_grad():
            network.head.weight.normal_(std=0.3)
    return network


def clips(F: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(2, F, 3, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_it_starts_as_the_prior() -> None:
    with torch.no_grad():
        output = build(perturbed=False)(clips())
    assert output.mean_BCHW.shape == output.log_variance_BCHW.shape == (2, 3, 4, 6)
    assert float(output.mean_BCHW.abs().max()) == float(output.log_variance_BCHW.abs().max()) == 0
    noise = clips(1, seed=3)[:, 0]
    assert torch.equal(AnchorNetwork.sample(output, noise), noise)


def test_a_sample_is_mean_plus_spread_times_noise() -> None:
    output = AnchorOutput(torch.full((1, 1, 1, 2), 5.0), torch.tensor([[[[0.0, 2.0]]]]).log() * 2)
    noise = torch.tensor([[[[3.0, -1.0]]]])
    assert AnchorNetwork.sample(output, noise).flatten().tolist() == pytest.approx([5.0, 3.0])


@pytest.mark.parametrize("patch", [1, 2])
def test_the_order_of_frames_does_not_matter(patch: int) -> None:
    network, x_BFCHW = build(patch=patch), clips()
    straight, shuffled = network(x_BFCHW), network(x_BFCHW[:, [4, 2, 0, 1, 3]])
    torch.testing.assert_close(straight.mean_BCHW, shuffled.mean_BCHW, rtol=0, atol=1e-5)
    torch.testing.assert_close(straight.log_variance_BCHW, shuffled.log_variance_BCHW, rtol=0, atol=1e-5)
    assert not torch.allclose(straight.mean_BCHW, network(clips(seed=1)).mean_BCHW, atol=0.1)


def test_superposition_weighs_what_differs_between_frames() -> None:
    network, x_BFCHW = build(), clips()
    still = x_BFCHW[:, :1].expand(-1, 5, -1, -1, -1)
    means = [network(x_BFCHW, superposition=s).mean_BCHW for s in (0.0, 1.0, 3.0)]
    torch.testing.assert_close(means[2] - means[0], 3 * (means[1] - means[0]))  # linear in s
    assert float((means[1] - means[0]).detach().abs().max()) > 0.01
    same = [network(still, superposition=s).mean_BCHW for s in (0.0, 20.0)]
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=1e-4)
    one = network(x_BFCHW[:, :1], superposition=20.0)
    torch.testing.assert_close(one.mean_BCHW, same[0], rtol=0, atol=1e-4)


def test_frames_of_a_patch_look_at_each_other() -> None:
    """Against attention written out, for one patch and head."""
    network = build().double()
    h = torch.randn(1, 1, 1, 4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    query, key, value = network.qkv(h[0, 0, 0]).split(32, dim=1)
    mixed = torch.cat(
        [
            torch.softmax(query[:, at : at + 2] @ key[:, at : at + 2].T / 2**0.5, dim=1) @ value[:, at : at + 2]
            for at in range(0, 32, 2)
        ],
        dim=1,
    )
    torch.testing.assert_close(network._attend(h)[0, 0, 0], network.out(mixed))


@pytest.mark.parametrize("limit", [0.5, 6.0, 8.0])
def test_log_variance_keeps_its_limit_and_its_gradient(limit: float) -> None:
    network = build()
    with torch.no_grad():
        network.head.weight.mul_(20)
    output = network(clips(), log_variance_limit=limit)
    highest = float(output.log_variance_BCHW.detach().abs().max())
    assert 0.9 * limit < highest <= limit
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(1.2 * limit)  # a hard clamp has no gradient here
    network(clips(), log_variance_limit=limit).log_variance_BCHW.sum().backward()
    assert float(network.head.bias.grad.abs().max()) > 0.1


def test_jitter_is_read_as_it_is_given() -> None:
    network, x_BFCHW, jitter = build(), clips(), 0.1 * clips(seed=4)
    assert torch.equal(network(x_BFCHW, jitter_BFCHW=jitter).mean_BCHW, network(x_BFCHW + jitter).mean_BCHW)
    assert not torch.equal(network(x_BFCHW).mean_BCHW, network(x_BFCHW + jitter).mean_BCHW)


def test_every_weight_learns_in_full_and_in_low_precision() -> None:
    network = build()
    exact = network(clips())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(clips())
        AnchorNetwork.sample(mixed, clips(1)[:, 0]).square().mean().backward()
    assert mixed.mean_BCHW.dtype == torch.float32
    assert float((mixed.mean_BCHW - exact.mean_BCHW).norm() / exact.mean_BCHW.norm()) < 0.05
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    half = network.bfloat16()(clips().bfloat16())
    assert half.mean_BCHW.dtype == torch.bfloat16
    assert bool(half.log_variance_BCHW.isfinite().all())


def test_what_does_not_fit_is_refused() -> None:
    network = build()
    for wrong in (clips()[:, :, :2], clips()[0]):
        with pytest.raises(ValueError, match=r"reads \[B, F, 3, H, W\]"):
            network(wrong)
    with pytest.raises(ValueError, match="patches of 2 × 2 do not fill a frame of 4 × 5"):
        network(clips()[..., :5])
    with pytest.raises(ValueError, match="log_variance_limit is 0"):
        network(clips(), log_variance_limit=0)
    with pytest.raises(ValueError, match="24 features do not split among 16 heads"):
        AnchorNetwork(3, 2, 24)
