"""Growth: the same function for each model and each axis, gradients that carry over, moments that follow, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import FluxConfig, LanguageConfig, PAMConfig, PhaseLMConfig, TransformerConfig
from qcore.models import LanguageModel, build_model
from qcore.models.sizing.growth import grow_model, grow_moments, growth_plan

VOCAB = 19
SIZES = {"width": 32, "layers": 2, "heads": 4, "context": 64}
PHASE = PhaseLMConfig(phases=16, **SIZES)
SMALL: dict[str, LanguageConfig] = {
    "phase_lm": PHASE,
    "phase_lm-without-attention": PhaseLMConfig(phases=16, interference_attention=False, **SIZES),
    "phase_lm-switches": PhaseLMConfig(phases=16, dynamic_width=True, concepts=5, language_phases=True, **SIZES),
    "phase_lm-phase_bias": PhaseLMConfig(phases=16, attention="phase_bias", **SIZES),
    "phase_lm-experts": PhaseLMConfig(phases=16, experts=3, experts_active=2, **SIZES),
    "pam": PAMConfig(**SIZES),
    "pam-real": PAMConfig(complex_state=False, read_gate=False, **SIZES),
    "transformer": TransformerConfig(**SIZES),
}
WIDER = {"width": 48, "heads": 6, "phases": 24}
GROWTHS: dict[str, dict[str, int]] = {
    "width, heads and phases": WIDER,
    "layers": {"layers": 4},
    "feed-forward": {"ffn_width": 160},
    "context": {"context": 128},
    "all": {**WIDER, "layers": 3, "ffn_width": 176, "context": 128},
}
every_growth = pytest.mark.parametrize(
    ("kind", "growth"),
    [
        pytest.param(kind, growth, id=f"{kind}: {growth}")
        for kind, growth in itertools.product(SMALL, GROWTHS)
        if not (kind.startswith("pam") and growth == "context")
    ],
)


def sized(config: LanguageConfig, changes: dict[str, int]) -> LanguageConfig:
    known = {name: value for name, value in changes.items() if name in type(config).model_fields}
    if isinstance(config, PAMConfig):
        known.pop("context", None)  # its clock follows from it
    return type(config).model_validate({**config.model_dump(), **known})


def trained(config: LanguageConfig) -> LanguageModel:
    """A model whose weights are no longer those of its initialisation; no entry is special."""
    model = build_model(config, VOCAB, torch.arange(VOCAB), seed=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (B, T), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves are computed in float32 by `.float()`; here all of a model is float64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def loss(model: LanguageModel, tokens_BT: Tensor) -> Tensor:
    return functional.cross_entropy(model(tokens_BT[:, :-1]).logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@every_growth
@pytest.mark.usefixtures("in_float64")
def test_the_function_is_preserved(kind: str, growth: str) -> None:
    """Only the norms' ε remains."""
    old = trained(SMALL[kind]).double().eval()
    grown = grow_model(old, sized(SMALL[kind], GROWTHS[growth]), VOCAB, seed=3)
    window = tokens(2, 50)
    with torch.no_grad():
        assert relative(grown(window).logits_BTV, old(window).logits_BTV) < 5e-6
    assert not grown.training
    assert next(grown.parameters()).dtype == torch.float64


@pytest.mark.parametrize("kind", SMALL)
def test_in_float32_rounding_comes_on_top(kind: str) -> None:
    old = trained(SMALL[kind]).eval()
    grown = grow_model(old, sized(SMALL[kind], GROWTHS["all"]), VOCAB, seed=3)
    window = tokens(2, 50)
    with torch.no_grad():
        assert relative(grown(window).logits_BTV, old(window).logits_BTV) < 2e-5


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("kind", SMALL)
def test_without_the_norms_epsilon_it_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcore.models.blocks._NORM_EPSILON", 0.0)
    old = trained(SMALL[kind]).double().eval()
    grown = grow_model(old, sized(SMALL[kind], GROWTHS["all"]), VOCAB, seed=3)
    window = tokens(2, 50)
    with torch.no_grad():
        assert relative(grown(window).logits_BTV, old(window).logits_BTV) < 1e-12


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("kind", SMALL)
def test_generation_step_by_step_is_preserved_too(kind: str) -> None:
    old = trained(SMALL[kind]).double().eval()
    grown = grow_model(old, sized(SMALL[kind], GROWTHS["all"]), VOCAB, seed=3)
    states = [old.start(1), grown.start(1)]
    with torch.no_grad():
        for token in tokens(1, 12)[0]:
            outputs = []
            for place, model in enumerate((old, grown)):
                output, states[place] = model.step(token[None], states[place])
                outputs.append(output.logits_BTV)
            assert relative(outputs[1], outputs[0]) < 5e-6


@every_growth
def test_every_new_entry_moves_within_two_steps_and_a_good_part_at_once(kind: str, growth: str) -> None:
    """New outputs of the stream and new readers of it have gradient at the first step, the rest at the second."""
    grown = grow_model(trained(SMALL[kind]), sized(SMALL[kind], GROWTHS[growth]), VOCAB, seed=3)
    before = {name: value.detach().clone() for name, value in grown.named_parameters()}
    optimizer = torch.optim.AdamW(grown.parameters(), lr=1e-3, weight_decay=0.0)
    window = torch.cat([torch.arange(VOCAB)[None], torch.arange(VOCAB).flip(0)[None]])
    moved: list[dict[str, Tensor]] = []
    for _ in range(2):
        optimizer.zero_grad()
        loss(grown, window).backward()
        optimizer.step()
        moved.append({name: value.detach() != before[name] for name, value in grown.named_parameters()})
    old_sizes = {name: value.shape for name, value in trained(SMALL[kind]).named_parameters()}
    new_parts = [name for name in before if before[name].shape != old_sizes.get(name)]
    if growth != "context":
        assert new_parts
        changed = sum(int(moved[0][name].sum()) for name in new_parts) / sum(
            moved[0][name].numel() for name in new_parts
        )
        assert changed > 0.25
    for name in new_parts:
        assert float(moved[1][name].float().mean()) > 0.95, name


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("kind", SMALL)
def test_old_weights_keep_their_gradients(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight that growth multiplied by s has the gradient ÷ s: what `grow_moments` does to moments is exact."""
    monkeypatch.setattr("qcore.models.blocks._NORM_EPSILON", 0.0)
    old = trained(SMALL[kind]).double()
    grown = grow_model(old, sized(SMALL[kind], GROWTHS["all"]), VOCAB, seed=3)
    window = tokens(2, 30)
    for model in (old, grown):
        loss(model, window).backward()
    gradients = {name: parameter.grad for name, parameter in old.named_parameters() if parameter.grad is not None}
    expected = grow_moments({f"{name}.exp_avg": value for name, value in gradients.items()}, old, grown)
    squares = grow_moments({f"{name}.exp_avg_sq": value**2 for name, value in gradients.items()}, old, grown)
    for name, parameter in grown.named_parameters():
        if name in gradients:
            told = expected[f"{name}.exp_avg"]
            kept = told != 0
            assert parameter.grad is not None
            assert int(kept.sum()) > 0.9 * gradients[name].numel() - 2 * VOCAB * 48
            torch.testing.assert_close(parameter.grad[kept], told[kept], rtol=1e-7, atol=1e-12)
            torch.testing.assert_close(squares[f"{name}.exp_avg_sq"], told**2)


def test_moments_keep_steps_and_pad_with_zeros() -> None:
    old = trained(PHASE)
    grown = grow_model(old, sized(PHASE, {**WIDER, "layers": 3}), VOCAB, seed=3)
    optimizer = torch.optim.AdamW(old.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        loss(old, tokens(2, 30)).backward()
        optimizer.step()
    moments = {
        f"{name}.{key}": value
        for name, parameter in old.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    found = grow_moments(moments, old, grown)
    assert found.keys() == moments.keys()
    parameters = dict(grown.named_parameters())
    for full_name, value in found.items():
        name, _, moment = full_name.rpartition(".")
        assert float(moments[full_name].sum()) == 3 if moment == "step" else value.shape == parameters[name].shape
    name = "layers.0.quantum.enter.weight.exp_avg"
    P, p, D, d = 24, 16, 48, 32
    kept = torch.zeros(2 * P + 2 * D, D, dtype=torch.bool)
    for start, rows in ((0, p), (P, p), (2 * P, d), (2 * P + D, d)):
        kept[start : start + rows, :d] = True
    torch.testing.assert_close(found[name][kept].view(-1, d), moments[name], rtol=0, atol=0)
    assert float(found[name][~kept].abs().max()) == 0.0
    # The optimizer takes them, and new layers begin without any.
    state = torch.optim.AdamW(grown.parameters(), lr=1e-3)
    for full_name, value in found.items():
        owner, _, moment = full_name.rpartition(".")
        state.state.setdefault(parameters[owner], {})[moment] = value
    loss(grown, tokens(2, 30)).backward()
    state.step()
    assert float(state.state[parameters["embedding.weight"]]["step"]) == 4
    assert float(state.state[parameters["layers.2.ffn.up.weight"]]["step"]) == 1


def test_growth_is_a_function_of_its_seed_and_leaves_the_old_model_and_the_random_state_alone() -> None:
    old, config = trained(PHASE), sized(PHASE, WIDER)
    before = {name: value.clone() for name, value in old.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (grow_model(old, config, VOCAB, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], value) for name, value in old.state_dict().items())


@pytest.mark.usefixtures("in_float64")
def test_growth_can_be_repeated_and_a_grown_model_is_rebuilt_from_its_configuration() -> None:
    """Rates of the first phases come from the first size: they are part of the saved state."""
    old = trained(PHASE).double().eval()
    once = grow_model(old, sized(PHASE, WIDER), VOCAB, seed=3)
    twice_config = sized(PHASE, {"width": 56, "heads": 7, "phases": 28, "layers": 5, "context": 256})
    twice = grow_model(once, twice_config, VOCAB, seed=4)
    rebuilt = build_model(twice_config, VOCAB, seed=9).double().eval()
    rebuilt.load_state_dict(twice.state_dict())
    window = tokens(2, 40)
    with torch.no_grad():
        assert relative(rebuilt(window).logits_BTV, old(window).logits_BTV) < 1e-5


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (TransformerConfig(width=48, layers=2, heads=6, context=64), "keep model.kind = phase_lm"),
        (sized(PHASE, {"layers": 1}), "layers = 1 is smaller than the model's 2"),
        (sized(PHASE, {"width": 16, "heads": 2, "phases": 8}), "width = 16 is smaller"),
        (sized(PHASE, {"ffn_width": 40}), "ffn_width = 40 is smaller than the model's 64"),
        (sized(PHASE, {"context": 32}), "context = 32 is smaller"),
        (PHASE, "raise at least one"),
        (sized(PHASE, {"width": 64}), "from 8 to 16; choose heads = width ÷ 8"),
        (sized(PHASE, {"phases": 20}), "from 4 to 5; choose phases = 4 × heads = 16"),
        (PHASE.model_copy(update={"interference_attention": False}), "keep interference_attention = True"),
    ],
)
def test_what_cannot_be_reached_is_refused_with_the_remedy(new: LanguageConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        growth_plan(PHASE, new)


def test_families_say_what_they_cannot_grow() -> None:
    pam = PAMConfig(**SIZES)
    with pytest.raises(ValueError, match="context = 128 cannot be reached by growth: the clock"):
        growth_plan(pam, pam.model_copy(update={"context": 128}))
    flux = FluxConfig(width=24, layers=2, context=64)
    with pytest.raises(ValueError, match="a flux_lm cannot grow; models that can: phase_lm, pam, transformer"):
        growth_plan(flux, flux.model_copy(update={"layers": 3}))
    with pytest.raises(ValueError, match="keep concepts = 0"):
        growth_plan(PHASE, sized(PHASE, {**WIDER, "concepts": 8}))


def test_uneven_phases_and_other_vocabularies_are_refused() -> None:
    uneven = PHASE.model_copy(update={"phases": 15})
    with pytest.raises(ValueError, match="15 phases are not shared evenly by 4 heads"):
        growth_plan(uneven, sized(PHASE, WIDER))
    growth_plan(uneven, sized(uneven, {"layers": 3}))
    with pytest.raises(ValueError, match="a vocabulary of 20 tokens; growth keeps the model's 19"):
        grow_model(trained(PHASE), sized(PHASE, WIDER), 20, seed=0)
    with pytest.raises(ValueError, match="belongs to no parameter"):
        grow_moments({"nothing.exp_avg": torch.zeros(1)}, trained(PHASE), trained(sized(PHASE, WIDER)))
