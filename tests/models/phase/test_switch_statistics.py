"""The phase model's switches against their definitions and in their limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models import PhaseLM, build_model
from qcore.models.phase.concepts import ConceptLayer, ConceptState, LanguageGate, LanguagePhases
from qcore.models.phase.dynamic_width import WIDTHS, DynamicWidth, complexity, mean_width, width_flops
from qcore.models.phase.experts import Experts, choose_experts, expert_load
from qcore.models.phase.interference import decayed_sum, window_mean
from qcore.models.phase.softmax_attention import PhaseAttention
from qcore.models.phase.switch_statistics import phase_internals

VOCAB = 23
BASE = PhaseLMConfig(width=32, layers=2, heads=4, phases=12, context=64)
SWITCHES: dict[str, dict[str, object]] = {
    "attention": {"attention": "phase_bias"},
    "widths": {"dynamic_width": True},
    "concepts": {"concepts": 9},
    "languages": {"language_phases": True},
    "experts": {"experts": 4},
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (B, T), generator=torch.Generator().manual_seed(seed))


def built(**changes: object) -> PhaseLM:
    model = build_model(BASE.model_copy(update=changes), VOCAB, torch.arange(VOCAB), seed=1)
    assert isinstance(model, PhaseLM)
    return model


@pytest.mark.parametrize("changes", [SWITCHES["widths"], SWITCHES["concepts"], SWITCHES["languages"]])
def test_a_switch_leaves_the_first_layers_weights_as_they_are_without_it(changes: dict[str, object]) -> None:
    """What is there without it is made first: the same seed gives it the same weights."""
    plain, switched = built().state_dict(), built(**changes).state_dict()
    shared = [name for name in plain if name.startswith(("embedding", "encoding", "enter", "layers.0"))]
    assert len(shared) > 20
    assert all(torch.equal(plain[name], switched[name]) for name in shared)
    assert switched.keys() > plain.keys()


@pytest.mark.parametrize("changes", SWITCHES.values(), ids=SWITCHES.keys())
def test_switches_add_what_they_are_and_nothing_else(changes: dict[str, object]) -> None:
    window = tokens(2, 12)
    plain, output = built()(window), built(**changes)(window)
    assert plain.concepts_BTK is None
    assert plain.routers is None
    assert (output.concepts_BTK is not None) == ("concepts" in changes)
    assert (output.routers is not None) == ("experts" in changes)
    assert built().internals(window).scalars == {}
    for share in (*(output.routers or ()), output.concepts_BTK, output.expected_concepts_BTK):
        if share is not None:
            torch.testing.assert_close(share.sum(-1), torch.ones(2, 12))
            assert bool((share > 0).all())


# attention


def attention(kind: str, phases: int = 12) -> PhaseAttention:
    return PhaseAttention(BASE.model_copy(update={"attention": kind, "phases": phases}))


@pytest.mark.parametrize("kind", ["phase_bias", "interference_gate"])
@pytest.mark.parametrize("phases", [12, 11])
def test_attention_equals_its_definition(kind: str, phases: int) -> None:
    layer, T, d = attention(kind, phases), 9, 8
    h, phase, value = draw(2, T, 32), 3 * draw(2, T, phases, seed=1), draw(2, T, 32, seed=2)
    query, key = layer.query_key(h).chunk(2, -1)
    heads, parts = [], phase.split(3, dim=-1)
    for head in range(4):
        some = slice(head * d, (head + 1) * d)
        score = query[..., some] @ key[..., some].mT / math.sqrt(d)
        interference = torch.cos(parts[head][:, :, None] - parts[head][:, None]).mean(-1)
        seen = torch.ones(T, T).tril().bool()
        if kind == "phase_bias":
            weights = (score + 2.0 * interference).masked_fill(~seen, -torch.inf).softmax(-1)
        else:
            weights = score.masked_fill(~seen, -torch.inf).softmax(-1) * (1 + interference) / 2
            weights = weights / weights.sum(-1, keepdim=True)
        torch.testing.assert_close(layer.weights(h, phase)[:, head], weights, rtol=1e-4, atol=1e-5)
        heads.append(weights @ value[..., some])
    torch.testing.assert_close(layer(h, phase, value), torch.cat(heads, -1), rtol=1e-4, atol=1e-5)


def test_equal_phases_and_no_strength_are_plain_attention() -> None:
    h, value = draw(2, 7, 32), draw(2, 7, 32, seed=2)
    for kind, phase in (("phase_bias", draw(2, 7, 12)), ("interference_gate", torch.ones(2, 7, 12))):
        layer = attention(kind)
        if layer.strength is not None:
            torch.nn.init.zeros_(layer.strength)
        split = (x.unflatten(-1, (4, 8)).transpose(1, 2) for x in (*layer.query_key(h).chunk(2, -1), value))
        plain = functional.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer(h, phase, value), plain, rtol=1e-4, atol=1e-5)


def test_the_gate_shuts_opposite_pairs() -> None:
    phase = torch.tensor([0.0, math.pi, 0.0]).view(1, 3, 1).expand(1, 3, 12)
    weights = attention("interference_gate").weights(draw(1, 3, 32), phase)
    assert bool((weights[:, :, 1, 0] < 1e-4).all())
    assert bool((weights[:, :, 2, 1] < 1e-4).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 3))


# dynamic width


def test_complexity_of_equal_and_of_orthogonal_tokens() -> None:
    still = draw(1, 1, 16).expand(1, 20, 16)
    torch.testing.assert_close(complexity(still), torch.zeros(1, 20), atol=1e-5, rtol=0)
    orthogonal = 3 * torch.eye(16)[None]
    n = torch.arange(1, 17).clamp(max=8)
    torch.testing.assert_close(complexity(orthogonal)[0], 1 - 1 / n)
    torch.testing.assert_close(complexity(7 * draw(2, 30, 5)), complexity(draw(2, 30, 5)))


@pytest.mark.parametrize("T", [1, 3, 8, 21])
def test_window_mean_and_decayed_sum_equal_their_loops(T: int) -> None:
    x = draw(2, T, 3).double()
    slow = torch.stack([x[:, max(0, t - 7) : t + 1].mean(1) for t in range(T)], dim=1)
    torch.testing.assert_close(window_mean(x, 8), slow)
    logit, state, sums = torch.tensor(1.2).double(), draw(2, 3, seed=1).double(), []
    total = state
    for t in range(T):
        total = torch.sigmoid(logit) * total + x[:, t]
        sums.append(total)
    torch.testing.assert_close(decayed_sum(x, logit, state), torch.stack(sums, dim=1))


def test_a_sure_choice_is_the_branch_of_that_width() -> None:
    """In the limits the mixture is one feed-forward of D, 1.5 D or 2.25 D channels, its variance kept."""
    layer, x = DynamicWidth(16, 3), draw(2, 6, 16)
    torch.nn.init.zeros_(layer.slope)
    for number, width in enumerate(WIDTHS):
        with torch.no_grad():
            layer.bias.copy_(60.0 * functional.one_hot(torch.tensor(number), 3))
        channels = round(16 * width)
        wide = functional.gelu(functional.linear(x, layer.up.weight[:channels])) * math.sqrt(2.25 / width)
        expected = functional.linear(wide, layer.down.weight[:, :channels])
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
        assert mean_width(layer.shares(x)).mean().item() == pytest.approx(width)
        assert width_flops(16, layer.shares(x)) == pytest.approx(4 * 256 * width)


def test_varied_neighbourhoods_are_wider_and_tokens_choose_for_themselves() -> None:
    layer = DynamicWidth(16, 3)
    x = torch.cat((draw(1, 1, 16).expand(1, 12, 16), draw(1, 12, 16, seed=1)), dim=1)
    width = mean_width(layer.shares(x))
    assert width[:, 8:12].max().item() < 1.2 < 1.5 < width[:, 20:].min().item()
    together = layer.shares(torch.cat((x, draw(1, 24, 16, seed=2))))
    torch.testing.assert_close(together[:1], layer.shares(x))


# experts


def test_experts_equal_the_dense_loop_over_all() -> None:
    layer, x = Experts(16, 24, 3, 5, 2), draw(3, 50, 16)
    y, probability = layer(x)
    share, number = choose_experts(probability, 2)
    torch.testing.assert_close(share.sum(-1), torch.ones(3, 50))
    expected = torch.zeros_like(y)
    for e in range(5):
        gate, up = (x @ layer.enter[e]).chunk(2, -1)
        weight = (share * (number == e)).sum(-1, keepdim=True)
        expected = expected + weight * ((functional.silu(gate) * up) @ layer.down[e])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(y.square().sum(), list(layer.parameters()), retain_graph=True)
    wanted = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_equal_experts_are_one_feed_forward_whoever_is_chosen() -> None:
    layer, x = Experts(16, 24, 3, 4, 2), draw(2, 40, 16)
    with torch.no_grad():
        layer.enter.copy_(layer.enter[:1].expand_as(layer.enter))
        layer.down.copy_(layer.down[:1].expand_as(layer.down))
    gate, up = (x @ layer.enter[0]).chunk(2, -1)
    torch.testing.assert_close(layer(x)[0], (functional.silu(gate) * up) @ layer.down[0], rtol=1e-4, atol=1e-5)


def test_what_comes_later_moves_no_bit_of_what_an_expert_made() -> None:
    layer, x = Experts(32, 64, 3, 4, 2), draw(3, 90, 32)
    whole = layer(x)[0]
    for cut in (1, 7, 31, 32, 33, 64, 89):
        assert torch.equal(layer(x[:, :cut])[0], whole[:, :cut])


def test_a_token_that_all_send_to_one_expert_is_not_dropped() -> None:
    layer, x = Experts(16, 24, 3, 4, 1), draw(1, 1, 16).expand(2, 70, 16)
    y, probability = layer(x)
    torch.testing.assert_close(y, y[:1, :1].expand_as(y))
    assert y.abs().max().item() > 0
    assert expert_load(probability, 1).max() == 1


# concepts and languages


def test_the_language_gate_follows_its_evidence_and_is_even_without() -> None:
    gate = LanguageGate(6, 4, 2)
    with torch.no_grad():
        gate.evidence.weight.zero_()
        gate.evidence.weight[1, 0] = gate.evidence.weight[2, 1] = 1.0
    shares, _ = gate(torch.tensor([[0, 1, 1, 2, 2, 2, 2, 2]]))
    torch.testing.assert_close(shares[0, 0], torch.tensor([0.5, 0.5]))
    assert shares[0, 2, 0] > 0.99
    assert shares[0, -1, 1] > 0.99
    halves = gate(torch.tensor([[0, 1, 1]]))
    torch.testing.assert_close(gate(torch.tensor([[2, 2, 2, 2, 2]]), halves[1])[0], shares[:, 3:])


def test_a_sure_gate_turns_phases_by_one_map() -> None:
    turns, embedded = LanguagePhases(BASE), draw(2, 5, 32)
    maps = turns.turn(embedded).unflatten(-1, (2, 12))
    for language in range(2):
        gate = functional.one_hot(torch.full((2, 5), language), 2).float()
        torch.testing.assert_close(turns(embedded, gate), maps[:, :, language])


def test_concepts_start_even_and_do_not_see_the_language() -> None:
    layer = ConceptLayer(BASE.model_copy(update={"concepts": 9}), VOCAB, 3)
    window = tokens(2, 20)
    gates = [functional.one_hot(torch.full((2, 20), language), 2).float() for language in range(2)]
    one, other = (layer(window, gate) for gate in gates)
    assert torch.equal(one.shares_BTK, other.shares_BTK)
    assert torch.equal(one.expected_BTK, other.expected_BTK)
    assert float((one.update_BTD - other.update_BTD).detach().abs().max()) > 0.01
    assert float((one.expected_BTK - 1 / 9).detach().abs().max()) < 0.05
    assert one.expected_BTK.min().item() >= 0.01 / 9


def test_concepts_step_by_step_equal_the_whole_window() -> None:
    layer = ConceptLayer(BASE.model_copy(update={"concepts": 9}), VOCAB, 3)
    window, gate = tokens(2, 40), draw(2, 40, 2).softmax(-1)
    whole, zero = layer(window, gate), torch.zeros(4, 2, 8)
    state = ConceptState(zero, zero)
    for t in range(40):
        output, state = layer.step(window[:, t : t + 1], gate[:, t : t + 1], state, t + 1)
        torch.testing.assert_close(output.update_BTD[:, 0], whole.update_BTD[:, t], rtol=0, atol=1e-5)
        torch.testing.assert_close(output.expected_BTK[:, 0], whole.expected_BTK[:, t], rtol=0, atol=1e-5)


# internals


def test_internals_of_known_choices() -> None:
    config = BASE.model_copy(update={"experts": 4, "experts_active": 1})
    widths = torch.tensor([0.5, 0.25, 0.25]).expand(2, 6, 3)
    router = torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(2, 6, 4)
    concepts = functional.one_hot(torch.arange(6).expand(2, 6) % 2, 8).float()
    gate = torch.tensor([0.9, 0.1]).expand(2, 6, 2)
    found = phase_internals(config, [widths, widths], [router], gate, concepts)
    assert found.scalars == pytest.approx(
        {
            "width/share_1": 0.5,
            "width/share_1_5": 0.25,
            "width/share_2_25": 0.25,
            "width/mean": 1.4375,
            "width/mflop": 2 * 4 * 32**2 * 1.4375 / 1e6,
            "concept/usage": 2 / 8,
            "concept/sharpness": 1.0,
            "language/certainty": 0.9,
            "moe/load_max": 4.0,
            "moe/entropy": 0.0,
        }
    )
    assert {name: tuple(value.shape) for name, value in found.arrays.items()} == {
        "width/weights": (6, 3),
        "language/gate": (6, 2),
        "concept/shares": (6, 8),
        "moe/load": (1, 4),
    }


def test_internals_of_a_model_with_every_switch_on() -> None:
    switches = {name: value for changes in SWITCHES.values() for name, value in changes.items()}
    model = built(**switches)
    found = model.internals(tokens(2, 30))
    assert found.arrays["moe/load"].shape == (2, 4)
    torch.testing.assert_close(found.arrays["moe/load"].sum(1), torch.ones(2))
    assert 1 <= found.scalars["width/mean"] <= 2.25
    assert 0 < found.scalars["concept/usage"] <= 1
    assert all(math.isfinite(value) for value in found.scalars.values())
    assert not any(value.requires_grad for value in found.arrays.values())
