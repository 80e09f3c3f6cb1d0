"""Measurements of frames on cases that can be worked out: stills, noise, flicker, uniform motion, moving digits."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qcore.config import ClipsConfig
from qcore.data.video.open import open_clips
from qcore.diagnostics import anchor_statistics, frame_reference, frame_statistics, singular_spectrum

FRAMES, SIDE = 8, 16


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(position_NF2: Tensor, side: int = SIDE, width: float = 1.5) -> Tensor:
    """Gaussian blobs on black, [N, F, 1, side, side], at the given places (row, column) in pixels."""
    place = torch.arange(side, dtype=torch.float64)
    gaps = [(place - position_NF2[..., axis, None]) / width for axis in (0, 1)]
    rows, columns = (torch.exp(-gap.square() / 2) for gap in gaps)
    return (rows[..., :, None] * columns[..., None, :]).unsqueeze(2).float()


def uniform_motion(count: int = 200, *, speed: float = 0.6, seed: int = 0) -> Tensor:
    """Blobs that cross the middle at one speed in all directions."""
    angle_N = 2 * math.pi * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    velocity_N2 = speed * torch.stack([angle_N.sin(), angle_N.cos()], -1)
    time_F = torch.arange(FRAMES) - (FRAMES - 1) / 2
    return blobs((SIDE - 1) / 2 + velocity_N2[:, None] * time_F[:, None])


def test_a_still_has_equal_frames_no_motion_and_full_entanglement() -> None:
    still = noise(5, 1, 3, 6, 7).expand(-1, FRAMES, -1, -1, -1)
    found = frame_statistics(still)
    assert found.divergence == pytest.approx(0, abs=1e-7)
    assert found.lag_change == pytest.approx(0, abs=1e-7)
    assert found.cosine == pytest.approx(1, abs=1e-6)
    assert found.orthogonality == pytest.approx(0, abs=1e-6)
    assert found.energy == pytest.approx(0, abs=1e-6)
    assert found.motion_variance == 0
    assert found.entanglement == pytest.approx(6.8, abs=0.2)
    assert math.isnan(found.coherence)
    assert "coherence" not in found.scalars()
    np.testing.assert_allclose(found.singular_F, [1] + [0] * (FRAMES - 1), atol=1e-6)


def test_white_noise_is_the_square_root_of_two_apart_and_independent() -> None:
    found = frame_statistics(noise(200, FRAMES, 4, 8, 8))
    assert found.divergence == pytest.approx(math.sqrt(2), rel=5e-3)
    assert found.lag_change == pytest.approx(math.sqrt(2), rel=5e-3)
    assert found.cosine == pytest.approx(0, abs=2e-3)
    assert found.orthogonality == pytest.approx(1 - math.sqrt(2 / math.pi / 256), abs=2e-3)
    assert found.std == pytest.approx(1, abs=2e-3)
    assert found.entanglement == pytest.approx(0, abs=1e-4)
    assert found.energy == pytest.approx(math.sqrt(1 - 1 / FRAMES), rel=5e-3)
    assert found.coherence == pytest.approx(-0.42, abs=0.05)
    assert found.motion_variance < 0


def test_the_published_divergence_of_noise_latents_is_two_at_128_channels() -> None:
    """‖x_i − x_j‖ over 8 × 8 tokens without the √C factor removed: √(2C/HW) = 2, whatever the clips show."""
    found = frame_statistics(noise(20, FRAMES, 128, 8, 8))
    assert found.divergence * math.sqrt(128) / 8 == pytest.approx(2, rel=5e-3)


def test_orthogonal_frames() -> None:
    one_hot = torch.eye(FRAMES).view(1, FRAMES, 1, 2, 4).repeat(3, 1, 1, 1, 1)
    found = frame_statistics(one_hot)
    assert found.cosine == 0
    assert found.orthogonality == 1
    assert found.divergence == pytest.approx(math.sqrt(2 / 8))
    np.testing.assert_allclose(found.similarity_FF, np.eye(FRAMES), atol=1e-6)
    np.testing.assert_allclose(found.singular_F, np.full(FRAMES, 1 / FRAMES), atol=1e-6)


def test_opposite_frames_are_not_orthogonal() -> None:
    frame = noise(6, 1, 1, 8, 8)
    found = frame_statistics(torch.cat([frame, -frame], 1))
    assert found.cosine == pytest.approx(-1)
    assert found.orthogonality == pytest.approx(0, abs=1e-6)


def test_measures_agree_with_loops_over_pairs() -> None:
    clips, anchor = noise(4, 5, 3, 6, 6, seed=1), noise(4, 3, 6, 6, seed=2)
    found = frame_statistics(clips, anchor_NCHW=anchor)
    values = clips.double().numpy().reshape(4, 5, -1)
    apart, alike, lags = [], [], {lag: [] for lag in range(1, 5)}
    for clip in values:
        for i in range(5):
            for j in range(5):
                if i != j:
                    gap = np.sqrt(np.mean((clip[i] - clip[j]) ** 2))
                    apart.append(gap)
                    alike.append(clip[i] @ clip[j] / np.linalg.norm(clip[i]) / np.linalg.norm(clip[j]))
                    if j > i:
                        lags[j - i].append(gap)
    assert found.divergence == pytest.approx(np.mean(apart))
    assert found.cosine == pytest.approx(np.mean(alike), abs=1e-6)
    assert found.orthogonality == pytest.approx(1 - np.mean(np.abs(alike)), abs=1e-6)
    np.testing.assert_allclose(found.lag_change_K, [np.mean(lags[lag]) for lag in lags], rtol=1e-6)
    assert found.lag_change == pytest.approx(np.mean(lags[1]))
    energy = np.sqrt(((values - anchor.double().numpy().reshape(4, 1, -1)) ** 2).mean(-1)).mean()
    assert found.energy == pytest.approx(energy)


def test_uniform_motion_is_coherent_and_its_variance_is_that_of_the_velocities() -> None:
    found = frame_statistics(uniform_motion(speed=0.6))
    assert found.coherence == pytest.approx(1, abs=1e-3)
    assert found.motion_variance == pytest.approx(0.36, rel=0.02)
    doubled = frame_statistics(uniform_motion(speed=0.3))
    assert doubled.motion_variance == pytest.approx(0.09, rel=0.02)


def test_clips_that_all_move_alike_have_no_motion_variance() -> None:
    position_F2 = 4 + 0.8 * torch.arange(FRAMES, dtype=torch.float64)[:, None].expand(-1, 2)
    found = frame_statistics(blobs(position_F2.expand(30, -1, -1)))
    assert found.coherence == pytest.approx(1, abs=1e-2)
    assert found.motion_variance == pytest.approx(0, abs=1e-6)


def test_flicker_buys_distance_but_neither_coherence_nor_motion() -> None:
    data = uniform_motion()
    reference = frame_reference(data)
    to_and_fro = frame_statistics(data[:, [0, 7] * 4], reference=reference)
    order_NF = torch.rand(len(data), FRAMES, generator=torch.Generator().manual_seed(3)).argsort(1)
    shuffled = frame_statistics(data[torch.arange(len(data))[:, None], order_NF], reference=reference)
    smooth = frame_statistics(data, reference=reference)
    assert to_and_fro.divergence > smooth.divergence
    assert to_and_fro.coherence == pytest.approx(-1, abs=1e-2)
    assert shuffled.divergence == pytest.approx(smooth.divergence)
    assert shuffled.coherence < -0.2
    for flickering in (to_and_fro, shuffled):
        assert flickering.motion_ratio < 0
        assert flickering.lag_ratio > 1.5


def test_a_reference_measured_against_itself_gives_ratios_of_one() -> None:
    data = uniform_motion(50)
    found = frame_statistics(data, reference=frame_reference(data)).scalars()
    assert {name: found[name] for name in ("lag_ratio", "motion_ratio", "std_ratio")} == pytest.approx(
        {"lag_ratio": 1, "motion_ratio": 1, "std_ratio": 1}
    )
    assert not {"lag_ratio", "motion_ratio", "std_ratio"} & set(frame_statistics(data).scalars())


def test_the_centre_of_mass_is_that_of_what_stands_out() -> None:
    """Dark on bright moves like bright on dark, and a brighter background changes nothing."""
    data = uniform_motion(40)
    plain = frame_statistics(data)
    for changed in (-data, data + 5.0, torch.cat([data, -data, 2 * data + 1], 2)):
        found = frame_statistics(changed)
        assert found.coherence == pytest.approx(plain.coherence, abs=1e-4)
        assert found.motion_variance == pytest.approx(plain.motion_variance, rel=1e-3)


def test_moving_digits_have_the_measured_figures_of_the_data() -> None:
    dataset = open_clips(ClipsConfig(clips=600))
    found = frame_statistics(dataset.train_batch(0, 0, 500))
    assert found.divergence == pytest.approx(0.85, abs=0.02)
    assert found.cosine == pytest.approx(0.57, abs=0.02)
    assert found.orthogonality == pytest.approx(0.41, abs=0.02)
    assert found.coherence == pytest.approx(0.66, abs=0.02)
    assert found.std == pytest.approx(1, abs=0.02)


def test_entanglement_of_two_correlated_frames_is_their_mutual_information() -> None:
    shared, correlation = noise(400, 1, 1, 8, 8), 0.8
    own = noise(400, 1, 1, 8, 8, seed=1)
    clips = torch.cat([shared, correlation * shared + math.sqrt(1 - correlation**2) * own], 1)
    assert frame_statistics(clips).entanglement == pytest.approx(-0.5 * math.log(1 - correlation**2), rel=0.02)


def test_one_frame_and_one_clip_measure_what_they_can() -> None:
    found = frame_statistics(noise(3, 1, 1, 4, 4)).scalars()
    assert set(found) == {"energy", "std"}
    assert frame_statistics(noise(3, 1, 1, 4, 4)).arrays()["lag_change"].shape == (0,)
    alone = frame_statistics(uniform_motion(1))
    assert alone.coherence == pytest.approx(1, abs=1e-2)
    assert "motion_variance" not in alone.scalars()


def test_blank_clips_are_finite() -> None:
    found = frame_statistics(torch.zeros(2, 4, 1, 5, 5))
    assert all(math.isfinite(value) for value in found.scalars().values())
    assert all(np.isfinite(array).all() for array in found.arrays().values())


def test_singular_spectrum_agrees_with_the_decomposition_and_is_sorted() -> None:
    clips = noise(5, 6, 2, 4, 4)
    values = torch.linalg.svdvals(clips.flatten(2))
    expected = (values / values.sum(-1, keepdim=True)).mean(0)
    found = singular_spectrum(clips)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert (np.diff(found) <= 0).all()


def test_more_frames_than_pixels_leave_the_rest_of_the_spectrum_empty() -> None:
    found = singular_spectrum(noise(3, 9, 1, 2, 2))
    assert found[:4].sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found[4:], 0, atol=1e-6)


def test_anchors_of_known_spread() -> None:
    draws = 0.5 + 2 * noise(5000, 2, 3, 3)
    of_clips = anchor_statistics(draws)
    posterior = anchor_statistics(torch.full((4, 2, 3, 3), 0.5), torch.full((4, 2, 3, 3), math.log(4.0)))
    for found in (of_clips, posterior):
        assert found.mean == pytest.approx(0.5, abs=0.02)
        assert found.spread == pytest.approx(2, rel=0.02)
        assert found.entropy == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 4), abs=0.02)
    assert set(anchor_statistics(draws[:1]).scalars()) == {"mean"}
    assert math.isfinite(anchor_statistics(draws[:1].expand(3, -1, -1, -1)).entropy)


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 3, 4, 4), (0, 3, 1, 4, 4), (2, 3, 1, 0, 4)])
def test_what_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pass clips × frames × channels × height × width"):
        frame_statistics(torch.zeros(shape))
    with pytest.raises(ValueError, match="pass clips × frames"):
        singular_spectrum(torch.zeros(shape))


def test_shapes_that_disagree_are_refused() -> None:
    clips = noise(2, 3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"anchor_NCHW has shape \(2, 3, 4, 4\); it must be \(2, 1, 4, 4\)"):
        frame_statistics(clips, anchor_NCHW=noise(2, 3, 4, 4))
    with pytest.raises(ValueError, match="clips have 1 channels; the reference has 3"):
        frame_statistics(clips, reference=frame_reference(noise(2, 3, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"log_variance_NCHW has shape \(2, 1, 4, 3\)"):
        anchor_statistics(noise(2, 1, 4, 4), noise(2, 1, 4, 3))


def test_nothing_is_backpropagated_and_nothing_is_changed() -> None:
    clips = noise(2, 3, 1, 4, 4).requires_grad_()
    kept = clips.detach().clone()
    found = frame_statistics(clips)
    assert isinstance(found.divergence, float)
    assert torch.equal(clips.detach(), kept)
    assert clips.grad is None
