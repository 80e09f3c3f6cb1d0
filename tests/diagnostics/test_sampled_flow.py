"""A sampler's trail against the velocity it should have followed."""

import math

import pytest
import torch

from qcore.diagnostics import sampled_flow_check, times_outside
from qcore.flow import integrate


def velocity(z, t):
    return torch.sin(3 * z) + t.view(-1, 1, 1, 1, 1) * z + 0.3


def trail_of(used, method="euler", jumps=(), steps=8):
    told = []
    noise = torch.randn(3, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    integrate(used, noise, method=method, steps=steps, jumps=jumps, on_step=lambda t, z: told.append((t, z)))
    return [t for t, _ in told], [z for _, z in told]


@pytest.mark.parametrize("method", ["euler", "heun", "adaptive"])
@pytest.mark.parametrize("jumps", [(), (0.2,)])
def test_a_solver_follows_the_velocity_it_is_given(method, jumps):
    found = sampled_flow_check(*trail_of(velocity, method, jumps), velocity, method, jumps)
    assert (
        found.error < 2e-3
    )  # the adaptive solver's last steps are a thousandth long: rounding is a thousand times that
    assert found.cosine > 0.999
    assert found.mirrored > 0.05


@pytest.mark.parametrize("method", ["euler", "heun", "adaptive"])
def test_another_velocity_is_seen_and_named(method):
    opposite = sampled_flow_check(*trail_of(lambda z, t: -velocity(z, t), method), velocity, method)
    assert opposite.cosine < -0.9
    mirrored = sampled_flow_check(*trail_of(lambda z, t: velocity(z, 1 - t), method), velocity, method)
    assert mirrored.error > 0.05
    assert mirrored.mirrored < 2e-3
    scaled = sampled_flow_check(*trail_of(lambda z, t: 1.2 * velocity(z, t), method), velocity, method)
    assert scaled.error == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_enough(steps):
    assert sampled_flow_check(*trail_of(velocity, steps=steps), velocity, "euler").error < 1e-5


def test_nothing_is_said_of_a_model_that_says_nothing():
    still = sampled_flow_check(*trail_of(lambda z, t: 0 * z), lambda z, t: 0 * z, "euler")
    assert still.scalars() == {}
    assert sampled_flow_check([1.0], [torch.zeros(1, 1, 1, 1, 1)], velocity, "euler").scalars() == {}


def test_times_outside_a_range():
    assert times_outside([1.0, 0.5, 0.0], 0.1, 0.9, 0.25) == 0
    assert times_outside([1000.0, 500.0, 0.0, 0.5], 0.1, 0.9, 0.25) == 0.5
    assert math.isnan(times_outside([], 0.0, 1.0, 0.25))
