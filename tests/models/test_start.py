"""Where an untrained model stands: it prefers no token, nor repeats what it reads; older runs start as they did."""

import math

import pytest
import torch
from torch.nn import functional

from qcore.config import BEFORE, RunConfig, default_run
from qcore.models import build_model
from qcore.models.blocks import embed
from qcore.models.sizing.growth import growth_plan

FAMILIES = ("phase_lm", "transformer", "pam")
V = 233


def first_loss(kind, width, start):
    config = default_run(kind).with_values({"width": width, "layers": 2, "context": 32, "start": start}).model
    tokens_BT = torch.randint(0, V, (8, 33), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits_BTV = build_model(config, V, seed=5)(tokens_BT[:, :-1]).logits_BTV
    return float(functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten()))


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_first_loss_is_near_that_of_a_guess_at_any_width(kind):
    near = [first_loss(kind, width, "level") for width in (48, 512)]
    assert max(near) < 1.15 * math.log(V)
    assert min(near) > math.log(V)
    assert first_loss(kind, 512, "tied") > 2.5 * math.log(V), "what it is mended of"


def test_a_turned_row_is_as_long_and_at_a_right_angle_to_itself():
    table = torch.nn.Embedding(40, 16)
    ids = torch.arange(40)[None]
    level, tied = embed(table, ids, "level"), embed(table, ids, "tied")
    assert torch.equal(tied, table(ids) * 4)
    assert torch.allclose((level * tied).sum(-1), torch.zeros(1, 40), atol=1e-4)
    assert torch.allclose(level @ level.mT, tied @ tied.mT, atol=1e-3)
    assert embed(torch.nn.Embedding(4, 9), ids[:, :4], "level").shape == (1, 4, 9)


@pytest.mark.parametrize("kind", [*FAMILIES, "flux_lm", "video_flow"])
def test_a_run_from_before_starts_as_it_did(kind):
    text = default_run(kind).to_yaml()
    older = "\n".join(line for line in text.split("\n") if not line.strip().startswith("start:"))
    stored = RunConfig.from_stored(older, before=BEFORE)[0]
    if kind in FAMILIES:
        assert older != text
        assert stored == default_run(kind).with_values({"start": "tied"})
        assert RunConfig.from_yaml(older).value("start") == "level", "a person's file means the form of now"
    else:
        assert stored == default_run(kind)
    assert RunConfig.from_stored(text, before=BEFORE)[0] == default_run(kind)


def test_an_odd_width_grows_only_where_no_channel_gets_a_partner():
    def sized(width, heads, start):
        changes = {"width": width, "heads": heads, "phases": 4 * heads, "start": start}
        return default_run("phase_lm").with_values(changes).model

    with pytest.raises(ValueError, match="width 9 is odd"):
        growth_plan(sized(9, 1, "level"), sized(18, 2, "level"))
    growth_plan(sized(9, 1, "tied"), sized(18, 2, "tied"))
    with pytest.raises(ValueError, match="start = level cannot be reached by growth; keep start = tied"):
        growth_plan(sized(8, 1, "tied"), sized(16, 2, "level"))
