"""Quantum Flux: the flow is convex and causal, its limits are exact, the Hebbian rule is its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import ConfigError, FluxConfig, default_run
from qcore.models import FluxLM, build_model, parameter_count
from qcore.models.flux.layer import FIXED_STEP, FluxLayer, heun, skip_share

VOCAB = 19
SMALL = FluxConfig(width=16, layers=2, heads=2, planes=4, values=4, context=64)
PUBLISHED = FluxConfig(
    width=16,
    layers=3,
    heads=1,
    planes=1,
    values=0,
    context=64,
    read_out="linear",
    query_turn=False,
    gate="hard",
    threshold_scale=0.5,
    step_size="sampled",
    radius_min=0.3,
)


def build(config: FluxConfig = SMALL, **changes: object) -> FluxLM:
    model = build_model(config.model_copy(update=changes), VOCAB, seed=1)
    assert isinstance(model, FluxLM)
    return model


def tokens(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (B, T), generator=torch.Generator().manual_seed(seed))


def states_of(model: FluxLM, B: int = 2, T: int = 40) -> Tensor:
    return model._embed(tokens(B, T), 0)[1].detach()


def lengths(states: Tensor) -> Tensor:
    """Radii of the planes, in [0, 1]."""
    return states.norm(dim=-1) * states.shape[-2] ** 0.5


# the flow


@pytest.mark.parametrize("dt", [0.0, 0.3, 1.0])
def test_heun_is_the_published_rule(dt: float) -> None:
    """s + ½dt(k₁ + k₂) with k₁ = A s − s at s, k₂ = A u − u at u = s + dt k₁, for any connections."""
    generator = torch.Generator().manual_seed(0)
    first_A, second_A = (torch.rand(5, 5, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    s = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    k_1 = first_A @ s - s
    u = s + dt * k_1
    k_2 = second_A @ u - u
    found = heun(s, first_A @ s, second_A @ u, torch.tensor(dt, dtype=torch.float64))
    torch.testing.assert_close(found, s + 0.5 * dt * (k_1 + k_2))


@pytest.mark.parametrize("dt", [1e-3, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["planes", "published"])
def test_the_flow_never_makes_the_longest_state_longer(config: FluxConfig, dt: float) -> None:
    model = build(config)
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    with torch.no_grad():
        layer.radius_rate.zero_()
        layer.config = config.model_copy(update={"radius_min": 0.0})
        states = states_of(model)
        for _ in range(4):
            flow = layer._flow(states, None, torch.full((2,), dt))
            longest = lengths(states).flatten(1).amax(1)
            assert bool((lengths(flow.states).flatten(1).amax(1) <= longest + 1e-6).all())
            states = flow.states


@pytest.mark.parametrize("skip", [True, False])
def test_without_time_nothing_flows(skip: bool) -> None:
    model = build(dynamic_skip=skip, radius_min=0.0)
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    states = states_of(model)
    with torch.no_grad():
        layer.radius_rate.zero_()
        flow = layer._flow(states, None, torch.zeros(2))
    # A state's length is measured a thousandth too long, so that one of length 0 needs no angle.
    torch.testing.assert_close(flow.states, states, rtol=0, atol=1e-5)


def test_the_skip_opens_as_steps_grow_small_and_really_varies() -> None:
    share = skip_share(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    torch.testing.assert_close(share, torch.sigmoid(torch.tensor([4.0, 0.0, -4.0, -12.0])))
    assert float(share[0] - share[-1]) > 0.9


def test_radii_stay_between_their_bounds_and_follow_the_strength_of_connections() -> None:
    model = build(radius_min=0.3)
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    states = states_of(model)
    found = []
    with torch.no_grad():
        for rate in (0.0, 0.5, 100.0, -100.0):
            layer.radius_rate.fill_(rate)
            found.append(lengths(layer._flow(states, None, torch.full((2,), 0.5)).states))
    assert bool((found[1] > found[0] - 1e-6).all())
    assert float(found[1].mean()) > float(found[0].mean()) + 0.02
    torch.testing.assert_close(found[2], torch.ones_like(found[2]), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[3], torch.full_like(found[3], 0.3), rtol=0, atol=1e-3)


def test_a_state_of_length_zero_stays_and_has_a_finite_gradient() -> None:
    model = build()
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    states = torch.zeros(1, 2, 6, 2, 2).requires_grad_()
    flow = layer._flow(states, None, torch.full((1,), 0.5))
    assert not flow.states.any()
    flow.states.sum().backward()
    assert states.grad is not None
    assert bool(states.grad.isfinite().all())


def test_radii_of_tokens_are_bounded_whatever_was_learned() -> None:
    model = build(radius_min=0.2)
    with torch.no_grad():
        model.radius.weight.mul_(1e4)
    found = lengths(states_of(model))
    assert float(found.min()) >= 0.2 - 1e-6
    assert float(found.max()) <= 1 + 1e-6


def test_angles_are_the_tokens_own_and_turn_with_the_position() -> None:
    model = build()
    states = model._embed(torch.full((1, 30), 7), 0)[1]
    angle = torch.atan2(states[..., 1], states[..., 0])[0]
    turned = torch.remainder(angle.diff(dim=1) + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(turned, model.omega.expand(2, 29, 2), rtol=0, atol=1e-4)
    assert float(model.omega.max()) == 1
    assert float(model.omega.min()) == pytest.approx(1 / 64)
    torch.testing.assert_close(build(planes=2).omega.flatten(), torch.tensor([1, 1 / 64]))
    assert float(build(PUBLISHED).omega) == pytest.approx(1 / 64)


def test_dt_is_learned_within_its_bounds() -> None:
    model = build()
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    for logit, expected in ((0.0, 0.5), (50.0, 1.0), (-50.0, 0.0)):
        with torch.no_grad():
            layer.step_logit.fill_(logit)
        torch.testing.assert_close(layer._steps(states_of(model)), torch.full((2,), expected))


# sampled steps


def test_sampled_steps_are_fixed_in_evaluation_and_beta_distributed_in_training() -> None:
    model = build(step_size="sampled")
    assert model.needs_randomness
    assert not build().needs_randomness
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    states = torch.zeros(20_000, 2, 1, 2, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = layer.train()._steps(states)
    assert float(drawn.mean()) == pytest.approx(FIXED_STEP, abs=0.01)
    assert float(drawn.var()) == pytest.approx(0.05, abs=0.002)  # of Beta(2, 2)
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1
    assert bool((layer.eval()._steps(states) == FIXED_STEP).all())


def test_an_update_with_sampled_steps_is_a_function_of_seed_and_step() -> None:
    from qcore.automation.control_board import ControlBoard
    from qcore.data import open_dataset
    from qcore.train.text_engine import Engine

    values = {"kind": "flux_lm", "width": 16, "layers": 1, "heads": 2, "planes": 4, "values": 4, "context": 16}
    config = default_run().with_values({**values, "documents": 60, "batch_size": 2, "step_size": "sampled"})
    dataset = open_dataset(config.data, 16, None)
    losses = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # the surroundings must not matter
        engine = Engine(config, dataset)
        losses.append([engine.step(step, ControlBoard(config)).loss for step in (1, 2, 3)])
        kept = torch.rand(1)
        torch.manual_seed(noise)
        assert torch.equal(kept, torch.rand(1)), "the process's own random state moved"
    assert losses[0] == losses[1]
    assert engine.evaluate() == engine.evaluate()


# the published form


def test_the_published_form_is_causal_and_generates_what_it_evaluates() -> None:
    model = build(PUBLISHED).eval()
    window = tokens(2, 50)
    with torch.no_grad():
        logits = model(window).logits_BTV
        for cut in (0, 1, 20, 48):
            after = window.clone()
            after[:, cut + 1 :] = (after[:, cut + 1 :] + 1) % VOCAB
            change = (model(after).logits_BTV - logits).abs()
            assert float(change[:, : cut + 1].max()) == 0
            assert float(change[:, cut + 1 :].max()) > 0
        state = model.start(2)
        for t in range(50):
            output, state = model.step(window[:, t], state)
            torch.testing.assert_close(output.logits_BTV[:, 0], logits[:, t], rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["planes", "published"])
def test_the_read_out_of_every_layer_reaches_the_logits(config: FluxConfig) -> None:
    model = build(config).eval()
    before = model(tokens(2, 20)).logits_BTV
    for layer in model.layers:
        kept = layer.out.weight.detach().clone()
        with torch.no_grad():
            layer.out.weight.zero_()
            assert float((model(tokens(2, 20)).logits_BTV - before).abs().max()) > 1e-3
            layer.out.weight.copy_(kept)


def test_parameters_of_the_published_size_are_nearly_all_in_its_tables() -> None:
    """2 V for the states, V·d for the head; a layer's projection, its norm and its radius rate; the last norm."""
    config = PUBLISHED.model_copy(update={"width": 768, "layers": 6, "context": 1024})
    with torch.device("meta"):
        found = parameter_count(build_model(config, 50257))
    assert found == 2 * 50257 + 50257 * 768 + 6 * (2 * 768 + 768 + 768 + 1) + 768


# the Hebbian head


def test_the_hebbian_rule_is_its_formula() -> None:
    model = build().eval()
    window, targets = tokens(2, 12), tokens(2, 12, seed=1)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 5:] = False
    with torch.no_grad():
        hidden = model(window).hidden_BTD
        weight = model.head.weight.clone()
        step = torch.zeros_like(weight)
        for b, t in mask.nonzero().tolist():
            x = hidden[b, t]
            error = functional.one_hot(targets[b, t], VOCAB) - (weight @ x).softmax(0)
            step += torch.outer(error, x)
        model.after_update(hidden, targets, mask, {"hebbian": "after", "hebbian_rate": 0.3})
    torch.testing.assert_close(model.head.weight, weight + 0.3 * step / int(mask.sum()))


def test_the_hebbian_rule_descends_the_cross_entropy_and_rests_when_off() -> None:
    model = build()
    hidden = model(tokens(2, 12)).hidden_BTD.detach()
    targets, mask = tokens(2, 12, seed=1), torch.ones(2, 12, dtype=torch.bool)

    def loss() -> Tensor:
        return functional.cross_entropy(model.read_out(hidden).flatten(0, 1), targets.flatten())

    (gradient,) = torch.autograd.grad(loss(), model.head.weight)
    weight, before = model.head.weight.detach().clone(), loss().item()
    model.after_update(hidden, targets, mask, {"hebbian": "off", "hebbian_rate": 0.1})
    assert torch.equal(model.head.weight, weight)
    model.after_update(hidden, targets, torch.zeros_like(mask), {"hebbian": "after", "hebbian_rate": 0.1})
    assert torch.equal(model.head.weight, weight)
    model.after_update(hidden, targets, mask, {"hebbian": "after", "hebbian_rate": 0.1})
    torch.testing.assert_close(model.head.weight - weight, -0.1 * gradient, rtol=1e-4, atol=1e-6)
    assert loss().item() < before


def test_alone_the_rule_takes_the_optimizers_place_and_only_at_the_head() -> None:
    model = build()
    for mode in ("alone", "after", "off"):
        functional.cross_entropy(model(tokens(2, 12)).logits_BTV.flatten(0, 1), tokens(2, 12).flatten()).backward()
        model.before_update({"hebbian": mode})
        without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert without == (["head.weight"] if mode == "alone" else [])


# what pages read


def test_mixing_is_what_the_layers_apply() -> None:
    model = build(PUBLISHED).eval()
    for kernel in model.mixing(tokens(2, 30)):
        assert kernel.shape == (2, 1, 30, 30)
        torch.testing.assert_close(kernel.sum(-1), torch.ones(2, 1, 30))
        assert not kernel.triu(1).any()
        assert float(kernel.min()) >= 0
    states = states_of(model, T=30)
    layer = model.layers[0]
    assert isinstance(layer, FluxLayer)
    flat = states.reshape(2, 30, 2)
    expected = model.mixing(tokens(2, 30))[0][:, 0] @ flat
    torch.testing.assert_close(layer._connect(flat, flat).values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("T", [1, 30, 60])
def test_internals_say_what_happened(T: int) -> None:
    model = build().eval()
    found = model.internals(tokens(2, T))
    means = {f"flux/{name}" for name in ("kept_share", "dt_mean", "radius_mean", "threshold_mean", "skip", "strength")}
    by_layer = {f"flux/{name}_layer{layer}" for name in ("kept", "dt", "radius") for layer in (1, 2)}
    assert set(found.scalars) == means | by_layer
    assert found.scalars["flux/dt_mean"] == pytest.approx(0.5)
    assert 0 < found.scalars["flux/kept_share"] < 1 or T == 1
    assert 0.1 <= found.scalars["flux/radius_mean"] <= 1
    shown, arrays = min(T, 48), found.arrays
    assert arrays["angle"].shape == arrays["radius"].shape == (3, shown, 4)
    assert arrays["threshold"].shape == arrays["kept"].shape == arrays["strength"].shape == (2, 2, shown)
    assert arrays["connections"].shape == arrays["similarity"].shape == (2, 2, shown, shown)
    assert arrays["dt"].shape == arrays["skip"].shape == (2,)
    window = tokens(2, T)
    torch.testing.assert_close(arrays["connections"][0], model.mixing(window)[0][0, :, :shown, :shown])
    own = model.angle(window)[0, :shown]
    torch.testing.assert_close(arrays["angle"][0], own, rtol=0, atol=1e-4)


def test_what_is_shown_of_many_layers_and_heads_stays_small() -> None:
    arrays = build(heads=4, planes=4, layers=24).eval().internals(tokens(1, 48)).arrays
    assert arrays["connections"].numel() <= 100_000
    assert arrays["connections"].shape[-1] >= 8


# mistakes


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"planes": 6, "heads": 4}, "not divisible by heads"),
        ({"values": 6, "heads": 4}, "not divisible by heads"),
        ({"read_out": "linear"}, "set values to 0"),
        ({"evaluation": "fast"}, "set heads to planes"),
        ({"evaluation": "fast", "planes": 4, "gate": "hard"}, "gate to soft"),
        ({"evaluation": "fast", "planes": 4, "gate_temperature": 0.02}, "raise it to 0[.]05"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_a_remedy(changes: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        default_run().with_values({"kind": "flux_lm", **changes})
