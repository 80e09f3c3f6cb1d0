"""Construction: sizes, seeds, and the configurations that are refused."""

from __future__ import annotations

import pytest
import torch

from qcore.config import LANGUAGE_KINDS, PRESETS, PhaseLMConfig, TransformerConfig
from qcore.models import build_model


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.config.kind in LANGUAGE_KINDS])
def test_every_language_preset_constructs(name: str) -> None:
    with torch.device("meta"):
        model = build_model(PRESETS[name].config.model, 8192)
        logits = model(torch.zeros(2, 9, dtype=torch.int64)).logits_BTV
    assert logits.shape == (2, 9, 8192)


@pytest.mark.parametrize("config", [PhaseLMConfig(), TransformerConfig()], ids=["phase_lm", "transformer"])
def test_weights_follow_the_seed_and_leave_the_global_random_state_alone(
    config: PhaseLMConfig | TransformerConfig,
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_model(config, 40, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, other = build_model(config, 40, seed=7).state_dict(), build_model(config, 40, seed=8).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.state_dict()["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PhaseLMConfig(width=90, heads=4), "90 is not divisible by 4"),
        (PhaseLMConfig(heads=6, width=96, phases=8), "8 phases leave one of 6 heads"),
        (TransformerConfig(width=90, heads=4), "90 is not divisible by 4"),
        (TransformerConfig(width=36, heads=4), "odd width 9"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config: PhaseLMConfig | TransformerConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(config, 40)


def test_token_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="one count ≥ 0 for each of 40 tokens"):
        build_model(PhaseLMConfig(), 40, torch.ones(39))
