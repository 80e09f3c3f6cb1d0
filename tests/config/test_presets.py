"""Presets: the sizes that were published, and a reference of the same size as what it is compared with."""

import pytest
import torch

from qcore.config import PRESETS
from qcore.models import build_model, match_size, parameter_count

STORY_VOCABULARY = 233


def test_the_transformer_preset_is_matched_by_parameters():
    phase, transformer = (PRESETS[name].config.model for name in ("tiny", "tiny-transformer"))
    assert transformer == match_size(phase, "transformer", STORY_VOCABULARY)
    counts = [parameter_count(build_model(config, STORY_VOCABULARY)) for config in (phase, transformer)]
    assert counts[1] == pytest.approx(counts[0], rel=0.02)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("published-small", (256, 4, 4, 32, 256)),
        ("published-medium", (512, 8, 8, 64, 512)),
        ("published-large", (768, 12, 12, 128, 1024)),
    ],
)
def test_published_sizes_have_their_exact_roles(name, size):
    model = PRESETS[name].config.model
    assert (model.width, model.layers, model.heads, model.phases, model.context) == size
    with torch.device("meta"):
        built = build_model(model, 8192)
    assert built.embedding.weight.shape == (8192, size[0])
    assert len(built.layers) == size[1]
    assert built(torch.zeros(1, 4, dtype=torch.long, device="meta")).state_BTP.shape == (1, 4, size[3])


def test_published_training_settings():
    medium, large = PRESETS["published-medium"].config.optim, PRESETS["published-large"].config.optim
    assert (medium.batch_size, medium.learning_rate) == (4, 3e-4)
    assert (large.batch_size, large.accumulation, large.learning_rate) == (32, 4, 2e-4)
