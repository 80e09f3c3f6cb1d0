"""Paths: velocities against autodiff and finite differences, normalisation, limits at 0, 1 and t*, the way back to the
data, where the published velocities land, and a t* that is learned."""

import math

import pytest
import torch

from qcore.flow import PATHS, PathSettings, integrate, make_path
from qcore.flow.paths import ANTIPARALLEL

SETTINGS = (
    PathSettings(),
    PathSettings(t_star=0.6, anchor_width=0.3, anchor_decay=3.0, repulsion=1.5),
    PathSettings(t_star=0.35, repulsion=0.0),
)
LINEAR = tuple(name for name in PATHS if name != "spherical")
WITH_ANCHOR = ("rab", "quantum", "ring")


def draw(clips: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64):
    """Noise, anchor and clips of 4 frames of 2 × 3 × 2."""
    generator = torch.Generator().manual_seed(seed)
    shape = (clips, 4, 2, 3, 2)
    noise, data = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    return noise, torch.randn(clips, 2, 3, 2, generator=generator, dtype=dtype), 0.5 + 0.8 * data


def times(t_star: float) -> list[float]:
    """Interior times, thick around t*, none of them on it."""
    even = [number / 40 for number in range(1, 40) if abs(number / 40 - t_star) > 1e-4]
    return even + [t_star + side * gap for side in (-1, 1) for gap in (1e-4, 1e-2)] + [1e-4, 1 - 1e-4]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", PATHS)
def test_the_velocity_is_the_derivative_of_the_path(name, settings):
    """Autodiff everywhere in [0, 1], t* from either side included; central differences everywhere inside."""
    path = make_path(name, settings)
    inside = times(settings.jump)
    above = torch.nextafter(torch.tensor(settings.jump, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    t_B = torch.tensor([*inside, 0.0, 1.0, settings.jump, above.item()], dtype=torch.float64)
    noise, anchor, clips = draw(len(t_B))

    def z_at(t_B):
        return path.sample(noise, anchor, clips, t_B).z_BFCHW

    velocity = path.sample(noise, anchor, clips, t_B).velocity_BFCHW
    _, tangent = torch.func.jvp(z_at, (t_B,), (torch.ones_like(t_B),))
    torch.testing.assert_close(velocity, tangent, rtol=1e-9, atol=1e-9)
    difference = (z_at(t_B + 1e-6) - z_at(t_B - 1e-6)) / 2e-6
    within = slice(0, len(inside))
    torch.testing.assert_close(velocity[within], difference[within], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", LINEAR)
def test_weights_sum_to_one_and_their_derivatives_to_zero(name, settings):
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    weights = make_path(name, settings).weights(t)
    torch.testing.assert_close(weights.alpha + weights.beta + weights.gamma, torch.ones_like(t))
    total = weights.d_alpha + weights.d_beta + weights.d_gamma
    torch.testing.assert_close(total, torch.zeros_like(t), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_starts_at_the_noise_and_ends_at_the_data(name):
    noise, anchor, clips = draw()
    path = make_path(name)
    at_noise = path.sample(noise, anchor, clips, torch.ones(3, dtype=torch.float64)).z_BFCHW
    at_data = path.sample(noise, anchor, clips, torch.zeros(3, dtype=torch.float64)).z_BFCHW
    torch.testing.assert_close(at_noise, noise, rtol=0, atol=1e-8)
    kept = {"rab": 0.03247, "quantum": 3.8e-7}.get(name, 0.0)
    expected = (1 - kept) * clips + kept * anchor.unsqueeze(1)
    torch.testing.assert_close(at_data, expected, rtol=0, atol=1e-4 if name == "rab" else 1e-7)


def test_what_stays_of_the_anchor():
    """docs/math.md: rab keeps 3 % of it, quantum 4e-7."""
    zero = torch.zeros((), dtype=torch.float64)
    assert make_path("rab").weights(zero).beta.item() == pytest.approx(0.0325, abs=5e-5)
    assert make_path("quantum").weights(zero).beta.item() == pytest.approx(3.8e-7, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_sides_of_the_jump(dtype):
    """At t* itself the side of the data, at the next float that of the noise, in every precision."""
    here = torch.tensor(0.2, dtype=dtype)
    sides = torch.stack((torch.nextafter(here, here + 1), here))
    assert make_path("quantum").weights(sides).d_gamma.tolist() == pytest.approx([-0.5, -11.5], rel=1e-5)
    assert make_path("quantum").weights(sides).gamma.tolist() == pytest.approx([0.4, 0.4], rel=1e-5)
    rab = make_path("rab").weights(sides)
    assert rab.gamma.tolist() == pytest.approx([0.4, 0.5], rel=1e-5)
    assert rab.beta.tolist() == pytest.approx([0.5, 1 / 2.4], rel=1e-5)
    ring = make_path("ring").weights(sides)
    assert ring.beta.tolist() == pytest.approx([1, 1], rel=1e-5)
    assert ring.d_alpha.tolist() == pytest.approx([1.25, 0], rel=1e-5)
    assert ring.d_gamma.tolist() == pytest.approx([0, -5], rel=1e-5)


def test_only_paths_with_a_junction_have_jumps():
    jumps = {name: make_path(name, PathSettings(t_star=0.3)).jumps() for name in PATHS}
    assert jumps == {"plain": (), "rab": (0.3,), "quantum": (0.3,), "ring": (0.3,), "spherical": ()}
    assert {name for name in PATHS if make_path(name).uses_anchor} == set(WITH_ANCHOR)


@pytest.mark.parametrize("t", [0.9, 0.5, 0.2, 0.1, 0.0])
@pytest.mark.parametrize("name", PATHS)
def test_shared_noise_leaves_only_the_data_in_the_difference_of_frames(name, t):
    """z_i − z_j = γ (x_i − x_j), one γ a clip, and the velocities of the two frames differ by γ' (x_i − x_j)."""
    noise, anchor, clips = draw()
    shared = noise[:, :1].expand_as(noise)
    t_B = torch.full((3,), t, dtype=torch.float64)
    path = make_path(name)
    sample = path.sample(shared, anchor, clips, t_B)
    apart = clips[:, 1:] - clips[:, :1]
    z_apart = sample.z_BFCHW[:, 1:] - sample.z_BFCHW[:, :1]
    u_apart = sample.velocity_BFCHW[:, 1:] - sample.velocity_BFCHW[:, :1]
    gamma = (z_apart * apart).flatten(1).sum(1) / apart.square().flatten(1).sum(1)
    torch.testing.assert_close(z_apart, gamma.view(-1, 1, 1, 1, 1) * apart, rtol=0, atol=1e-12)
    if name != "spherical":
        weights = path.weights(t_B)
        torch.testing.assert_close(gamma, weights.gamma, rtol=0, atol=1e-12)
        torch.testing.assert_close(u_apart, weights.d_gamma.view(-1, 1, 1, 1, 1) * apart, rtol=0, atol=1e-11)


@pytest.mark.parametrize("t", [1.0, 0.97, 0.6, 0.2001, 0.2, 0.05, 1e-6, 0.0])
@pytest.mark.parametrize("name", PATHS)
def test_the_data_come_back_from_a_point_and_its_velocity(name, t):
    noise, anchor, clips = draw()
    t_B = torch.full((3,), t, dtype=torch.float64)
    path = make_path(name)
    sample = path.sample(noise, anchor, clips, t_B)
    found, defined_B = path.denoised(sample.z_BFCHW, sample.velocity_BFCHW, anchor, t_B)
    if name == "ring" and t > 0.2:
        assert not defined_B.any()
        torch.testing.assert_close(found, anchor.unsqueeze(1).expand_as(clips))
    else:
        assert defined_B.all()
        torch.testing.assert_close(found, clips, rtol=0, atol=1e-7)


def test_a_batch_may_stand_on_both_sides_of_the_junction():
    noise, anchor, clips = draw()
    t_B = torch.tensor([0.9, 0.1, 0.2], dtype=torch.float64)
    sample = make_path("ring").sample(noise, anchor, clips, t_B)
    found, defined_B = make_path("ring").denoised(sample.z_BFCHW, sample.velocity_BFCHW, anchor, t_B)
    assert defined_B.tolist() == [False, True, True]
    torch.testing.assert_close(found[1:], clips[1:])


@pytest.mark.parametrize("name", PATHS)
def test_a_loss_on_the_denoised_frames_reaches_the_velocity(name):
    noise, anchor, clips = draw()
    t_B = torch.full((3,), 0.15, dtype=torch.float64)
    path = make_path(name)
    sample = path.sample(noise, anchor, clips, t_B)
    for velocity in (sample.velocity_BFCHW, torch.zeros_like(clips)):
        leaf = velocity.clone().requires_grad_()
        path.denoised(sample.z_BFCHW, leaf, anchor, t_B)[0].square().sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() > 0


@pytest.mark.parametrize("name", WITH_ANCHOR)
def test_a_learned_t_star_has_the_gradient_of_the_path(name):
    noise, anchor, clips = draw()
    t_B = torch.tensor([0.8, 0.31, 0.1], dtype=torch.float64)

    def both(t_star):
        sample = make_path(name, PathSettings(t_star=t_star)).sample(noise, anchor, clips, t_B)
        return torch.stack((sample.z_BFCHW, sample.velocity_BFCHW))

    t_star = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    _, tangent = torch.autograd.functional.jvp(both, t_star, torch.ones_like(t_star))
    torch.testing.assert_close(tangent, (both(0.3 + 1e-6) - both(0.3 - 1e-6)) / 2e-6, rtol=1e-5, atol=1e-5)
    assert tangent.abs().max() > 0.1
    assert make_path(name, PathSettings(t_star=t_star)).jumps() == (0.3,)


def follow(path, weights_at, noise, anchor, clips):
    """Integrate d_alpha ε + d_beta A + d_gamma x from t = 1 to 0."""

    def velocity(_, t_B):
        weights = weights_at(t_B)
        one, two, three = (value.view(-1, 1, 1, 1, 1) for value in (weights.d_alpha, weights.d_beta, weights.d_gamma))
        return one * noise + two * anchor.unsqueeze(1) + three * clips

    return integrate(velocity, noise, method="heun", steps=400, jumps=path.jumps())


@pytest.mark.parametrize(("name", "on_clip", "on_anchor"), [("rab", 1.0, 0.41), ("quantum", 6.0, 1.72)])
def test_where_the_published_velocity_lands(name, on_clip, on_anchor):
    """docs/math.md: at x + 0.41 A (rab) and 6.0 x + 1.72 A (quantum)."""
    noise, anchor, clips = draw()
    path = make_path(name)
    landed = follow(path, path.unnormalised_velocity_weights, noise, anchor, clips)
    torch.testing.assert_close(landed, on_clip * clips + on_anchor * anchor.unsqueeze(1), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["plain", "quantum", "ring"])
def test_the_exact_velocity_lands_on_the_data(name):
    """Rab is left out: its weights jump, and what a velocity says nothing of it can't follow."""
    noise, anchor, clips = draw()
    path = make_path(name)
    landed = follow(path, path.weights, noise, anchor, clips)
    torch.testing.assert_close(landed, clips, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", PATHS)
def test_the_published_velocity_goes_with_the_right_weights(name):
    """Fault V3 changes the velocity only; on plain and ring nothing was published wrong."""
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    right, published = make_path(name).weights(t), make_path(name).unnormalised_velocity_weights(t)
    for part in ("alpha", "beta", "gamma"):
        torch.testing.assert_close(getattr(published, part), getattr(right, part))
    wrong = max(
        (getattr(published, part) - getattr(right, part)).abs().max().item()
        for part in ("d_alpha", "d_beta", "d_gamma")
    )
    assert (wrong > 0.2) == (name in ("rab", "quantum", "spherical"))


def test_the_published_spherical_velocity_turns_too_slowly():
    """Tangent, as the right one, but of speed sin + cos: 4/π rad instead of π/2."""
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    weights = make_path("spherical").unnormalised_velocity_weights(t)
    speed = torch.hypot(weights.d_alpha, weights.d_gamma)
    assert torch.trapezoid(speed, t).item() == pytest.approx(4 / math.pi, abs=1e-6)
    tangent = weights.alpha * weights.d_alpha + weights.gamma * weights.d_gamma
    assert tangent.abs().max() < 1e-12


def test_vectors_of_one_length_move_on_a_sphere_at_even_speed():
    noise, _, clips = draw(4)
    clips = clips * (noise.flatten(1).norm(dim=1) / clips.flatten(1).norm(dim=1)).view(-1, 1, 1, 1, 1)
    cosine = torch.nn.functional.cosine_similarity(noise.flatten(1), clips.flatten(1))
    for t in (0.0, 0.3, 0.9, 1.0):
        sample = make_path("spherical").sample(noise, None, clips, torch.full((4,), t, dtype=torch.float64))
        z, u = sample.z_BFCHW.flatten(1), sample.velocity_BFCHW.flatten(1)
        torch.testing.assert_close(z.norm(dim=1), noise.flatten(1).norm(dim=1))
        torch.testing.assert_close((z * u).sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-10)
        torch.testing.assert_close(u.norm(dim=1), z.norm(dim=1) * torch.acos(cosine))


def test_orthogonal_vectors_of_one_length_have_the_weights_on_the_page():
    noise = torch.zeros(1, 1, 1, 1, 2, dtype=torch.float64)
    clips = noise.clone()
    noise[..., 0], clips[..., 1] = 3, 3
    t_B = torch.tensor([0.3], dtype=torch.float64)
    sample, weights = make_path("spherical").sample(noise, None, clips, t_B), make_path("spherical").weights(t_B)
    torch.testing.assert_close(sample.z_BFCHW, weights.alpha * noise + weights.gamma * clips)
    torch.testing.assert_close(sample.velocity_BFCHW, weights.d_alpha * noise + weights.d_gamma * clips)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "case", ["parallel", "nearly parallel", "antiparallel", "nearly antiparallel", "no clip", "no noise"]
)
def test_spherical_limits_are_straight_lines(case, dtype):
    """And the gradient to the noise stays finite."""
    noise, _, clips = draw(2, dtype=dtype)
    clips = {
        "parallel": 0.5 * noise,
        "nearly parallel": 0.5 * noise + 1e-9 * clips,
        "antiparallel": -0.5 * noise,
        "nearly antiparallel": -0.5 * noise + 0.05 * ANTIPARALLEL * clips,
        "no clip": torch.zeros_like(clips),
        "no noise": clips,
    }[case]
    noise = torch.zeros_like(noise) if case == "no noise" else noise
    noise.requires_grad_()
    for t in (0.0, 0.4, 1.0):
        t_B = torch.full((2,), t, dtype=dtype)
        sample = make_path("spherical").sample(noise, None, clips, t_B)
        torch.testing.assert_close(sample.z_BFCHW, t * noise + (1 - t) * clips, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sample.velocity_BFCHW, noise - clips, rtol=1e-4, atol=1e-4)
        (gradient,) = torch.autograd.grad((sample.z_BFCHW.sum() + sample.velocity_BFCHW.sum()), noise)
        assert gradient.isfinite().all()
        found, _ = make_path("spherical").denoised(sample.z_BFCHW, sample.velocity_BFCHW, None, t_B)
        assert found.isfinite().all()


def test_nothing_at_all_stays_nothing():
    nothing = torch.zeros(1, 2, 1, 2, 2)
    sample = make_path("spherical").sample(nothing, None, nothing, torch.tensor([0.5]))
    assert not sample.z_BFCHW.any()
    assert not sample.velocity_BFCHW.any()


def test_single_precision_is_near_double():
    noise, anchor, clips = draw()
    t_B = torch.tensor([0.9, 0.2, 0.01], dtype=torch.float64)
    for name in PATHS:
        double = make_path(name).sample(noise, anchor, clips, t_B)
        single = make_path(name).sample(noise.float(), anchor.float(), clips.float(), t_B.float())
        assert single.z_BFCHW.dtype == torch.float32
        torch.testing.assert_close(single.z_BFCHW.double(), double.z_BFCHW, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(single.velocity_BFCHW.double(), double.velocity_BFCHW, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"t_star": 0.0}, "t_star is 0.0"),
        ({"t_star": 1.0}, "t_star is 1.0"),
        ({"t_star": float("nan")}, "t_star is nan"),
        ({"t_star": torch.tensor([0.2])}, "without axes"),
        ({"anchor_width": -0.1}, "anchor_width is -0.1"),
        ({"anchor_decay": math.inf}, "anchor_decay is inf"),
        ({"repulsion": -1.0}, "repulsion is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        PathSettings(**values)


def test_what_does_not_fit_is_refused():
    noise, anchor, clips = draw()
    t_B = torch.full((3,), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match="choose one of plain, rab, quantum, ring, spherical"):
        make_path("straight")
    rab = make_path("rab")
    with pytest.raises(ValueError, match="goes through an anchor and got none"):
        rab.sample(noise, None, clips, t_B)
    with pytest.raises(ValueError, match="one frame a clip"):
        rab.sample(noise, anchor[:2], clips, t_B)
    with pytest.raises(ValueError, match="pass both as"):
        rab.sample(noise[:, :1], anchor, clips, t_B)
    with pytest.raises(ValueError, match="one time a clip"):
        rab.denoised(noise, clips, anchor, t_B[:1])
    assert make_path("plain").sample(noise, None, clips, t_B).z_BFCHW.shape == clips.shape
