"""Times, frames with a gradient, what reaches the model, and the order of pixels."""

import itertools
import math

import pytest
import torch

from qcore.diagnostics import drawn_times, input_responses, pixel_order, untrained_frames


def moving_squares(frames: int, side: int, count: int = 8) -> torch.Tensor:
    """Bright squares that drift over a dark canvas, one path a clip."""
    draw = torch.Generator().manual_seed(side + frames)
    start, speed = torch.rand(count, 2, generator=draw) * side / 2, torch.rand(count, 2, generator=draw) * 0.6
    at = start[:, None] + speed[:, None] * torch.arange(frames).view(1, -1, 1)
    grid = torch.arange(side).float()
    rows, columns = ((grid - at[..., axis, None]).div(side / 5).square().neg().exp() for axis in (0, 1))
    return (rows.unsqueeze(-1) * columns.unsqueeze(-2)).unsqueeze(2)


def test_times_are_held_against_what_was_asked_for():
    draw = torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(256, generator=draw), torch.randn(256, generator=draw).sigmoid()
    for times, sampling in ((uniform, "uniform"), (normal, "logit_normal")):
        found = drawn_times(times, sampling)
        assert found.distance < 0.5 * found.limit
        assert found.values == 1.0
    # wrong ones: both ends only, half of the range, a constant
    for times in (uniform.round(), uniform / 2, torch.full((256,), 0.4)):
        found = drawn_times(times, "uniform")
        assert found.distance > 2 * found.limit
    assert math.isnan(drawn_times(uniform[:20], "uniform").distance), "twenty times say little"
    assert math.isnan(drawn_times(uniform, "another").distance)


def test_chance_seldom_comes_near_the_limit():
    draw = torch.Generator().manual_seed(1)
    found = [drawn_times(torch.rand(64, generator=draw), "uniform") for _ in range(200)]
    assert max(one.distance / one.limit for one in found) < 0.8


def test_frames_without_a_gradient_are_counted():
    gradient = torch.randn(2, 4, 1, 3, 3)
    assert untrained_frames(gradient) == 0.0
    gradient[:, 1:] = 0
    assert untrained_frames(gradient) == 0.75
    assert math.isnan(untrained_frames(torch.zeros(2, 4, 1, 3, 3)))
    assert math.isnan(untrained_frames(gradient[:, :1]))


def test_what_reaches_the_model_changes_its_velocity():
    z, t = torch.randn(3, 2, 1, 4, 4), torch.tensor([0.1, 0.5, 0.9])

    def scaled(z, t):
        return z * (1 + t.view(-1, 1, 1, 1, 1))

    of_time, of_clip = input_responses(scaled, z, t)
    assert of_time > 0.1
    assert of_clip > 0.1
    assert input_responses(lambda z, t: z, z, t)[0] == 0.0
    assert input_responses(lambda z, t: scaled(torch.ones_like(z), t * 0), z, t) == (0.0, 0.0)
    assert all(map(math.isnan, input_responses(lambda z, t: z * 0, z, t)))


SCRAMBLES = {
    "read as [H, W, F, C]": lambda x: x.reshape(len(x), *(x.shape[at] for at in (3, 4, 1, 2))).permute(0, 3, 4, 1, 2),
    "rows before frames": lambda x: x.transpose(1, 3).reshape(x.shape),
    "frames last": lambda x: x.permute(0, 2, 3, 4, 1).reshape(x.shape),
}


@pytest.mark.parametrize(("frames", "side"), [(8, 16), (4, 12), (6, 24), (16, 8)])
def test_a_clip_that_was_loaded_right_is_the_smoothest_reading_of_its_numbers(frames, side):
    clips = moving_squares(frames, side)
    assert pixel_order(clips).roughness <= 1.0 + 1e-6
    assert pixel_order(clips.expand(-1, -1, 3, -1, -1) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)).roughness <= 1.0
    for scramble in SCRAMBLES.values():
        assert pixel_order(scramble(clips)).roughness > 1.3


def test_where_readings_only_exchange_axes_likeness_over_time_tells_them_apart():
    clips = moving_squares(8, 8)
    right = pixel_order(clips)
    assert right.time_alike > right.space_alike
    for scramble in SCRAMBLES.values():
        wrong = pixel_order(scramble(clips))
        assert wrong.roughness == pytest.approx(1.0)
        assert wrong.space_alike - wrong.time_alike > 0.25


def test_bars_noise_and_stills_are_not_accused():
    for period, (frames, side) in itertools.product((3, 5, 8), ((8, 16), (16, 8))):
        at = torch.arange(side).view(1, 1, 1, side, 1) + torch.arange(frames).view(1, frames, 1, 1, 1)
        bars = torch.sin(2 * math.pi / period * at).expand(4, frames, 1, side, side)
        assert math.isnan(pixel_order(bars).roughness)
    noise = torch.randn(8, 8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert pixel_order(noise).roughness < 1.1
    still = moving_squares(1, 16).expand(-1, 8, -1, -1, -1)
    assert pixel_order(still).roughness <= 1.0 + 1e-6
    assert math.isnan(pixel_order(torch.zeros(2, 8, 1, 8, 8)).roughness)
