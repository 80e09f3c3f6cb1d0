"""The exact marginal flow: against dense Gaussians and the continuity equation, over jumps, and what correlated noise
does to the variety of motions."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from qcore.flow import PATHS, ExactFlow, correlated_noise, distinct_motions, make_path, statistical_anchor
from qcore.flow.exact import BLUR
from tests.flow.blobs import moving_blobs

LINEAR = tuple(name for name in PATHS if name != "spherical")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frame_covariance(frames: int, correlation: float) -> torch.Tensor:
    return (1 - correlation) * torch.eye(frames, dtype=torch.float64) + correlation


@pytest.mark.parametrize("t", [1.0, 0.7, 0.21, 0.2, 0.1, 0.01])
@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("name", LINEAR)
def test_the_velocity_is_the_mean_over_dense_gaussians(name, correlation, t):
    """p(k | z) by the full covariance of 12 numbers, E[ε | z, k] by a dense solve."""
    clips, anchors = normal(5, 3, 1, 2, 2), normal(5, 1, 2, 2, seed=1)
    path = make_path(name)
    t_N = torch.full((4,), t, dtype=torch.float64)
    noise = correlated_noise(normal(4, 3, 1, 2, 2, seed=2), normal(4, 1, 2, 2, seed=3), correlation)
    z = path.sample(noise, anchors[:4], clips[:4], t_N).z_BFCHW
    weights = path.weights(t_N[0])
    noise_covariance = torch.kron(frame_covariance(3, correlation), torch.eye(4, dtype=torch.float64))
    covariance = weights.alpha**2 * noise_covariance + BLUR**2 * torch.eye(12, dtype=torch.float64)
    centre = (weights.beta * anchors.unsqueeze(1) + weights.gamma * clips).flatten(1)
    drift = (weights.d_beta * anchors.unsqueeze(1) + weights.d_gamma * clips).flatten(1)
    apart = z.flatten(1).unsqueeze(1) - centre
    posterior = torch.softmax(MultivariateNormal(centre, covariance).log_prob(z.flatten(1).unsqueeze(1)), dim=1)
    gain = torch.linalg.solve(covariance, noise_covariance)
    own = drift + weights.d_alpha * weights.alpha * apart @ gain
    expected = (posterior.unsqueeze(-1) * own).sum(1).view_as(z)
    found = ExactFlow(path, clips, anchors, correlation).velocity(z, t_N)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("name", PATHS)
def test_the_flow_moves_probability_as_the_path_does(name, correlation):
    """∂ log p/∂t + u·∇ log p + ∇·u = 0 for clips of two frames of one pixel, p written out independently."""
    clips, anchors = 1.5 * normal(3, 2, 1, 1, 1, seed=5), normal(3, 1, 1, 1, seed=6)
    path, covariance = make_path(name), frame_covariance(2, correlation)
    flow = ExactFlow(path, clips, anchors, correlation)

    def log_density(z, t):
        if name == "spherical":
            # z = r e^{iθ}: the noise is (r − (1−t)‖x‖)/t long and φ/t away from the clip on z's side of it.
            parts = []
            for clip in clips.flatten(1):
                radius, length = z.norm(), (z.norm() - (1 - t) * clip.norm()) / t
                turn = torch.atan2(clip[0] * z[1] - clip[1] * z[0], clip @ z)
                place = torch.atan2(clip[1], clip[0]) + turn / t
                noise = length * torch.stack((torch.cos(place), torch.sin(place)))
                # area element r dr dθ on both sides; dr and dθ shrink by t each
                inside = (length > 0) & (turn.abs() / t < math.pi)
                term = MultivariateNormal(torch.zeros(2).double(), covariance).log_prob(noise)
                parts.append(torch.where(inside, term + torch.log(length.abs() / radius / t**2), -torch.inf))
            return torch.logsumexp(torch.stack(parts), 0)
        weights = path.weights(t)
        centre = weights.beta * anchors.view(3, 1) + weights.gamma * clips.view(3, 2)
        spread = weights.alpha**2 * covariance + BLUR**2 * torch.eye(2).double()
        return torch.logsumexp(MultivariateNormal(centre, spread).log_prob(z), 0)

    def u(z, t):
        return flow.velocity(z.view(1, 2, 1, 1, 1), t.view(1)).view(2)

    checked = 0
    for number, t in enumerate([0.95, 0.8, 0.75, 0.6, 0.3, 0.15]):
        if name == "ring" and t < 0.2:
            continue  # no density: every z there lies on one of three lines
        noise = correlated_noise(normal(1, 2, 1, 1, 1, seed=number), normal(1, 1, 1, 1, seed=number + 50), correlation)
        t_1 = torch.tensor(t, dtype=torch.float64)
        z = path.sample(noise, anchors[:1], clips[:1], t_1.view(1)).z_BFCHW.view(2).requires_grad_()
        t_1.requires_grad_()
        by_z, by_t = torch.autograd.grad(log_density(z, t_1), (z, t_1))
        with torch.no_grad():
            steps = 1e-5 * torch.eye(2, dtype=torch.float64)
            spread = sum(((u(z + step, t_1) - u(z - step, t_1)) / 2e-5)[axis] for axis, step in enumerate(steps))
            change = by_t + u(z, t_1) @ by_z + spread
        assert change.item() == pytest.approx(0, abs=1e-5 * (1 + abs(by_t.item())))
        checked += 1
    assert checked >= 5


@pytest.mark.parametrize("method", ["euler", "heun", "adaptive"])
@pytest.mark.parametrize("name", PATHS)
def test_one_clip_is_reached_from_any_noise(name, method):
    clips, anchors = moving_blobs(1, frames=4, side=6), normal(1, 1, 6, 6)
    weights = make_path(name).weights(torch.zeros(1, dtype=torch.float64))
    steps = 200
    found = ExactFlow(make_path(name), clips, anchors, 0.0).sample(
        normal(3, 4, 1, 6, 6, seed=1), method=method, steps=steps, tolerance=1e-4
    )
    goal = weights.beta * anchors.unsqueeze(1) + weights.gamma * clips
    torch.testing.assert_close(found, goal.expand_as(found), rtol=0, atol=0.02)


def test_a_point_is_carried_over_the_jump_of_rab():
    """With one clip, z on the noise's side of t* must become z of the same noise on the data's side."""
    clips, anchors, noise = normal(1, 3, 1, 2, 2), normal(1, 1, 2, 2, seed=1), normal(1, 3, 1, 2, 2, seed=2)
    here = torch.tensor([0.2], dtype=torch.float64)
    for name, jumps in (("rab", True), ("quantum", False), ("ring", False)):
        path = make_path(name)
        above = path.sample(noise, anchors, clips, torch.nextafter(here, here + 1)).z_BFCHW
        below = path.sample(noise, anchors, clips, here).z_BFCHW
        assert torch.allclose(above, below) != jumps
        found = ExactFlow(path, clips, anchors, 0.0).cross(0.2, above)
        torch.testing.assert_close(found, below, rtol=0, atol=1e-2 if jumps else 1e-12)


def variety(name: str, correlation: float, *, count: int = 1024, anchors: torch.Tensor | None = None, **how) -> int:
    """Distinct motions of 64 samples of the exact flow over moving blobs."""
    clips = moving_blobs(count)
    if anchors is None:
        anchors = statistical_anchor(name, clips, torch.Generator().manual_seed(1))
    noise = correlated_noise(normal(64, 8, 1, 8, 8, seed=2), normal(64, 1, 8, 8, seed=3), correlation)
    return distinct_motions(ExactFlow(make_path(name), clips, anchors, correlation).sample(noise, **how), clips)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize("name", PATHS)
def test_noise_of_their_own_gives_frames_every_motion(name, correlation):
    """64 draws among 1024 clips hold 62 different ones on average."""
    assert variety(name, correlation) >= (60 if correlation == 0 else 58)


@pytest.mark.parametrize("name", ["plain", "rab", "quantum"])
def test_shared_noise_leaves_one_motion(name):
    """Fault V1: z_i − z_j starts at 0 and nothing random ever enters it, whatever weights, steps and solver."""
    assert variety(name, 1.0, steps=20) == 1
    assert variety(name, 1.0, count=256, method="heun", steps=50) == 1
    assert variety(name, 1.0, count=256, method="adaptive") == 1


def test_shared_noise_on_the_sphere_leaves_a_few():
    """There γ depends a little on the angle of noise and clip, which is random: not one motion, but hardly more."""
    assert variety("spherical", 1.0) <= 8


def test_the_ring_knows_only_its_anchor():
    """Every noise ends at the junction: with anchors that name their clips motions survive shared noise, with one that
    all clips share not even independent noise saves them."""
    nameless = moving_blobs(512).mean(dim=(0, 1)).expand(512, 1, 8, 8)
    assert variety("ring", 1.0, count=512) >= 55
    assert variety("ring", 0.0, count=512, anchors=nameless) == 1
    assert variety("ring", 1.0, count=512, anchors=nameless) == 1
    assert variety("quantum", 0.0, count=512, anchors=nameless) >= 55


def test_nearly_shared_noise_needs_small_steps():
    """At ρ = 0.999 the motions are there, but 20 Euler steps pass over the moment when they part."""
    coarse, fine = variety("plain", 0.999, count=256, steps=20), variety("plain", 0.999, count=256, steps=200)
    assert coarse < 20
    assert fine > 45


def test_shared_noise_is_the_limit_of_nearly_shared_noise():
    clips, anchors = moving_blobs(16), moving_blobs(16)[:, 0]
    shared = normal(3, 1, 8, 8).unsqueeze(1).expand(3, 8, 1, 8, 8)
    for name in PATHS:
        nearly, fully = (
            ExactFlow(make_path(name), clips, anchors, correlation).sample(shared, steps=20)
            for correlation in (1 - 1e-9, 1.0)
        )
        torch.testing.assert_close(nearly, fully, rtol=0, atol=0.01)
        assert fully.isfinite().all()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_single_precision_and_every_time_are_finite(name, correlation):
    clips, anchors = moving_blobs(8).float(), moving_blobs(8)[:, 0].float()
    flow = ExactFlow(make_path(name), clips, anchors, correlation)
    for z in (clips, 30 * clips, torch.zeros_like(clips) + 1e-3, normal(8, 8, 1, 8, 8).float()):
        for t in (1.0, 0.5, 0.2, 0.01, 1e-6, 0.0):
            found = flow.velocity(z, torch.full((8,), t))
            assert found.dtype == torch.float32
            assert found.isfinite().all()


def test_motions_are_told_apart_by_changes_not_by_looks():
    clips = moving_blobs(20)
    assert distinct_motions(clips, clips) == 20
    assert distinct_motions(clips[[3, 3, 5]] + 7.0, clips) == 2
    assert distinct_motions(0.97 * clips + 0.03 * clips[:1, :1], clips) == 20
    assert distinct_motions(clips[:0], clips) == 0


def test_misuse_is_refused():
    clips, anchors = moving_blobs(4), moving_blobs(4)[:, 0]
    with pytest.raises(ValueError, match="pass some"):
        ExactFlow(make_path("plain"), clips[:0], None, 0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ExactFlow(make_path("plain"), clips, None, 1.1)
    with pytest.raises(ValueError, match="needs an anchor a clip"):
        ExactFlow(make_path("rab"), clips, None, 0.0)
    with pytest.raises(ValueError, match="needs an anchor a clip"):
        ExactFlow(make_path("rab"), clips, anchors[:2], 0.0)
    with pytest.raises(ValueError, match="no direction"):
        ExactFlow(make_path("spherical"), torch.zeros_like(clips), None, 0.0)
    with pytest.raises(ValueError, match="clips like the data's"):
        ExactFlow(make_path("plain"), clips, None, 0.0).sample(clips[:, :3])
    with pytest.raises(ValueError, match="cannot be compared"):
        distinct_motions(clips[:, :3], clips)
    with pytest.raises(ValueError, match="has no motion"):
        distinct_motions(clips[:, :1], clips[:, :1])
