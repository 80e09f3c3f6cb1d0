"""Probes on a live engine: they leave it as it was, a broken one is switched off, and their readings are right."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.data import open_dataset
from qcore.probes.jitter import jitter_weights
from qcore.probes.runner import Runner
from qcore.store import RunReader, RunWriter
from qcore.train.text_engine import Engine
from qcore.train.text_workload import TextProbed
from tests.support.configs import small_config
from tests.support.engines import all_state


def make(**changes):
    config = small_config(**changes)
    return Engine(config, open_dataset(config.data, config.model.context, None)), ControlBoard(config)


@pytest.fixture
def writer(tmp_path):
    with RunWriter(tmp_path / "run.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_probes_change_nothing(writer, kind):
    """With all probes at every step the run repeats, bit for bit, what it does without any."""
    losses = []
    for measured in (True, False):
        engine, board = make(kind=kind, dropout=0.1, accumulation=2)
        probed = TextProbed(engine)
        if measured:
            Runner(probed, writer).begin(engine.preview(board), board)
        for step in range(1, 5):
            result = engine.step(step, board)
            before = all_state(engine)
            if measured:
                seen = probed.probe_input(step, result, board, partial(writer.log_arrays, step))
                for probe in probed.probes:
                    if probe.name != "accumulation":  # it clears the gradients, which nobody reads after it
                        probe.measure(seen)
                assert all(torch.equal(a, b) for a, b in zip(before, all_state(engine), strict=True))
            losses.append((measured, step, result.loss, result.grad_norm))
    assert [row[1:] for row in losses if row[0]] == [row[1:] for row in losses if not row[0]]


def test_a_probe_that_throws_is_switched_off_and_training_goes_on(writer, tmp_path):
    engine, board = make()
    runner = Runner(TextProbed(engine), writer)

    def broken(seen):
        raise RuntimeError("the probe is ill")

    runner.probes = [replace(probe, measure=broken) if probe.name == "causality" else probe for probe in runner.probes]
    found = runner.begin(engine.preview(board), board)
    assert "strict/gap" in found, "the others still run"
    runner.scheduler.observe_step(1e6)  # a budget that covers everything
    again = runner.measure(1000, engine.step(1, board), board)
    assert "strict/gap" in again
    writer.flush()
    with RunReader(tmp_path / "run.sqlite") as reader:
        assert reader.meta()["disabled_probes"] == {"causality": "RuntimeError: the probe is ill"}
        lines = reader.log()
    assert len(lines) == 1, "it is tried once"
    assert lines[0].level == "error"
    assert "Traceback" in lines[0].message
    assert "the probe is ill" in lines[0].message


def test_a_budget_of_zero_switches_all_probes_off(writer):
    engine, board = make(budget_percent=0)
    runner = Runner(TextProbed(engine), writer)
    assert runner.begin(engine.preview(board), board) == {}
    assert runner.measure(100, engine.step(1, board), board) == {}


def test_the_jitter_is_taken_back_bit_for_bit():
    engine, _ = make()
    before = [parameter.detach().clone() for parameter in engine.model.parameters()]

    def fail_inside():
        with jitter_weights(engine.model, 3):
            assert all(not torch.equal(a, b) for a, b in zip(before, engine.model.parameters(), strict=True))
            raise RuntimeError("ill")

    with pytest.raises(RuntimeError, match="ill"):
        fail_inside()
    assert all(torch.equal(a, b) for a, b in zip(before, engine.model.parameters(), strict=True))


def test_the_weights_before_an_update_are_found_from_the_moments():
    engine, board = make(weight_decay=0.1)
    for step in (1, 2, 3):
        before = {name: parameter.detach().clone() for name, parameter in engine.model.named_parameters()}
        result = engine.step(step, board)
        for name, value in engine.before_update(result.learning_rate).items():
            assert torch.allclose(value, before[name], rtol=1e-5, atol=1e-7), name


def test_accumulated_gradients_equal_those_of_the_big_batch():
    engine, board = make(accumulation=4)
    assert engine.check_accumulation(1, board)[0] < 1e-5
    engine.model.register_forward_pre_hook(
        lambda module, inputs: engine.optimizer.zero_grad() if module.training else None
    )
    assert engine.check_accumulation(1, board)[0] > 0.1
    assert math.isnan(make(accumulation=1)[0].check_accumulation(1, board)[0])


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_mixing_is_what_the_layers_apply(kind):
    """Rows are causal and normalised; changing a token that nobody reads changes no output."""
    engine, _ = make(kind=kind, layers=2)
    tokens_BT = engine.probe_row(12)
    kernels = engine.model.mixing(tokens_BT)
    assert [tuple(kernel.shape) for kernel in kernels] == [(1, 2, 12, 12)] * 2
    for kernel in kernels:
        assert torch.equal(kernel.triu(1), torch.zeros_like(kernel))
        assert float(kernel.abs().max()) <= 1 + 1e-5
        if kind == "transformer":
            assert torch.allclose(kernel.sum(-1), torch.ones(1, 2, 12), atol=1e-5)


def test_attention_weights_reproduce_the_attention():
    engine, _ = make(kind="transformer")
    layer = engine.model.layers[0].attention
    x_BTD = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    value = layer._project(x_BTD, 0)[2]
    with torch.no_grad():
        assert torch.allclose(layer._merge(layer.weights(x_BTD) @ value), layer(x_BTD), atol=1e-5)


def test_terms_are_compared_at_the_last_hidden_state_too(writer, tmp_path):
    """Each pair of language terms has a cosine there; phase terms, which do not act through it, are left out."""
    engine, board = make(diversity_weight=0.1, coherence_weight=0.1)
    found = Runner(TextProbed(engine), writer).begin(engine.preview(board), board)
    assert found["hidden/norm/diversity"] > 0
    assert "hidden/norm/coherence" not in found
    assert found["grad/norm/coherence"] > 0
    writer.flush()
    with RunReader(tmp_path / "run.sqlite") as reader:
        _, hidden = reader.arrays("hidden")
        _, everything = reader.arrays("gradients")
        names = reader.meta()["term_names"]
    assert [names[index] for index in hidden["terms"]] == ["ce", "diversity"]
    assert [names[index] for index in everything["terms"]] == ["ce", "diversity", "coherence"]
    assert hidden["cosine"].shape == (2, 2)
    assert hidden["cosine"][0, 1] == pytest.approx(found["hidden/cos/diversity"], abs=1e-5)
