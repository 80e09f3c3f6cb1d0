"""One step: accumulation equals the big batch, repeats bit for bit, and stops before the optimizer on anything not
finite.
"""

import math

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.data import open_dataset
from qcore.train.engine import NonFiniteError, PlainAdamW, resolve_device
from qcore.train.text_engine import Engine
from tests.support.configs import small_config


def make(**changes):
    config = small_config(**changes)
    return Engine(config, open_dataset(config.data, config.model.context, None)), ControlBoard(config)


def weights(engine):
    return {name: value.detach().clone() for name, value in engine.model.state_dict().items()}


@pytest.mark.parametrize("packing", ["packed", "padded"])
@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_accumulation_equals_the_big_batch(kind, packing):
    """Four micro-batches of 2 rows give the gradient of one batch of 8 rows, also where rows hold unequal padding."""
    weights = {"z_loss_weight": 0.01, "entropy_floor_weight": 0.1, "eos_weight": 0.0, "clip_norm": 0.0}
    big, board = make(kind=kind, packing=packing, batch_size=8, accumulation=1, **weights)
    small, small_board = make(kind=kind, packing=packing, batch_size=2, accumulation=4, **weights)
    for step in (1, 2):
        expected, found = big.step(step, board), small.step(step, small_board)
        assert found.units == expected.units
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert found.terms == pytest.approx(expected.terms, rel=1e-4)
    for expected, found in zip(big.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=2e-3, atol=2e-6)


def test_phase_terms_accumulate_like_the_big_batch():
    terms = {"local_energy_weight": 0.1, "global_energy_weight": 0.1, "stability_weight": 0.1, "coherence_weight": 0.1}
    big, board = make(batch_size=8, **terms)
    small, small_board = make(batch_size=2, accumulation=4, **terms)
    expected, found = big.step(1, board), small.step(1, small_board)
    assert found.terms == pytest.approx(expected.terms, rel=1e-4)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_steps_repeat_bit_for_bit(dropout):
    first, board = make(dropout=dropout)
    second, _ = make(dropout=dropout)
    for step in range(1, 5):
        torch.rand(step)  # somebody else draws from the process-wide stream between the steps
        a, b = first.step(step, board), second.step(step, board)
        assert (a.loss, a.grad_norm, a.terms) == (b.loss, b.grad_norm, b.terms)
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name])


def test_dropout_leaves_the_global_random_state_alone():
    engine, board = make(dropout=0.5)
    before = torch.random.get_rng_state()
    engine.step(1, board)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_broken_loss_is_named_and_nothing_moves():
    engine, board = make()
    engine.step(1, board)
    with torch.no_grad():
        next(engine.model.parameters()).fill_(math.nan)
    before = weights(engine)
    with pytest.raises(NonFiniteError, match=r"the loss is not finite at step 2: ce\b.*Lower") as caught:
        engine.step(2, board)
    assert caught.value.step == 2
    assert caught.value.terms == ["ce"]
    for name, value in weights(engine).items():
        torch.testing.assert_close(value, before[name], equal_nan=True, rtol=0, atol=0)


def test_a_broken_gradient_is_named_and_nothing_moves():
    engine, board = make()
    name, parameter = next((n, p) for n, p in engine.model.named_parameters() if p.ndim == 1)
    parameter.register_hook(lambda gradient: gradient * math.inf)
    before = weights(engine)
    with pytest.raises(NonFiniteError, match="the gradient is not finite at step 1") as caught:
        engine.step(1, board)
    assert name in caught.value.terms
    assert all(torch.equal(value, before[key]) for key, value in weights(engine).items())


def test_a_live_weight_changes_the_next_step_and_not_the_curve():
    """The unweighted part stays comparable: only the total moves with the weight."""
    first, board = make()
    second, heavier = make()
    heavier.set("diversity_weight", 2.0)
    plain, weighted = first.step(1, board), second.step(1, heavier)
    assert weighted.terms["ce"] == plain.terms["ce"]
    assert weighted.loss == pytest.approx(plain.loss + 2 * weighted.terms["diversity"], rel=1e-5)


def test_evaluation_is_token_weighted_and_leaves_training_alone():
    engine, board = make(packing="padded", eval_batches=3)
    value = engine.evaluate()
    assert value == engine.evaluate()
    summed, count = 0.0, 0
    for batch in engine.dataset.validation_batches(4, 3):
        logits = engine.model.eval()(batch.inputs_BT).logits_BTV
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.targets_BT, reduction="none")
        summed += losses[batch.mask_BT].sum().item()
        count += int(batch.mask_BT.sum())
    assert value == pytest.approx(summed / count, rel=1e-6)
    twin, twin_board = make(packing="padded", eval_batches=3)
    assert engine.step(1, board).loss == twin.step(1, twin_board).loss


def test_measured_terms_agree_with_the_trained_ones():
    engine, board = make(diversity_weight=0.5, coherence_weight=0.5, batch_size=2)
    with torch.no_grad():  # measure_terms sees the model before the update only when no update is made
        board.set("learning_rate", 1e-7)
        board.set("weight_decay", 0.0)
    result = engine.step(1, board)
    measured = engine.measure_terms(result, board)
    for name, value in result.terms.items():
        assert measured[name] == pytest.approx(value, rel=1e-3, abs=1e-5)
    assert {"local_energy", "entanglement", "unlikelihood"} <= measured.keys()


def test_the_optimizer_is_torchs_own_to_the_last_bit():
    made = []
    for kind in (PlainAdamW, torch.optim.AdamW):
        torch.manual_seed(4)
        model = torch.nn.Linear(5, 3)
        optimizer = kind(model.parameters(), lr=1e-2, eps=1e-8, fused=True)
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            model(torch.randn(7, 5)).square().sum().backward()
            optimizer.step()
        assert torch.is_grad_enabled()
        made.append((model.state_dict(), optimizer.state_dict()))
    (own, moments), (theirs, expected) = made
    for name, value in theirs.items():
        assert torch.equal(own[name], value)
    assert moments["param_groups"] == expected["param_groups"]
    for place, state in expected["state"].items():
        assert {name: value.tolist() for name, value in state.items()} == {
            name: value.tolist() for name, value in moments["state"][place].items()
        }


def test_a_missing_device_is_refused():
    if torch.cuda.is_available():
        assert resolve_device("auto").type == "cuda"
    else:
        assert resolve_device("auto").type == "cpu"
        with pytest.raises(ValueError, match="no CUDA device"):
            resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_mixed_precision_on_cuda_keeps_complex_states_in_complex64(precision):
    engine, board = make(device="cuda", precision=precision)
    losses = [engine.step(step, board).loss for step in range(1, 9)]
    assert losses[-1] < losses[0]
    output = engine.step(9, board).output
    assert output.state_BTP.dtype == torch.complex64
