"""The probes of a flow: does the model know the order of frames, and is the target the derivative of the path?"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from qcore.diagnostics import path_check, position_response

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(4, 6, 2, 5, 5, generator=GENERATOR)
T = torch.linspace(0.1, 0.9, 4)


def mixing(z_BFCHW: Tensor, t_B: Tensor) -> Tensor:
    """Frames see one another, and none knows its place."""
    return z_BFCHW + z_BFCHW.mean(1, keepdim=True) * t_B.view(-1, 1, 1, 1, 1) + z_BFCHW.amax(1, keepdim=True)


def positioned(strength: float):
    """The same, with something added that belongs to a place."""
    place = torch.randn(1, 6, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    return lambda z, t: mixing(z, t) + strength * place


def test_a_model_without_frame_positions_does_not_respond() -> None:
    assert position_response(mixing, Z, T) < 1e-6


@pytest.mark.parametrize("strength", [0.01, 0.1, 1.0])
def test_the_response_is_the_share_of_what_belongs_to_a_place(strength: float) -> None:
    size = float(positioned(strength)(Z, T).norm())
    place = float((positioned(strength)(Z, T) - mixing(Z, T)).norm())
    assert position_response(positioned(strength), Z, T) == pytest.approx(math.sqrt(2) * place / size, rel=0.3)


@pytest.mark.parametrize("frames", [2, 3, 7])
def test_no_frame_keeps_its_place(frames: int) -> None:
    """What is added differs in every frame by 1 at least: a frame that kept its place would add nothing."""

    def numbered(z: Tensor, t: Tensor) -> Tensor:
        return torch.arange(frames).view(1, -1, 1, 1, 1).expand(len(z), -1, 1, 1, 1).float()

    for seed in range(20):
        response = position_response(numbered, torch.zeros(1, frames, 1, 1, 1), torch.zeros(1), seed=seed)
        size = math.sqrt(sum(i * i for i in range(frames)))
        assert response >= math.sqrt(frames) / size - 1e-9


def test_a_model_that_says_nothing_has_no_response() -> None:
    assert math.isnan(position_response(lambda z, t: torch.zeros_like(z), Z, T))


def test_one_frame_has_no_order() -> None:
    with pytest.raises(ValueError, match="has 1 frame; two are the fewest"):
        position_response(mixing, Z[:, :1], T)


@dataclass(frozen=True)
class Point:
    z_BFCHW: Tensor
    velocity_BFCHW: Tensor


def path(dtype: torch.dtype, *, wrong: float = 1.0, jump: float = 0.0):
    """z = t·ε + bump(t)·A + (1−t)·x, with a factor on the bump's part of the velocity, and a jump of γ at t = ½."""
    noise, clips = Z.to(dtype), Z.flip(0).to(dtype)
    anchor = clips.mean(1, keepdim=True)

    def sample(t_B: Tensor) -> Point:
        t = t_B.view(-1, 1, 1, 1, 1)
        bump = torch.exp(-((t - 0.2) ** 2) / (2 * 0.05**2))
        slope = -(t - 0.2) / 0.05**2 * bump
        factor = torch.where(t < 0.5, 1 + jump, 1.0)
        z = t * noise + bump * anchor + (1 - t) * factor * clips
        return Point(z, noise + wrong * slope * anchor - factor * clips)

    return sample


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-3), (torch.float64, 1e-7)])
def test_the_derivative_of_the_path_passes(dtype: torch.dtype, limit: float) -> None:
    times = torch.tensor([0.0, 0.17, 0.24, 1.0], dtype=dtype)
    assert path_check(path(dtype), times) < limit


def test_a_velocity_that_is_no_derivative_is_measured() -> None:
    times = torch.full((4,), 0.17, dtype=torch.float64)
    right, wrong = path(torch.float64)(times), path(torch.float64, wrong=0.5)(times)
    expected = (right.velocity_BFCHW - wrong.velocity_BFCHW).norm() / right.velocity_BFCHW.norm()
    assert path_check(path(torch.float64, wrong=0.5), times) == pytest.approx(float(expected), rel=1e-5)
    assert expected > 0.1


def test_times_at_a_jump_are_left_out() -> None:
    jumping = path(torch.float64, jump=0.5)
    times = torch.tensor([0.5, 0.5 + 1e-5, 0.3, 0.8], dtype=torch.float64)
    assert path_check(jumping, times) > 0.5
    assert path_check(jumping, times, jumps=(0.5,)) < 1e-7
    assert math.isnan(path_check(jumping, times[:2].repeat(2), jumps=(0.5,)))


def test_other_types_of_time_are_refused() -> None:
    with pytest.raises(ValueError, match="pass float32 or float64"):
        path_check(path(torch.float32), T.half())
