"""The video backbone: a slow reference, order of frames through the embedding alone, sizes, precision, latents."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import PRESETS, FlowConfig, VideoFlowConfig
from qcore.models import VideoFlow, build_video_model, fit_codec, pack, parameter_count, unpack
from qcore.models.video.backbone import time_embedding

SMALL = VideoFlowConfig(width=24, layers=2, heads=3, patch=2)
SHAPE = (5, 2, 4, 6)


def build(shape: tuple[int, int, int, int] = SHAPE, **changes: object) -> VideoFlow:
    """A model in which nothing is zero any more."""
    model = build_video_model(SMALL.model_copy(update=changes), shape, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(B: int = 3, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor]:
    return noise(B, *shape), torch.linspace(0, 1, B)


def test_the_default_has_the_published_size_and_starts_at_zero() -> None:
    model = build_video_model(VideoFlowConfig(), (8, 1, 8, 8), seed=0)
    assert parameter_count(model) == 185_552
    assert (model.anchor_network, model.t_star, len(model.layers)) == (None, None, 2)
    with torch.no_grad():
        output = model(*inputs(2, (8, 1, 8, 8)))
    assert output.velocity_BFCHW.shape == (2, 8, 1, 8, 8)
    assert output.hidden_BND.shape == (2, 8 * 4, 64)
    assert float(output.velocity_BFCHW.abs().max()) == 0
    assert 0.5 < float(output.hidden_BND.std()) < 2


def slow_attention(attention: torch.nn.Module, x_TD: Tensor, heads: int) -> Tensor:
    T, D = x_TD.shape
    d = D // heads
    query, key, value = attention.qkv(x_TD).split(D, dim=1)
    mixed = torch.zeros(T, D, dtype=x_TD.dtype)
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        for i in range(T):
            weight = torch.softmax(torch.stack([query[i, part] @ key[j, part] for j in range(T)]) / d**0.5, 0)
            mixed[i, part] = sum(weight[j] * value[j, part] for j in range(T))
    return attention.out(mixed)


def slow_velocity(model: VideoFlow, z_FCHW: Tensor, t: Tensor, amplification: float) -> Tensor:
    """One clip, token by token."""
    config, p = model.config, model.config.patch
    F, C, H, W = z_FCHW.shape
    rate = [10_000 ** (-i / (config.width // 2)) for i in range(config.width // 2)]
    angle = torch.tensor([1000 * float(t) * r for r in rate], dtype=torch.float64)
    time_D = model.time(torch.cat((angle.cos(), angle.sin())))
    corners = [(y, x) for y in range(0, H, p) for x in range(0, W, p)]
    x_FSD = torch.stack(
        [
            torch.stack(
                [
                    model.embed(z_FCHW[f, :, y : y + p, x : x + p].flatten())
                    + model.place[s]
                    + amplification * model.frame[f]
                    for s, (y, x) in enumerate(corners)
                ]
            )
            for f in range(F)
        ]
    )

    def normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * (1 + scale) + shift

    for layer in model.layers:
        a1, b1, g1, a2, b2, g2, a3, b3, g3 = layer.modulation(time_D).split(config.width)
        space = normed(x_FSD, a1, b1)
        x_FSD = x_FSD + (1 + g1) * torch.stack([slow_attention(layer.space, space[f], config.heads) for f in range(F)])
        time = normed(x_FSD, a2, b2)
        across = [slow_attention(layer.time, time[:, s], config.heads) for s in range(len(corners))]
        x_FSD = x_FSD + (1 + g2) * torch.stack(across, 1)
        x_FSD = x_FSD + (1 + g3) * layer.ffn(normed(x_FSD, a3, b3))
    values_FSV = model.head(model.norm(x_FSD))
    velocity = torch.empty_like(z_FCHW)
    for s, (y, x) in enumerate(corners):
        velocity[:, :, y : y + p, x : x + p] = values_FSV[:, s].view(F, C, p, p)
    return velocity


def test_the_velocity_agrees_with_a_slow_reference() -> None:
    model = build().double()
    z_BFCHW, t_B = inputs(2)
    with torch.no_grad():
        velocity = model(z_BFCHW.double(), t_B, amplification=2.5).velocity_BFCHW
        for row in range(2):
            expected = slow_velocity(model, z_BFCHW[row].double(), t_B[row], 2.5)
            # the model's time features are float32
            torch.testing.assert_close(velocity[row], expected, rtol=0, atol=2e-3 if t_B[row] else 1e-9)


def test_the_order_of_frames_comes_from_the_embedding_alone() -> None:
    model = build()
    z_BFCHW, t_B = inputs()
    order = torch.tensor([3, 0, 4, 1, 2])

    def change(amplification: float, positions_F: Tensor | None = None) -> float:
        shuffled = model(z_BFCHW[:, order], t_B, amplification=amplification, positions_F=positions_F)
        straight = model(z_BFCHW, t_B, amplification=amplification)
        hidden = shuffled.hidden_BND.unflatten(1, (5, -1)) - straight.hidden_BND.unflatten(1, (5, -1))[:, order]
        difference = shuffled.velocity_BFCHW - straight.velocity_BFCHW[:, order]
        return float(torch.maximum(difference.abs().max(), hidden.abs().max()))

    with torch.no_grad():
        assert change(0.0) < 1e-5
        assert change(5.0) > 0.1
        assert change(0.01) < change(1.0)
        assert change(5.0, positions_F=order) < 1e-5  # the frames keep their places
        assert change(0.0, positions_F=torch.zeros(5, dtype=torch.int64)) < 1e-5
        frozen = model(z_BFCHW[:, :1].expand(-1, 5, -1, -1, -1), t_B, amplification=0.0).velocity_BFCHW
        assert float((frozen - frozen[:, :1]).abs().max()) < 1e-5


@torch.no_grad()
def test_time_is_felt_between_0_and_1() -> None:
    ends = time_embedding(torch.tensor([0.0, 1.0]), 64)
    torch.testing.assert_close(ends[0], torch.cat((torch.ones(32), torch.zeros(32))))
    assert float(functional.cosine_similarity(ends[:1], ends[1:])) < 0.6
    assert time_embedding(torch.tensor([0.5], dtype=torch.bfloat16), 8).dtype == torch.float32
    model, (z_BFCHW, _) = build(), inputs()
    early, late = (model(z_BFCHW, torch.full((3,), t)).velocity_BFCHW for t in (0.1, 0.9))
    assert float((early - late).abs().max()) > 0.01


@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch_mates() -> None:
    model, (z_BFCHW, t_B) = build(), inputs(4)
    together = model(z_BFCHW, t_B).velocity_BFCHW
    for row in range(4):
        alone = model(z_BFCHW[row : row + 1], t_B[row : row + 1]).velocity_BFCHW
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=5e-6)


def gradients(model: VideoFlow) -> dict[str, Tensor]:
    z_BFCHW, t_B = inputs()
    model.zero_grad()
    model(z_BFCHW, t_B, anchor_BCHW=z_BFCHW[:, 0]).velocity_BFCHW.square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_every_weight_learns_and_recomputation_changes_nothing() -> None:
    plain = gradients(build(anchor_input=True))
    assert plain.keys() == {name for name, _ in build(anchor_input=True).named_parameters()}
    assert all(float(gradient.abs().max()) > 0 for gradient in plain.values())
    recomputed = gradients(build(anchor_input=True, activation_checkpointing=True))
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=0, atol=0)


def test_it_learns_a_clip() -> None:
    model = build_video_model(SMALL, (4, 1, 4, 4), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    clip = noise(1, 4, 1, 4, 4, seed=9)
    losses = []
    for step in range(120):
        epsilon, t_B = noise(16, 4, 1, 4, 4, seed=step), torch.rand(16, generator=torch.Generator().manual_seed(step))
        t = t_B.view(-1, 1, 1, 1, 1)
        loss = (model(t * epsilon + (1 - t) * clip, t_B).velocity_BFCHW - (epsilon - clip)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert sum(losses[-20:]) / 20 < 0.35


@torch.no_grad()
def test_low_precision() -> None:
    model, (z_BFCHW, t_B) = build(), inputs()
    exact = model(z_BFCHW, t_B).velocity_BFCHW
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(z_BFCHW, t_B).velocity_BFCHW
    half = model.bfloat16()(z_BFCHW.bfloat16(), t_B).velocity_BFCHW
    assert (mixed.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    for velocity in (mixed, half):
        assert float((velocity - exact).norm() / exact.norm()) < 0.05


@torch.no_grad()
def test_an_anchor_is_read_only_where_it_was_asked_for() -> None:
    z_BFCHW, t_B = inputs()
    first, second = noise(3, 2, 4, 6, seed=5), noise(3, 2, 4, 6, seed=6)
    blind, seeing = build(), build(anchor_input=True)
    assert torch.equal(blind(z_BFCHW, t_B).velocity_BFCHW, blind(z_BFCHW, t_B, anchor_BCHW=first).velocity_BFCHW)
    change = (
        seeing(z_BFCHW, t_B, anchor_BCHW=first).velocity_BFCHW - seeing(z_BFCHW, t_B, anchor_BCHW=second).velocity_BFCHW
    )
    assert float(change.abs().max()) > 0.01
    with pytest.raises(ValueError, match="anchor_input: give anchor_BCHW"):
        seeing(z_BFCHW, t_B)


def test_the_learned_collapse_time_starts_at_the_control_and_stays_in_its_range() -> None:
    assert build_video_model(SMALL, SHAPE).t_star_value(0.3) == 0.3
    model = build_video_model(SMALL.model_copy(update={"learned_t_star": True}), SHAPE)
    declared = FlowConfig.control("t_star")
    assert model.t_star is not None
    with torch.no_grad():
        for control in (0.05, 0.2, 0.5, 0.9):
            assert float(model.t_star_value(control)) == pytest.approx(control, abs=1e-6)
        for control in (declared.low, declared.high):
            assert abs(float(model.t_star_value(control)) - control) < 2e-3
    value = model.t_star_value(0.2)
    value.backward()
    share = (0.2 - declared.low) / (declared.high - declared.low)
    assert float(model.t_star.grad) == pytest.approx((declared.high - declared.low) * share * (1 - share), rel=1e-4)
    with torch.no_grad():
        model.t_star.fill_(1.0)
        assert 0.2 < float(model.t_star_value(0.2)) < float(model.t_star_value(0.5)) < declared.high
        for extreme in (-200.0, 200.0):
            model.t_star.fill_(extreme)
            assert declared.low - 1e-6 <= float(model.t_star_value(0.2)) <= declared.high + 1e-6


@pytest.mark.parametrize(
    ("latents", "shape"),
    [("pixels", (3, 3, 8, 8)), ("space_to_channel", (3, 12, 4, 4)), ("autoencoder", (3, 4, 4, 4))],
)
def test_it_acts_on_latents(latents: str, shape: tuple[int, ...]) -> None:
    model = build((3, 3, 8, 8), latents=latents, anchor="network")
    clips = noise(2, 3, 3, 8, 8)
    fit_codec(model.codec, [clips], 2, 0)
    z_BFCHW = model.codec.encode(clips)
    assert model.latent_shape == shape == z_BFCHW.shape[1:]
    assert model(z_BFCHW, torch.rand(2)).velocity_BFCHW.shape == z_BFCHW.shape
    assert model.codec.decode(z_BFCHW).shape == clips.shape
    assert model.anchor_network is not None
    assert model.anchor_network(z_BFCHW).mean_BCHW.shape == (2, *shape[1:])


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 2, 8), (9, 1, 6, 2)])
def test_odd_sizes(shape: tuple[int, int, int, int]) -> None:
    z_BFCHW = noise(1, *shape)
    for changes in ({}, {"width": 9}, {"ffn_width": 1, "layers": 1}):
        velocity = build(shape, **changes)(z_BFCHW, torch.zeros(1)).velocity_BFCHW
        assert velocity.shape == z_BFCHW.shape
        assert bool(velocity.isfinite().all())
    shorter = build(shape)(z_BFCHW[:, :1], torch.ones(1)).velocity_BFCHW
    assert shorter.shape == (1, 1, *shape[1:])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="24 is not divisible by 5 heads"):
        build_video_model(SMALL.model_copy(update={"heads": 5}), SHAPE)
    with pytest.raises(ValueError, match="patches of 4 × 4 do not fill a frame of 4 × 6"):
        build_video_model(SMALL.model_copy(update={"patch": 4}), SHAPE)
    model, (z_BFCHW, t_B) = build(), inputs()
    for wrong in (z_BFCHW[0], z_BFCHW[..., :4], z_BFCHW.repeat(1, 2, 1, 1, 1), z_BFCHW[:, :0]):
        with pytest.raises(ValueError, match=r"takes \[B, F, 2, 4, 6\] with F from 1 to 5"):
            model(wrong, t_B)
    with pytest.raises(ValueError, match=r"times of shape \(\); give one for each of 3 clips"):
        model(z_BFCHW, t_B[0])


def test_weights_follow_the_seed_and_leave_the_global_random_state_alone() -> None:
    config = SMALL.model_copy(update={"latents": "autoencoder", "anchor": "network"})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    shape = (3, 2, 8, 4)
    first = build_video_model(config, shape, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, other = (build_video_model(config, shape, seed=seed).state_dict() for seed in (7, 8))
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.state_dict()["embed.weight"], other["embed.weight"])


def test_packing_is_frame_major() -> None:
    x_BCFHW = torch.arange(2 * 3 * 4 * 2 * 5).view(2, 3, 4, 2, 5)
    packed = pack(x_BCFHW)
    assert packed.shape == (2, 40, 3)
    for f, h, w in ((0, 0, 0), (1, 0, 3), (3, 1, 4)):
        assert torch.equal(packed[:, (f * 2 + h) * 5 + w], x_BCFHW[:, :, f, h, w])
    assert torch.equal(unpack(packed, 4, 2, 5), x_BCFHW)
    with pytest.raises(ValueError, match="40 tokens are not 4 × 2 × 4"):
        unpack(packed, 4, 2, 4)
    assert math.prod(packed.shape) == x_BCFHW.numel()


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.config.kind == "video_flow"])
def test_every_video_preset_constructs(name: str) -> None:
    config = PRESETS[name].config
    shape = (config.value("frames"), 1, config.value("canvas"), config.value("canvas"))
    model = build_video_model(config.model, shape)
    z = torch.zeros(2, *model.latent_shape)
    assert model(z, torch.rand(2), anchor_BCHW=z[:, 0]).velocity_BFCHW.shape == z.shape
