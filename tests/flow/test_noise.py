"""Noise of a given correlation, and the anchors against formulas written out pixel by pixel."""

import math

import pytest
import torch

from qcore.flow import correlated_noise, mean_anchor, quantum_anchor, rab_anchor, statistical_anchor


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9, 1.0])
def test_frames_have_the_correlation_that_was_asked_for(correlation):
    noise = correlated_noise(normal(400, 3, 1, 8, 8), normal(400, 1, 8, 8, seed=1), correlation)
    found = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    expected = torch.full((3, 3), correlation, dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_the_ends_are_exact():
    own, shared = normal(2, 3, 1, 4, 4), normal(2, 1, 4, 4, seed=1)
    assert torch.equal(correlated_noise(own, shared, 0.0), own)
    assert torch.equal(correlated_noise(own, shared, 1.0), shared.unsqueeze(1).expand_as(own))


@pytest.mark.parametrize("correlation", [-0.01, 1.01, math.nan])
def test_a_correlation_that_is_none_is_refused(correlation):
    with pytest.raises(ValueError, match="between 0 and 1"):
        correlated_noise(normal(2, 3, 1, 4, 4), normal(2, 1, 4, 4), correlation)


def test_noises_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the same without frames"):
        correlated_noise(normal(2, 3, 1, 4, 4), normal(2, 3, 1, 4, 4), 0.5)


def test_the_rab_anchor_pixel_by_pixel():
    """A 5 × 5 Gaussian of 1.5 px around each pixel, zeros outside."""
    clips, noise = normal(2, 3, 2, 6, 7), normal(2, 2, 6, 7, seed=1)
    sharp = 0.95 * clips[:, 0] + 0.05 * clips.mean(1)
    found = rab_anchor(clips, noise)
    weight = [[math.exp(-(i * i + j * j) / 4.5) for j in range(-2, 3)] for i in range(-2, 3)]
    total = sum(map(sum, weight))
    for row, column in ((0, 0), (3, 3), (5, 6), (2, 1)):
        expected = torch.zeros(2, 2, dtype=torch.float64)
        for i in range(5):
            for j in range(5):
                y, x = row + i - 2, column + j - 2
                if 0 <= y < 6 and 0 <= x < 7:
                    expected += weight[i][j] / total * sharp[..., y, x]
        torch.testing.assert_close(found[..., row, column], expected + 0.02 * noise[..., row, column])


def test_a_small_frame_is_not_blurred():
    clips = normal(2, 3, 1, 5, 9)
    found = rab_anchor(clips, torch.zeros(2, 1, 5, 9, dtype=torch.float64))
    torch.testing.assert_close(found, 0.95 * clips[:, 0] + 0.05 * clips.mean(1))


def test_the_quantum_anchor_as_published():
    clips, noise = normal(2, 5, 1, 3, 3), normal(3, 2, 1, 3, 3, seed=1)
    mean = clips.mean(1)
    variance = (clips - mean.unsqueeze(1)).square().sum(1) / 4
    expected = mean + 0.2 * variance.sqrt() + 0.05 * noise[0] + (0.1 + variance).sqrt() * (noise[1] + 0.3 * noise[2])
    torch.testing.assert_close(quantum_anchor(clips, *noise), expected)


def test_one_frame_has_an_anchor():
    clips, noise = normal(2, 1, 1, 3, 3), torch.zeros(3, 2, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(quantum_anchor(clips, *noise), clips[:, 0])
    torch.testing.assert_close(mean_anchor(clips), clips[:, 0])


def test_every_path_finds_its_own_recipe():
    clips, noise = normal(2, 3, 1, 8, 8), normal(3, 2, 1, 8, 8, seed=1)
    assert torch.equal(statistical_anchor("rab", clips, noise), rab_anchor(clips, noise[0]))
    assert torch.equal(statistical_anchor("quantum", clips, noise), quantum_anchor(clips, *noise))
    for name in ("plain", "ring", "spherical"):
        assert torch.equal(statistical_anchor(name, clips, noise), clips.mean(1))


def test_a_seed_means_one_anchor():
    clips = normal(2, 3, 1, 8, 8)
    one, same, other = (statistical_anchor("quantum", clips, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_wrong_anchor_requests_are_refused():
    clips = normal(2, 3, 1, 8, 8)
    with pytest.raises(ValueError, match="no path 'zipper'"):
        statistical_anchor("zipper", clips, torch.Generator())
    with pytest.raises(ValueError, match="or a generator"):
        statistical_anchor("rab", clips, normal(2, 1, 8, 8))
