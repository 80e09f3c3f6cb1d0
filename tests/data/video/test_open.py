"""Clips: the digits move as measured, sides share no digit, batches are pure, pixels come back exactly."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from qcore.config import ClipsConfig
from qcore.data import open_clips
from qcore.data.video.digits import bounce, digit_clips


def digits(**settings):
    return open_clips(ClipsConfig(**{"clips": 64, **settings}))


def displacements(clips_NFCHW):
    """Of the centre of mass from frame to frame, in pixels: [N, F − 1, 2]."""
    mass = clips_NFCHW[:, :, 0].astype(float)
    total = mass.sum((2, 3))
    y = (mass.sum(3) * np.arange(mass.shape[2])).sum(2) / total
    x = (mass.sum(2) * np.arange(mass.shape[3])).sum(2) / total
    return np.diff(np.stack([y, x], -1), axis=1)


def cosine(first, second):
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(-1) / np.maximum(norms, 1e-9)


def test_the_default_clips_have_the_published_figures():
    data = open_clips(ClipsConfig())
    assert (data.name, data.shape, data.train_count, data.validation_count) == ("digits", (8, 1, 8, 8), 1843, 205)
    assert (data.frames, data.channels, data.height, data.width, data.skipped) == (8, 1, 8, 8, ())
    for clips in (data.train_batch(0, 0, data.train_count), data.validation_clips(1000)):
        frames = clips.flatten(2).numpy()
        pairs = [(i, j) for i in range(8) for j in range(i)]
        divergence = np.mean([np.sqrt(((frames[:, i] - frames[:, j]) ** 2).mean(1)) for i, j in pairs])
        cosines = np.array([cosine(frames[:, i], frames[:, j]) for i, j in pairs])
        moved = displacements(data.to_pixels(clips).numpy())
        coherence = cosine(moved[:, 1:], moved[:, :-1]).mean()
        figures = [divergence, cosines.mean(), 1 - np.abs(cosines).mean(), coherence]
        np.testing.assert_allclose(figures, [0.85, 0.57, 0.41, 0.66], atol=0.02)


def test_digits_move_at_the_speed_asked_for_in_every_direction():
    clips, _ = digit_clips(ClipsConfig(clips=600, canvas=40, digit_size=8, speed_low=0.4, speed_high=0.9))
    moved = displacements(clips)
    speed = np.linalg.norm(moved, axis=-1)
    assert speed.max() < 0.93
    free = (np.abs(np.diff(moved, axis=1)) < 0.03).all((1, 2))  # clips that meet no wall, up to rounded pixels
    assert free.mean() > 0.6
    assert 0.37 < speed[free].min() < 0.45
    assert speed[free].max() > 0.85
    assert abs(speed[free].mean() - 0.65) < 0.02
    quadrant = (moved[free, 0] > 0) @ np.array([2, 1])
    assert np.bincount(quadrant, minlength=4).min() > len(quadrant) / 6


def test_digits_stay_whole():
    clips, _ = digit_clips(ClipsConfig(clips=100, frames=40, canvas=9, digit_size=5, speed_low=2, speed_high=3))
    mass = clips.sum((2, 3, 4), dtype=np.int64)
    assert (np.abs(mass - mass[:, :1]) < 0.01 * mass[:, :1] + 20).all()


def test_bounce_is_a_ball_between_walls():
    for start, speed, room in ((0.3, 0.7, 3.0), (2.9, -0.9, 3.0), (1.0, 2.5, 1.5), (0.0, 0.0, 2.0)):
        at, velocity, path = start, speed / 1000, []
        for _ in range(12):
            path.append(at)
            for _ in range(1000):
                at += velocity
                if not 0 <= at <= room:
                    velocity, at = -velocity, min(max(at, -at), 2 * room - at)
        np.testing.assert_allclose(bounce(start + speed * np.arange(12), room), path, atol=1e-6)
    assert bounce(np.array([0.3, -2.0]), 0).tolist() == [0, 0]


def test_no_digit_is_on_both_sides():
    still = digits(clips=4000, canvas=8, digit_size=8, validation_fraction=0.25, frames=2)
    train, validation = (
        {clip.numpy().tobytes() for clip in side[:, 0]} for side in (still.train_NFCHW, still.validation_NFCHW)
    )
    assert not train & validation
    assert len(train) > 1000
    assert len(validation) > 350


def test_batches_are_a_pure_function():
    first, fresh = digits(), digits()
    positions = [0, 1, 7, 300, 2, 5000, 0, 41]
    batches = {position: first.train_batch(3, position, 8) for position in positions}
    for position in reversed(positions):
        assert torch.equal(fresh.train_batch(3, position, 8), batches[position])
    assert first.fingerprint == fresh.fingerprint
    assert not torch.equal(first.train_batch(4, 0, 8), batches[0])
    assert not torch.equal(batches[0], batches[1])
    other = digits(data_seed=1)
    assert other.fingerprint != first.fingerprint
    assert not torch.equal(other.train_batch(3, 0, 8), batches[0])


def test_two_small_batches_are_one_big_batch():
    data = digits()
    for position in (0, 11, 97):
        halves = [data.train_batch(0, 2 * position + half, 4) for half in (0, 1)]
        assert torch.equal(data.train_batch(0, position, 8), torch.cat(halves))


def test_an_epoch_shows_every_clip_once():
    data = digits()
    wanted = sorted(clip.numpy().tobytes() for clip in data.train_NFCHW)
    orders = []
    for epoch in range(3):
        shown = [data.train_batch(0, epoch * data.train_count + i, 1) for i in range(data.train_count)]
        orders.append([data.to_pixels(clip).numpy().tobytes() for clip in shown])
        assert sorted(orders[-1]) == wanted
    assert orders[0] != orders[1] != orders[2]
    across = data.train_batch(0, 0, data.train_count + 2)
    assert data.to_pixels(across[-1]).numpy().tobytes() == orders[1][1]


def test_batches_are_standardised_and_pixels_come_back():
    data = digits()
    whole = data.train_batch(0, 0, data.train_count)
    assert whole.dtype == torch.float32
    assert data.train_NFCHW.dtype == data.validation_NFCHW.dtype == torch.uint8
    assert abs(float(whole.mean())) < 1e-5
    assert abs(float(whole.std(correction=0)) - 1) < 1e-5
    assert whole.min() == pytest.approx(data.low)
    assert float(whole.max()) <= data.high + 1e-6
    assert data.to_pixels(torch.tensor([data.low, data.high, -1e9, 1e9, float("nan")])).tolist() == [0, 255, 0, 255, 0]
    assert torch.equal(data.to_pixels(data.validation_clips(1000)), data.validation_NFCHW)


def test_held_out_clips_are_fixed_and_evenly_spread():
    data = digits(clips=200)
    assert data.validation_count == 20
    whole = data.validation_clips(1000)
    batches = data.validation_batches(3, 2)
    assert [len(batch) for batch in batches] == [3, 3]
    assert torch.equal(torch.cat(batches), whole[[0, 3, 6, 10, 13, 16]])
    assert [len(batch) for batch in data.validation_batches(16, 10)] == [16, 4]
    assert torch.equal(torch.cat(data.validation_batches(16, 10)), whole)


def test_bad_arguments_are_refused():
    data = digits(clips=16)
    assert (data.train_count, data.validation_count) == (14, 2)
    for seed, position, size in ((-1, 0, 1), (0, -1, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="got"):
            data.train_batch(seed, position, size)
    with pytest.raises(ValueError, match="got 0 and 2"):
        data.validation_batches(0, 2)
    with pytest.raises(ValueError, match="got 0"):
        data.validation_clips(0)
    with pytest.raises(ValueError, match="digit of 9 px does not fit a canvas of 8 px"):
        digits(digit_size=9)
    with pytest.raises(ValueError, match=r"clips = 1000000 .* GiB of memory .*lower clips, frames or canvas"):
        digits(clips=1_000_000, canvas=512)


def test_what_a_source_needs_is_imported_with_it():
    source = (
        "import sys, qcore.data\n"
        "from qcore.config import ClipsConfig\n"
        "print([name for name in ('sklearn', 'av', 'datasets') if name in sys.modules])\n"
        "qcore.data.open_clips(ClipsConfig(clips=16))\n"
        "print('sklearn' in sys.modules, 'av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True False"]
