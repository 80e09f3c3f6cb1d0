"""Solvers: order of convergence, exact landing, both sides of a jump, and the ends where a velocity is singular."""

import math
from itertools import pairwise

import pytest
import torch

from qcore.flow import PATHS, PathSettings, integrate, make_path

METHODS = ("euler", "heun", "adaptive")
ONES = torch.ones(2, 1, 1, 1, 1, dtype=torch.float64)


def decay(z, t_B):
    """z' = (2 + cos 5t) z, so that z(0) = exp(−2 − sin(5)/5) z(1)."""
    return (2 + torch.cos(5 * t_B)).view(-1, 1, 1, 1, 1) * z


EXACT = math.exp(-2 - math.sin(5) / 5)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("jumps", [(), (0.37,)])
def test_the_order_of_convergence(method, order, jumps):
    """The midpoint rule at the end of every stretch keeps Heun's."""
    errors = [
        (integrate(decay, ONES, method=method, steps=steps, jumps=jumps) - EXACT).abs().max().item()
        for steps in (50, 100, 200, 400)
    ]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([order] * 3, abs=0.15)


def test_the_adaptive_error_follows_the_tolerance():
    errors, evaluations = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        calls = []

        def velocity(z, t_B, calls=calls):
            calls.append(t_B)
            return decay(z, t_B)

        found = integrate(velocity, ONES, method="adaptive", tolerance=tolerance, jumps=(0.37,))
        errors.append((found - EXACT).abs().max().item())
        evaluations.append(len(calls))
    assert errors[0] < 1e-2
    assert errors[1] < 1e-4
    assert errors[2] < 1e-6
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < 60


@pytest.mark.parametrize("method", METHODS)
def test_a_velocity_that_jumps_is_followed_exactly(method):
    """Constant on either side: right to rounding if and only if no step mixes the sides, in either precision."""
    for dtype in (torch.float32, torch.float64):
        path = make_path("ring", PathSettings(t_star=0.23))

        def velocity(z, t_B, path=path):
            return path.weights(t_B).d_gamma.view(-1, 1, 1, 1, 1) * torch.ones_like(z)

        found = integrate(velocity, torch.zeros(2, 1, 1, 1, 1, dtype=dtype), method=method, steps=7, jumps=path.jumps())
        torch.testing.assert_close(
            found, torch.ones_like(found), rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["rab", "quantum", "ring"])
def test_times_stand_on_the_side_they_belong_to(name, method):
    """Landed on exactly once, read from above never, from below as the side of the data, and t = 0 not at all."""
    path, read, landed = make_path(name), [], []

    def velocity(z, t_B):
        assert t_B.shape == (2,)
        read.append(t_B[0].item())
        return torch.zeros_like(z)

    z = torch.zeros(2, 1, 1, 1, 1)
    integrate(velocity, z, method=method, steps=20, jumps=path.jumps(), on_step=lambda t, _: landed.append(t))
    assert landed[0] == 1
    assert landed[-1] == 0
    assert landed == sorted(set(landed), reverse=True)
    assert landed.count(0.2) == 1
    if method != "adaptive":
        assert len(landed) == 21
    here = torch.tensor(0.2).item()
    assert read.count(here) == 1
    assert all(t > here for t in read[: read.index(here)])
    assert all(0 < t < here for t in read[read.index(here) + 1 :])


def test_a_step_with_a_jump_inside_is_cut_in_two():
    landed = []
    integrate(decay, ONES, method="euler", steps=4, jumps=(0.3, 0.6), on_step=lambda t, _: landed.append(t))
    assert landed == pytest.approx([1, 0.75, 0.6, 0.5, 0.3, 0.25, 0])


@pytest.mark.parametrize("method", METHODS)
def test_noise_that_ends_in_one_point_ends_there(method):
    """u = (z − x)/t is singular at t = 0, u = (z − A)/(t − t*) above a junction: both are straight lines to a point."""

    def velocity(z, t_B):
        t = t_B.view(-1, 1, 1, 1, 1)
        return torch.where(t > 0.2, (z - 3) / (t - 0.2), (z - 5) / t)

    noise = torch.randn(2, 3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at_jump = []
    found = integrate(
        velocity,
        noise,
        method=method,
        steps=10,
        jumps=(0.2,),
        on_step=lambda t, z: at_jump.append(z) if t == 0.2 else 0,
    )
    torch.testing.assert_close(at_jump[0], torch.full_like(noise, 3), rtol=0, atol=2e-3)
    torch.testing.assert_close(found, torch.full_like(noise, 5), rtol=0, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_it_may_end_on_the_way(method):
    found = integrate(lambda z, t_B: torch.ones_like(z), ONES, method=method, t_end=0.25, jumps=(0.1, 0.25, 0.5))
    torch.testing.assert_close(found, 0.25 * ONES)


@pytest.mark.parametrize("method", METHODS)
def test_it_stops_when_asked(method):
    landed = []
    found = integrate(
        lambda z, t_B: torch.ones_like(z),
        ONES,
        method=method,
        on_step=lambda t, _: landed.append(t),
        stop=lambda: len(landed) == 4,
        jumps=(0.5,),
    )
    assert len(landed) == 4
    torch.testing.assert_close(found, landed[-1] * ONES)


@pytest.mark.parametrize("method", METHODS)
def test_a_jump_of_z_is_carried_over_between_the_sides(method):
    seen = []

    def cross(t, z):
        seen.append((t, z.mean().item()))
        return 10 * z

    found = integrate(lambda z, t_B: torch.ones_like(z), ONES, method=method, jumps=(0.4,), cross=cross)
    assert seen == [(0.4, pytest.approx(0.4))]
    torch.testing.assert_close(found, (4 - 0.4) * ONES)


def test_a_broken_clip_neither_hides_nor_holds_up_the_others():
    def velocity(z, t_B):
        slope = decay(z, t_B)
        slope[0] = math.nan
        return slope

    found = integrate(velocity, ONES, method="adaptive")
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], EXACT * ONES[1], rtol=0, atol=1e-2)


def test_a_jump_it_was_not_told_of_does_not_hold_up_the_adaptive_solver():
    calls = []

    def velocity(z, t_B):
        calls.append(1)
        return torch.where(t_B.view(-1, 1, 1, 1, 1) > 0.4321, 1.0, 50.0) * torch.ones_like(z)

    found = integrate(velocity, ONES, method="adaptive", tolerance=1e-8)
    assert len(calls) < 400
    torch.testing.assert_close(found, (0.4321 - 50 * 0.4321) * ONES, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", PATHS)
def test_gradients_pass_when_the_caller_wants_them(name):
    start = ONES.clone().requires_grad_()
    integrate(decay, start, method="heun", steps=5, jumps=make_path(name).jumps()).sum().backward()
    assert start.grad is not None
    torch.testing.assert_close(start.grad, EXACT * torch.ones_like(start), rtol=0.2, atol=0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "magic"}, "choose euler, heun or adaptive"),
        ({"steps": 0}, "steps is 0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"t_end": 1.0}, "t_end is 1.0"),
        ({"jumps": (1.2,)}, r"jumps \[1.2\]"),
    ],
)
def test_impossible_requests_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        integrate(decay, ONES, **{"method": "euler", **values})
