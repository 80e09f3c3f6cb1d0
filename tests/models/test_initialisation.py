"""Other people's first weights: what each scheme promises, and that nothing of it is left outside."""

import pytest
import torch
from torch import nn

from qcore.config import ConfigError, default_run
from qcore.config.first_weights import SCHEMES, starting_like
from qcore.models import build_model, build_video_model

SHAPE = (4, 1, 8, 8)


def text(scheme, kind="transformer"):
    config = default_run().with_values({"kind": kind, "width": 64, "layers": 2, "heads": 4, "context": 16})
    with starting_like(scheme):
        return build_model(config.model, 200, None, seed=1)


def linear_layers(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}


def test_outside_of_the_exam_a_model_starts_as_its_family_says():
    plain = text("").state_dict()
    for scheme in SCHEMES:
        other = text(scheme).state_dict()
        assert not torch.equal(other["layers.0.attention.out.weight"], plain["layers.0.attention.out.weight"])
    again = text("").state_dict()
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    with pytest.raises(ConfigError, match="'xavier' are not known; take pytorch"), starting_like("xavier"):
        pass


@pytest.mark.parametrize("kind", ["transformer", "phase_lm", "pam", "flux_lm"])
def test_pytorch_gives_every_linear_layer_a_bias_within_its_bound(kind):
    for layer in linear_layers(text("pytorch", kind)).values():
        bound = layer.in_features**-0.5
        assert 0 < float(layer.bias.abs().max()) <= bound
        assert 0.5 * bound < float(layer.weight.std()) < 0.65 * bound
    tokens = torch.arange(16)[None]
    model = text("pytorch", kind).eval()
    assert model(tokens).logits_BTV.isfinite().all()


def test_gpt2_shrinks_the_ends_of_branches_and_lets_tokens_enter_small():
    model = text("gpt2")
    layers = linear_layers(model)
    assert float(layers["layers.0.attention.qkv"].weight.std()) == pytest.approx(0.02, rel=0.1)
    assert float(layers["layers.0.ffn.down"].weight.std()) == pytest.approx(0.02 / 2, rel=0.1)
    entered = model.embedding.weight.std() * 64**0.5
    assert float(entered) == pytest.approx(0.02, rel=0.02)
    assert float(text("small").embedding.weight.std() * 64**0.5) == pytest.approx(0.02, rel=0.02)


def test_a_video_model_keeps_its_shut_gates_in_gpt2_and_opens_them_in_pytorch():
    config = default_run("video_flow").with_values({"width": 16, "layers": 1, "heads": 2, "frames": 4})
    heads = {}
    for scheme in ("", "gpt2", "pytorch"):
        with starting_like(scheme):
            heads[scheme] = build_video_model(config.model, SHAPE, seed=1).head.weight
    assert not heads[""].any()
    assert not heads["gpt2"].any()
    assert heads["pytorch"].all()
