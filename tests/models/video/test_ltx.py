"""LTX-Video with LoRA, on the tiny variant: it is diffusers' model, only LoRA trains, and its state is what trains."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from qcore.config.ltx import LatentsConfig, LTXVideoConfig
from qcore.data.video.latents import open_latents
from qcore.models.video import ltx
from qcore.models.video.ltx import LTXVideo, build_ltx, load_transformer
from tests.support.configs import has_ltx

pytestmark = pytest.mark.skipif(not has_ltx(), reason="the extra ltx is not installed")

SHAPE = (4, 16, 3, 5)


def tiny(seed: int = 0, shape: tuple[int, int, int, int] = SHAPE, **changes: Any) -> LTXVideo:
    return build_ltx(LTXVideoConfig(**changes), shape, seed=seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(model: LTXVideo) -> LTXVideo:
    """LoRA starts as no change; give it one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


def learning(model: LTXVideo) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def train(model: LTXVideo, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """Flow matching on random latents: target ε − x, one batch for all steps."""
    x = open_latents(LatentsConfig(clips=8)).train_batch(0, 0, 4)
    losses = []
    for step in steps:
        t, epsilon = torch.rand(4, generator=torch.Generator().manual_seed(step)), noise(*x.shape)
        share = t.view(-1, 1, 1, 1, 1)
        velocity = model(share * epsilon + (1 - share) * x, t).velocity_BFCHW
        loss = (velocity - (epsilon - x)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def adam(model: LTXVideo) -> torch.optim.AdamW:
    return torch.optim.AdamW(list(learning(model).values()), lr=2e-2)


# it is diffusers' model


def test_the_sizes_are_the_published_ones() -> None:
    model = tiny()
    frozen = sum(value.numel() for value in model.parameters() if not value.requires_grad)
    assert (frozen, sum(value.numel() for value in learning(model).values())) == (52_848, 4_096)
    counts = {name: ltx._count(ltx._sizes(name)) for name in ("2b", "13b")}
    assert counts == {"2b": 1_923_385_472, "13b": 13_042_569_344}


@pytest.mark.parametrize("amplification", [0.0, 1.0, 5.0])
def test_forward_is_the_transformer_called_directly(amplification: float) -> None:
    model, z, t = moved(tiny()), noise(2, *SHAPE), torch.tensor([0.1, 0.9])
    text, mask = noise(2, 7, 24, seed=1), torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
    F, C, H, W = SHAPE
    with torch.no_grad():
        output = model(z, t, amplification=amplification, text_BLE=text, text_mask_BL=mask)
        direct = model.transformer(
            z.permute(0, 1, 3, 4, 2).reshape(2, F * H * W, C),
            encoder_hidden_states=text,
            timestep=1000 * t,
            encoder_attention_mask=mask,
            num_frames=F,
            height=H,
            width=W,
            rope_interpolation_scale=(amplification * 8 / 25, 32, 32),
        ).sample
        head = model.transformer.proj_out(output.hidden_BND)
    assert output.velocity_BFCHW.shape == z.shape
    assert torch.equal(output.velocity_BFCHW.permute(0, 1, 3, 4, 2).reshape(direct.shape), direct)
    assert torch.equal(head, direct)
    assert not torch.equal(direct[0], direct[1])


def test_lora_starts_as_no_change() -> None:
    model, z, t = tiny(), noise(2, *SHAPE), torch.rand(2)
    before = model(z, t).velocity_BFCHW
    model.transformer.disable_adapters()
    assert torch.equal(model(z, t).velocity_BFCHW, before)
    model.transformer.enable_adapters()
    assert not torch.equal(moved(model)(z, t).velocity_BFCHW, before)


def test_positions_are_what_tells_frames_apart() -> None:
    model, z, t, order = moved(tiny()), noise(2, *SHAPE), torch.rand(2), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        plain = model(z, t, amplification=1).velocity_BFCHW
        both = model(z[:, order], t, amplification=1, positions_F=order).velocity_BFCHW
        shuffled = model(z[:, order], t, amplification=1).velocity_BFCHW
        hidden = model(z, t, amplification=0).velocity_BFCHW
        hidden_shuffled = model(z[:, order], t, amplification=0).velocity_BFCHW
    torch.testing.assert_close(both, plain[:, order])
    torch.testing.assert_close(hidden_shuffled, hidden[:, order])
    assert (shuffled - plain[:, order]).abs().max() > 1e-3


def test_with_shared_noise_frames_differ_by_their_rotary_positions_alone() -> None:
    shares = []
    for seed in range(4):
        model = tiny(seed, (8, 16, 8, 8))
        z = noise(4, 1, 16, 8, 8, seed=seed).expand(-1, 8, -1, -1, -1)
        with torch.no_grad():
            velocity = model(z, torch.full((4,), 0.5), amplification=1).velocity_BFCHW
            same = model(z, torch.full((4,), 0.5), amplification=0).velocity_BFCHW
        shares.append(float(velocity.var(1, correction=0).mean() / velocity.var()))
        assert float(same.var(1, correction=0).max()) < 1e-10
    assert all(5e-6 < share < 5e-4 for share in shares), shares


def test_text_given_once_serves_every_clip() -> None:
    model, z, t = moved(tiny()), noise(3, *SHAPE), torch.rand(3)
    text, mask = noise(5, 24, seed=2), torch.tensor([1, 1, 1, 0, 0])
    silent = model(z, t).velocity_BFCHW
    model.use_text(text, mask)
    spoken = model(z, t).velocity_BFCHW
    each = model(z, t, text_BLE=text.expand(3, -1, -1), text_mask_BL=mask.expand(3, -1)).velocity_BFCHW
    assert torch.equal(spoken, each)
    assert (spoken - silent).abs().max() > 1e-4
    model.use_text(torch.where(mask[:, None] == 1, text, 100.0), mask)
    torch.testing.assert_close(model(z, t).velocity_BFCHW, spoken)


def test_equal_seeds_give_equal_models_and_keep_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    models = [tiny(seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.cat([value.flatten() for value in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# only LoRA trains


def test_a_few_steps_lower_the_loss_and_only_lora_moves() -> None:
    model = tiny(shape=(4, 16, 4, 4))
    frozen = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    started = {name: value.detach().clone() for name, value in learning(model).items()}
    losses = train(model, adam(model), range(25))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) and now[name].grad is None for name, value in frozen.items())
    assert all(".lora_" in name and not torch.equal(now[name], value) for name, value in started.items())
    assert len(started) == 2 * 4 * 2 * 2, "A and B of four layers of both attentions of both blocks"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputing_layers_changes_no_gradient(precision: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = moved(tiny(activation_checkpointing=recompute, base_precision=precision))
        model(noise(2, *SHAPE), torch.tensor([0.2, 0.7])).velocity_BFCHW.square().mean().backward()
        gradients.append([value.grad for value in learning(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_adapters_of_a_bfloat16_base_train_in_float32() -> None:
    model, exact = moved(tiny(base_precision="bf16")), moved(tiny())
    assert {value.dtype for value in learning(model).values()} == {torch.float32}
    assert model.transformer.proj_in.weight.dtype == torch.bfloat16
    z, t = noise(2, *SHAPE), torch.tensor([0.2, 0.7])
    output, wanted = model(z, t).velocity_BFCHW, exact(z, t).velocity_BFCHW
    assert output.dtype == torch.float32
    assert (output - wanted).norm() / wanted.norm() < 0.05


def test_dropout_acts_in_training_only() -> None:
    model, z, t = moved(tiny(lora_dropout=0.5)), noise(2, *SHAPE), torch.rand(2)
    model.eval()
    assert torch.equal(model(z, t).velocity_BFCHW, model(z, t).velocity_BFCHW)
    model.train()
    assert not torch.equal(model(z, t).velocity_BFCHW, model(z, t).velocity_BFCHW)


def test_the_anchor_network_and_t_star_train_beside_lora() -> None:
    model = tiny(anchor="network", learned_t_star=True)
    assert model.anchor_network is not None
    assert model.anchor_network(noise(2, *SHAPE)).mean_BCHW.shape == (2, 16, 3, 5)
    learned = model.t_star_value(0.2)
    assert isinstance(learned, Tensor)
    assert learned.item() == pytest.approx(0.2, abs=1e-3)
    names = set(learning(model))
    assert "t_star" in names
    assert any(name.startswith("anchor_network.") for name in names)
    state = model.trainable_state_dict()
    assert {name.replace(".default.", ".") for name in names} == {name for name in state if "base_" not in name}
    assert tiny().t_star_value(0.2) == 0.2


# the state is what trains


def test_the_state_is_lora_and_the_mark_of_its_base() -> None:
    model = tiny()
    [mark] = [name for name in model.state_dict() if ".lora_" not in name]
    assert mark.startswith("base_")
    assert set(model.state_dict()) - {mark} == set(learning(model))
    assert sum(value.numel() for value in model.trainable_state_dict().values()) == 4_096
    assert mark in tiny().state_dict()
    assert mark in moved(tiny(lora_rank=2)).state_dict()
    assert mark not in tiny(1).state_dict()


def test_training_resumes_bit_for_bit_from_the_saved_state() -> None:
    whole = tiny(shape=(4, 16, 4, 4))
    optimizer = adam(whole)
    first = train(whole, optimizer, range(4))
    saved, moments = save(whole.trainable_state_dict()), copy.deepcopy(optimizer.state_dict())
    rest = train(whole, optimizer, range(4, 8))
    resumed = tiny(shape=(4, 16, 4, 4))
    with torch.no_grad():
        for name, value in resumed.trainable_state_dict().items():
            value.copy_(load(saved)[name])
    assert all(torch.equal(load(saved)[name], value) for name, value in resumed.trainable_state_dict().items())
    again = adam(resumed)
    again.load_state_dict(moments)
    assert train(resumed, again, range(4, 8)) == rest
    assert len(set(first + rest)) == 8
    ended = whole.trainable_state_dict()
    assert all(torch.equal(value, ended[name]) for name, value in resumed.trainable_state_dict().items())


def test_a_copy_shares_the_frozen_weights_and_nothing_else() -> None:
    model = tiny(shape=(4, 16, 4, 4))
    average = AveragedModel(model, multi_avg_fn=lambda a, b, n: torch._foreach_lerp_(a, b, 0.5))
    own, copied = dict(model.named_parameters()), dict(average.module.named_parameters())
    assert all((own[name] is copied[name]) == (not own[name].requires_grad) for name in own)
    train(model, adam(model), range(3))
    average.update_parameters(model)
    z, t = noise(1, 4, 16, 4, 4), torch.rand(1)
    assert torch.equal(average(z, t).velocity_BFCHW, model(z, t).velocity_BFCHW), "the first average is a copy"
    train(model, adam(model), range(3))
    average.update_parameters(model)
    assert not torch.equal(average(z, t).velocity_BFCHW, model(z, t).velocity_BFCHW)
    assert sum("lora_A" in name for name in average.state_dict()) == 16
    assert not any(name.endswith("proj_in.weight") for name in average.state_dict())


def test_diffusers_loads_what_is_saved(tmp_path: Path) -> None:
    model = moved(tiny())
    save_file(model.trainable_state_dict(), tmp_path / "lora.safetensors")
    theirs = tiny().transformer
    theirs.delete_adapters("default")
    theirs.load_lora_adapter(load_file(tmp_path / "lora.safetensors"), prefix="transformer")
    inputs = {
        "hidden_states": noise(1, 12, 16),
        "encoder_hidden_states": torch.zeros(1, 1, 24),
        "timestep": torch.tensor([300.0]),
        "encoder_attention_mask": torch.ones(1, 1),
        "num_frames": 3,
        "height": 2,
        "width": 2,
    }
    assert torch.equal(theirs(**inputs).sample, model.transformer(**inputs).sample)


# weights


def original_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in the published single files."""
    renamed = {}
    for name, value in state.items():
        for new, old in (("proj_in", "patchify_proj"), ("time_embed", "adaln_single"), ("norm_q", "q_norm")):
            name = name.replace(new, old)
        renamed[f"model.diffusion_model.{name.replace('norm_k', 'k_norm')}"] = value
    return renamed


def same(model: Any, other: Any) -> bool:
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == other_name and torch.equal(value, other) for (name, value), (other_name, other) in pairs)


def test_weights_load_from_a_folder_and_from_a_file(tmp_path: Path) -> None:
    source = load_transformer(LTXVideoConfig())
    source.save_pretrained(tmp_path / "pipeline" / "transformer")
    save_file(source.state_dict(), tmp_path / "own.safetensors")
    save_file(original_names(source.state_dict()), tmp_path / "original.safetensors")
    for name in ("pipeline", "pipeline/transformer", "own.safetensors", "original.safetensors"):
        loaded = load_transformer(LTXVideoConfig(model_id=str(tmp_path / name), offline=True))
        assert same(loaded, source), name
        assert not loaded.training
    half = load_transformer(LTXVideoConfig(model_id=str(tmp_path / "pipeline"), base_precision="bf16"))
    assert same(half, source.to(torch.bfloat16))


def test_weights_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    source = load_transformer(LTXVideoConfig())
    source.save_pretrained(tmp_path / "folder")
    part = original_names(source.state_dict())
    part.pop("model.diffusion_model.proj_out.weight")
    save_file(part, tmp_path / "part.safetensors")
    save_file({**source.state_dict(), "proj_out.bias": torch.zeros(3)}, tmp_path / "shape.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    (tmp_path / "weights.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("part.safetensors", r"lacks 1 weights of the model, 'proj_out\.weight' first"),
        ("shape.safetensors", r"lacks 1 weights of the model, 'proj_out\.bias' first"),
        ("broken.safetensors", "cannot be loaded .* variant = 'tiny' needs none"),
        ("weights.ckpt", r"only \.safetensors files are read"),
        ("empty", "cannot be loaded"),
        ("nowhere", "does not exist: give a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            load_transformer(LTXVideoConfig(model_id=str(tmp_path / name), offline=True))
    with pytest.raises(ValueError, match="holds the weights of variant tiny, not of 2b"):
        load_transformer(LTXVideoConfig(model_id=str(tmp_path / "folder"), variant="2b", offline=True))
    with pytest.raises(ValueError, match=r"'someone/theirs' cannot be loaded .*: switch offline off"):
        load_transformer(
            LTXVideoConfig(model_id="someone/theirs", variant="2b", offline=True, cache_dir=str(tmp_path / "cache"))
        )


def test_too_little_memory_is_said_before_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.safetensors").write_bytes(b"never read")
    monkeypatch.setattr(ltx, "_free_memory", lambda: 2 * 2**30)
    with pytest.raises(ValueError, match=r"large\.safetensors' needs 24\.3 GiB .* and 2\.0 GiB are free"):
        load_transformer(LTXVideoConfig(model_id=str(tmp_path / "large.safetensors"), variant="13b"))


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"the optional extra ltx .*: run `make ltx`"):
        tiny()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the latents have 8 channels and variant tiny reads 16"):
        tiny(shape=(4, 8, 3, 5))
    with pytest.raises(ValueError, match=r"'temporal_attn\.to_q', which no layer .*: take to_k, to_out\.0, to_q, to_v"):
        tiny(lora_targets=["to_q", "temporal_attn.to_q"])
    model = tiny()
    with pytest.raises(ValueError, match=r"this model takes \[B, F, 16, H, W\]"):
        model(noise(2, 4, 8, 3, 5), torch.rand(2))
    with pytest.raises(ValueError, match="give one for each of 2 clips"):
        model(noise(2, *SHAPE), torch.rand(3))
    with pytest.raises(ValueError, match="tokens of width 24"):
        model.use_text(torch.zeros(3, 8), torch.ones(3))
    with pytest.raises(ValueError, match="with a mask of"):
        model(noise(2, *SHAPE), torch.rand(2), text_BLE=torch.zeros(2, 3, 24), text_mask_BL=torch.ones(2, 4))
