"""G1–G8: gradients that are 0, have the wrong sign or size, or never arrive."""

import math

import pytest
import torch

from qcore.data import Batch
from qcore.objectives import Derived, total_loss


def term(engine, board, name, rows=4):
    """Value of one term on the first batch, and its gradient over all parameters (None where there is none)."""
    batch = engine.dataset.train_batch(0, 0, rows)
    engine.model.eval()
    inputs = engine.term_inputs(engine.model(batch.inputs_BT, with_phases=True), batch)
    [fn] = [one.fn for one in engine.terms if one.name == name]
    value = fn(Derived(inputs), board)
    if not value.requires_grad:
        return value, None, inputs
    parameters = list(engine.model.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
    return value.detach(), torch.cat([gradient.flatten() for gradient in flat]), inputs


def test_a_counted_distribution_has_no_gradient(planted, healthy):
    engine, board = planted("G1")
    value, gradient, inputs = term(engine, board, "diversity")
    assert gradient is None
    assert term(*healthy("G1"), "diversity")[1].abs().max() > 0
    predicted = inputs.logits_BTV.argmax(-1).flatten().tolist()
    expected = 0.0
    for token in set(predicted):
        share = predicted.count(token) / len(predicted)
        expected += share * math.log(share / max(1e-8, float(inputs.unigram_V[token])))
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_a_clamped_entropy_sits_at_half_a_nat_without_gradient(planted):
    engine, board = planted("G2")
    for step in (1, 2, 3):
        value, gradient, _ = term(engine, board, "entropy_floor")
        assert float(value) == -0.5
        assert not gradient.any()
        engine.step(step, board)
    [declared] = [one for one in engine.terms if one.name == "entropy_floor"]
    assert (declared.low, declared.high, declared.hinge) == (-0.5, 0.0, False)


def test_the_terms_see_real_phases_and_send_no_gradient_back(planted, healthy):
    engine, board = planted("G3")
    value, gradient, inputs = term(engine, board, "coherence")
    angles = torch.cat([phase.flatten() for phase in inputs.phases]).abs()
    assert angles.unique().tolist() == [0.0, pytest.approx(math.pi)]
    assert gradient is None or not gradient.any()
    well_value, well_gradient, well_inputs = term(*healthy("G3"), "coherence")
    assert well_gradient.any()
    assert value != well_value
    for mine, other in zip(inputs.phases, well_inputs.phases, strict=True):
        assert torch.equal(mine.cos() > 0, other.cos() >= 0)


def test_the_energy_has_the_opposite_value_and_gradient(planted, healthy):
    value, gradient, _ = term(*planted("G4"), "local_energy")
    well_value, well_gradient, _ = term(*healthy("G4"), "local_energy")
    assert value == -well_value
    assert torch.equal(gradient, -well_gradient)
    assert well_gradient.any()


@pytest.mark.parametrize("width", [16, 32])
def test_the_energy_grows_with_the_width(planted, healthy, width):
    value, gradient, _ = term(*planted("G5", width=width), "local_energy")
    well_value, well_gradient, _ = term(*healthy("G5", width=width), "local_energy")
    torch.testing.assert_close(value, well_value * width)
    torch.testing.assert_close(gradient, well_gradient * width)
    assert not -1 <= float(value) <= 1


def gradients(engine):
    return [None if p.grad is None else p.grad.clone() for p in engine.model.parameters()]


def test_only_the_last_micro_batch_is_left(planted, healthy):
    unclipped = {"clip_norm": 0.0, "accumulation": 4, "kind": "transformer"}
    engine, board = planted("G6", **unclipped)
    engine.step(1, board)
    left = gradients(engine)
    alone, _ = healthy("G6", **unclipped)
    last = alone.dataset.train_batch(0, 3, 4)
    share = int(last.mask_BT.sum()) / sum(int(alone.dataset.train_batch(0, at, 4).mask_BT.sum()) for at in range(4))
    total = total_loss(alone.term_inputs(alone.model(last.inputs_BT, with_phases=True), last), board, alone.terms)
    (total.loss * share).backward()
    for mine, other in zip(left, gradients(alone), strict=True):
        torch.testing.assert_close(mine, other)
    well, _ = healthy("G6", **unclipped)
    well.step(1, board)
    assert sum(float(g.square().sum()) for g in gradients(well)) > 2 * sum(float(g.square().sum()) for g in left)
    assert engine.check_accumulation(2, board)[0] > 0.3
    assert well.check_accumulation(2, board)[0] < 1e-4


def test_other_forwards_do_not_shift_the_lost_micro_batch(planted):
    plain, board = planted("G6")
    busy, _ = planted("G6")
    batch = busy.dataset.train_batch(0, 9, 2)
    for step in (1, 2):
        plain.step(step, board)
        busy.evaluate(board)
        busy.gradients(busy.preview(board), board)
        busy.check_accumulation(step, board)[0]
        busy.model.train()
        with torch.no_grad():
            busy.model(batch.inputs_BT)
        busy.step(step, board)
    for a, b in zip(plain.model.parameters(), busy.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_all_blocks_but_the_last_are_frozen(planted, kind):
    engine, board = planted("G7", kind=kind, layers=3)
    engine.step(1, board)
    learning = {name for name, parameter in engine.model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(("layers.0.", "layers.1.")) for name in learning)
    assert {name for name, _ in engine.model.named_parameters() if name.startswith("layers.2.")} <= learning
    assert "embedding.weight" in learning


def test_most_weights_are_idle_and_the_rest_is_linear(planted):
    engine, board = planted("G8", width=48, layers=5, heads=4, documents=1500)
    batch: Batch = engine.dataset.train_batch(0, 0, 2)
    found = engine.gradients(engine.preview(board), board)
    sizes = {name: parameter.numel() for name, parameter in engine.model.named_parameters()}
    idle = sum(sizes[name] for name, gradient in found.items() if gradient is None)
    assert idle / sum(sizes.values()) == pytest.approx(0.64, abs=0.02)
    layer, x_BTD = engine.model.layers[0], torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(layer.ffn(3 * x_BTD), 3 * layer.ffn(x_BTD))
    row_BT = batch.inputs_BT[:1]
    torch.testing.assert_close(engine.logits(row_BT)[:, -1], engine.logits(row_BT[:, -1:])[:, -1])
    [weights_BHTT, *_] = engine.model.mixing(row_BT)
    assert torch.equal(weights_BHTT[0, 0], torch.eye(row_BT.shape[1]))
