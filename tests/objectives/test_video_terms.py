"""Terms of a video flow: worked-out values, slow references, limits, gradients, refusals, warm-up."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qcore.config import VideoObjectiveConfig, VideoRunConfig
from qcore.objectives import VIDEO_TERMS, VideoTermInputs, measure_terms, term_weights, total_loss

NAMES = ["flow", "orthogonality", "decoherence", "temporal", "anchor_kl"]
B, F, C, H, W = 3, 4, 2, 3, 5
Make = Callable[..., VideoTermInputs]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make() -> Make:
    """Inputs from any of their fields; the rest is seeded noise of matching shape, in float64."""

    def build(**given: Any) -> VideoTermInputs:
        shape = next((tuple(v.shape) for k, v in given.items() if k.endswith("BFCHW")), (B, F, C, H, W))
        generator = torch.Generator().manual_seed(5)
        names = ("velocity_BFCHW", "target_BFCHW", "denoised_BFCHW", "clips_BFCHW")
        fields: dict[str, Any] = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name in names}
        fields |= {
            "defined_B": torch.ones(shape[0], dtype=torch.bool),
            "t_B": torch.linspace(0.1, 0.9, shape[0]),
            "t_star": 0.2,
            "anchor_mean_BCHW": None,
            "anchor_log_variance_BCHW": None,
            "step": 10_000,
        }
        return VideoTermInputs(**{**fields, **given})

    return build


@pytest.fixture
def controls() -> dict[str, Any]:
    """Every control of the objective, all weights 0."""
    config = VideoObjectiveConfig()
    return {
        control.name: 0.0 if control.name.endswith("_weight") else getattr(config, control.name)
        for control in VideoObjectiveConfig.controls()
    }


def measured(inputs: VideoTermInputs, controls: dict[str, Any], name: str, **changes: Any) -> float:
    return float(measure_terms(inputs, {**controls, **changes}, VIDEO_TERMS)[name])


def cosines(clips: Tensor) -> np.ndarray:
    flat = clips.numpy().reshape(*clips.shape[:2], -1)
    unit = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    return unit @ unit.swapaxes(1, 2)


def test_the_terms_are_the_declared_ones_and_read_every_control_of_the_objective() -> None:
    assert [term.name for term in VIDEO_TERMS] == NAMES
    assert all(term.help.endswith(".") and len(term.help) > 20 for term in VIDEO_TERMS)
    read = {term.control for term in VIDEO_TERMS} | {name for term in VIDEO_TERMS for name in term.parameters}
    assert read == {control.name for control in VideoObjectiveConfig.controls()}


def test_the_default_configuration_trains_the_flow_alone(make: Make) -> None:
    values = VideoRunConfig().live_values()
    total = total_loss(make(), values, VIDEO_TERMS)
    assert list(total.parts) == ["flow"]
    torch.testing.assert_close(total.loss, total.parts["flow"])


def test_loss_is_the_weighted_sum_of_unweighted_parts_at_every_step_of_the_warm_up(make: Make, controls) -> None:
    anchor = {name: torch.randn(B, C, H, W) for name in ("anchor_mean_BCHW", "anchor_log_variance_BCHW")}
    weighted = controls | {term.control: 0.1 * (i + 1) for i, term in enumerate(VIDEO_TERMS)}
    for step in (1, 250, 1000, 5000):
        total = total_loss(make(**anchor, step=step), weighted, VIDEO_TERMS)
        weights = term_weights(weighted, VIDEO_TERMS, step)
        assert list(total.parts) == NAMES
        torch.testing.assert_close(total.loss, sum(weights[name] * part for name, part in total.parts.items()))
        assert weights["orthogonality"] == pytest.approx(0.2 * min(1, step / 1000))
        assert [weights[name] for name in NAMES if name != "orthogonality"] == pytest.approx([0.1, 0.3, 0.4, 0.5])


def test_orthogonality_has_no_part_before_the_first_update_and_no_warm_up_of_zero_steps(make: Make, controls) -> None:
    weighted = controls | {"flow_weight": 1.0, "orthogonality_weight": 0.1}
    assert list(total_loss(make(step=0), weighted, VIDEO_TERMS).parts) == ["flow"]
    at_once = weighted | {"orthogonality_warmup": 0}
    assert list(total_loss(make(step=0), at_once, VIDEO_TERMS).parts) == ["flow", "orthogonality"]
    assert term_weights(weighted, VIDEO_TERMS)["orthogonality"] == 0.1


def test_all_weights_zero_is_a_differentiable_zero(make: Make, controls) -> None:
    velocity = torch.randn(B, F, C, H, W, requires_grad=True)
    total = total_loss(make(velocity_BFCHW=velocity), controls, VIDEO_TERMS)
    total.loss.backward()
    assert (total.parts, total.loss.item()) == ({}, 0)
    assert velocity.grad is not None
    assert not velocity.grad.any()


# Values


def test_flow_is_the_mean_squared_error(make: Make, controls) -> None:
    inputs = make()
    expected = ((inputs.velocity_BFCHW - inputs.target_BFCHW) ** 2).mean()
    assert measured(inputs, controls, "flow") == pytest.approx(float(expected))
    right = make(velocity_BFCHW=inputs.target_BFCHW, target_BFCHW=inputs.target_BFCHW)
    assert measured(right, controls, "flow") == 0


def test_orthogonality_is_the_mean_cosine_of_predicted_frames(make: Make, controls) -> None:
    inputs = make(defined_B=torch.tensor([True, False, True]))
    off = ~np.eye(F, dtype=bool)
    expected = cosines(inputs.denoised_BFCHW)[[0, 2]][:, off].mean()
    assert measured(inputs, controls, "orthogonality") == pytest.approx(expected)


def test_a_target_from_the_data_asks_each_clip_for_what_its_own_frames_have(make: Make, controls) -> None:
    inputs = make()
    off = ~np.eye(F, dtype=bool)
    excess = cosines(inputs.denoised_BFCHW)[:, off].mean(-1) - cosines(inputs.clips_BFCHW)[:, off].mean(-1)
    assert (excess > 0).any()
    assert (excess < 0).any()
    target = {"orthogonality_target": "data"}
    assert measured(inputs, controls, "orthogonality", **target) == pytest.approx(np.maximum(excess, 0).mean())
    real = make(denoised_BFCHW=inputs.clips_BFCHW, clips_BFCHW=inputs.clips_BFCHW)
    for projection in (False, True):
        assert measured(real, controls, "orthogonality", **target, orthogonal_projection=projection) == 0


def test_projection_is_what_gram_schmidt_takes_away(make: Make, controls) -> None:
    inputs = make()
    shares = []
    for clip in inputs.denoised_BFCHW.numpy().reshape(B, F, -1):
        basis: list[np.ndarray] = []
        for frame in clip:
            unit = frame / np.linalg.norm(frame)
            left = unit - sum((unit @ axis) * axis for axis in basis)
            if basis:
                shares.append(1 - left @ left)
            basis.append(left / np.linalg.norm(left))
    found = measured(inputs, controls, "orthogonality", orthogonal_projection=True)
    assert found == pytest.approx(np.mean(shares), abs=5e-3)


@pytest.mark.parametrize(
    ("kind", "plain", "projected"), [("equal", 1, 0.999), ("orthogonal", 0, 0), ("zero", 0, 0), ("opposite", -1, 0.999)]
)
def test_orthogonality_at_its_limits_is_known_and_its_gradient_finite(kind, plain, projected, make, controls) -> None:
    frame = torch.randn(2, 1, 1, 4, 4)
    frames = {
        "equal": frame.expand(-1, 4, -1, -1, -1).clone(),
        "orthogonal": torch.eye(4).view(1, 4, 1, 2, 2).repeat(2, 1, 1, 1, 1),
        "zero": torch.zeros(2, 4, 1, 4, 4),
        "opposite": torch.cat([frame, -frame], 1),
    }[kind].requires_grad_()
    for projection, expected in ((False, plain), (True, projected)):
        settings = controls | {"orthogonality_weight": 1.0, "orthogonal_projection": projection}
        total = total_loss(make(denoised_BFCHW=frames), settings, VIDEO_TERMS)
        assert total.loss.item() == pytest.approx(expected, abs=1e-3)
        frames.grad = None
        total.loss.backward()
        assert torch.isfinite(frames.grad).all()


def test_decoherence_counts_pairs_that_are_too_alike_below_the_collapse_time_only(make: Make, controls) -> None:
    inputs = make(t_B=torch.tensor([0.1, 0.3, 0.05]), defined_B=torch.tensor([True, True, False]))
    excess = np.maximum(cosines(inputs.denoised_BFCHW) - cosines(inputs.clips_BFCHW), 0)
    off = ~np.eye(F, dtype=bool)
    assert measured(inputs, controls, "decoherence") == pytest.approx(excess[0][off].mean())
    later = make(t_B=torch.full((B,), 0.5))
    assert measured(later, controls, "decoherence") == 0


def test_temporal_compares_changes_and_not_what_frames_have_in_common(make: Make, controls) -> None:
    inputs = make(defined_B=torch.tensor([True, True, False]))
    error = np.diff((inputs.denoised_BFCHW - inputs.clips_BFCHW).numpy(), axis=1)[:2]
    assert measured(inputs, controls, "temporal") == pytest.approx((error**2).mean())
    shifted = make(denoised_BFCHW=inputs.clips_BFCHW + torch.randn(B, 1, C, H, W), clips_BFCHW=inputs.clips_BFCHW)
    assert measured(shifted, controls, "temporal") == pytest.approx(0, abs=1e-12)


def test_anchor_kl_agrees_with_torch_and_is_left_out_without_an_anchor_network(make: Make, controls) -> None:
    mean, log_variance = torch.randn(B, C, H, W), torch.randn(B, C, H, W)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    ).mean()
    inputs = make(anchor_mean_BCHW=mean, anchor_log_variance_BCHW=log_variance)
    assert measured(inputs, controls, "anchor_kl") == pytest.approx(float(expected))
    zeros = torch.zeros(B, C, H, W)
    assert measured(make(anchor_mean_BCHW=zeros, anchor_log_variance_BCHW=zeros), controls, "anchor_kl") == 0
    assert list(measure_terms(make(), controls, VIDEO_TERMS)) == NAMES[:-1]
    weighted = controls | {"flow_weight": 1.0, "anchor_kl_weight": 0.5}
    assert list(total_loss(make(), weighted, VIDEO_TERMS).parts) == ["flow"]


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_in_the_declared_range(name: str, make: Make, controls) -> None:
    term = next(term for term in VIDEO_TERMS if term.name == name)
    anchor = {key: 3 * torch.randn(B, C, H, W) for key in ("anchor_mean_BCHW", "anchor_log_variance_BCHW")}
    alike = torch.randn(B, 1, C, H, W).expand(-1, F, -1, -1, -1)
    to_and_fro = alike[:, :2] * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1, 1)
    noise = torch.randn(B, F, C, H, W)
    pairs = [(alike, -alike), (noise, alike), (alike, noise), (alike[:, :2], to_and_fro), (to_and_fro, alike[:, :2])]
    for predicted, real in pairs:
        for target in ("none", "data"):
            for projection in (False, True):
                settings = {"orthogonality_target": target, "orthogonal_projection": projection}
                inputs = make(denoised_BFCHW=predicted, clips_BFCHW=real, t_B=torch.zeros(B), **anchor)
                assert term.low - 1e-6 <= measured(inputs, controls, name, **settings) <= term.high + 1e-6


# Limits and gradients


def test_a_batch_without_a_defined_prediction_is_a_differentiable_zero(make: Make, controls) -> None:
    predicted = torch.full((B, F, C, H, W), math.nan, requires_grad=True)
    names = ("orthogonality", "decoherence", "temporal")
    settings = controls | {f"{name}_weight": 1.0 for name in names}
    total = total_loss(
        make(denoised_BFCHW=predicted, defined_B=torch.zeros(B, dtype=torch.bool)), settings, VIDEO_TERMS
    )
    assert {name: part.item() for name, part in total.parts.items()} == dict.fromkeys(names, 0)
    total.loss.backward()
    assert predicted.grad is not None
    assert not predicted.grad.any()


def test_one_undefined_prediction_reaches_no_gradient(make: Make, controls) -> None:
    values = torch.randn(B, F, C, H, W)
    values[1] = math.inf
    predicted = values.requires_grad_()
    settings = controls | {"orthogonality_weight": 1.0, "temporal_weight": 1.0, "decoherence_weight": 1.0}
    inputs = make(denoised_BFCHW=predicted, defined_B=torch.tensor([True, False, True]), t_B=torch.zeros(B))
    total_loss(inputs, settings, VIDEO_TERMS).loss.backward()
    assert torch.isfinite(predicted.grad).all()
    assert not predicted.grad[1].any()
    assert predicted.grad[0].any()


def test_one_frame_has_nothing_to_compare(make: Make, controls) -> None:
    inputs = make(velocity_BFCHW=torch.randn(2, 1, 1, 3, 3))
    for projection in (False, True):
        for name in ("orthogonality", "decoherence", "temporal"):
            assert measured(inputs, controls, name, orthogonal_projection=projection) == 0


@pytest.mark.parametrize("changes", [{}, {"orthogonal_projection": True}, {"orthogonality_target": "data"}])
def test_gradients_agree_with_finite_differences(changes: dict[str, Any], make: Make, controls) -> None:
    weighted = controls | {term.control: 0.3 for term in VIDEO_TERMS} | changes
    base = make(t_B=torch.tensor([0.1, 0.1, 0.5]))

    def loss(velocity: Tensor, predicted: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        inputs = make(
            velocity_BFCHW=velocity,
            denoised_BFCHW=predicted,
            target_BFCHW=base.target_BFCHW,
            clips_BFCHW=base.clips_BFCHW,
            anchor_mean_BCHW=mean,
            anchor_log_variance_BCHW=log_variance,
            t_B=base.t_B,
        )
        return total_loss(inputs, weighted, VIDEO_TERMS).loss

    anchors = torch.randn(2, B, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    arguments = (base.velocity_BFCHW, base.denoised_BFCHW, *anchors)
    assert torch.autograd.gradcheck(loss, [one.clone().requires_grad_() for one in arguments])


def test_a_step_down_each_term_on_frames_does_what_it_is_named_for(make: Make, controls) -> None:
    """Alike predictions of varied data come apart; plain orthogonality also pulls apart what is right (no target)."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(B, F, C, H, W, generator=generator)
    alike = 0.9 * real.mean(1, keepdim=True) + 0.1 * real
    for name in ("orthogonality", "decoherence", "temporal"):
        predicted = alike.clone().requires_grad_()
        inputs = make(denoised_BFCHW=predicted, clips_BFCHW=real, t_B=torch.zeros(B))
        total_loss(inputs, controls | {f"{name}_weight": 1.0}, VIDEO_TERMS).loss.backward()
        moved = predicted.detach() - 0.1 * predicted.grad / predicted.grad.norm()
        off = ~np.eye(F, dtype=bool)
        assert cosines(moved)[:, off].mean() < cosines(alike)[:, off].mean()


def test_low_precision_is_summed_in_float32(make: Make, controls) -> None:
    inputs = make(velocity_BFCHW=torch.full((1, 2, 1, 64, 64), 8.0, dtype=torch.float16))
    inputs = make(velocity_BFCHW=inputs.velocity_BFCHW, target_BFCHW=torch.zeros(1, 2, 1, 64, 64, dtype=torch.float16))
    assert measured(inputs, controls, "flow") == 64


# Refusals


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("velocity_BFCHW", torch.zeros(2, 3, 4, 4), "velocity_BFCHW has shape"),
        ("target_BFCHW", torch.zeros(B, F, C, H, 6), r"target_BFCHW has shape \(3, 4, 2, 3, 6\); it must be"),
        ("denoised_BFCHW", torch.zeros(B, 1, C, H, W), "denoised_BFCHW has shape"),
        ("clips_BFCHW", torch.zeros(1, F, C, H, W), "clips_BFCHW has shape"),
        ("t_B", torch.zeros(2), r"t_B has shape \(2,\); it must be \(3,\)"),
        ("defined_B", torch.ones(3), "defined_B has dtype torch.float32"),
        ("anchor_mean_BCHW", torch.zeros(B, C, H, W), "come together"),
    ],
)
def test_inputs_that_disagree_are_refused(field: str, value: Tensor, message: str, make: Make) -> None:
    fields = vars(make())
    with pytest.raises(ValueError, match=message):
        VideoTermInputs(**(fields | {field: value}))


def test_an_anchor_of_another_shape_is_refused(make: Make) -> None:
    wrong = torch.zeros(B, F, H, W)
    with pytest.raises(ValueError, match=r"anchor_mean_BCHW has shape \(3, 4, 3, 5\); it must be \(3, 2, 3, 5\)"):
        make(anchor_mean_BCHW=wrong, anchor_log_variance_BCHW=wrong)


@pytest.mark.parametrize("name", ["flow_weight", "orthogonality_warmup", "orthogonality_target"])
def test_a_missing_control_is_named(name: str, make: Make, controls) -> None:
    weighted = controls | {"orthogonality_weight": 0.1}
    del weighted[name]
    with pytest.raises(ValueError, match=f"control '{name}' is missing"):
        total_loss(make(), weighted, VIDEO_TERMS)


def test_an_unknown_target_is_refused(make: Make, controls) -> None:
    with pytest.raises(ValueError, match="orthogonality_target is 'model'; it must be 'none' or 'data'"):
        total_loss(make(), controls | {"orthogonality_weight": 1.0, "orthogonality_target": "model"}, VIDEO_TERMS)
