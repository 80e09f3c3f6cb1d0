"""A run with every switch of the phase model on: its terms reach the loss, and what probes read is of the same rows."""

from __future__ import annotations

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.data import open_dataset
from qcore.objectives import TermInputs
from qcore.train.text_engine import MEASURED_ROWS, Engine
from tests.support.configs import small_config

SWITCHES = {
    "source": "bilingual",
    "dynamic_width": True,
    "concepts": 8,
    "concept_weight": 1.0,
    "language_phases": True,
    "experts": 4,
    "experts_active": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "balance_weight": 0.05,
}


def make() -> tuple[Engine, ControlBoard]:
    config = small_config(**SWITCHES)
    return Engine(config, open_dataset(config.data, config.model.context, None)), ControlBoard(config)


def test_the_terms_reach_the_loss_the_measured_rows_and_the_weights() -> None:
    engine, board = make()
    result = engine.step(1, board)
    assert {"ce", "concept", "balance"} <= result.terms.keys()
    expected = sum(board[f"{name}_weight"] * value for name, value in result.terms.items())
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert all(parameter.grad is not None for parameter in engine.model.parameters())
    output, rows = result.output, result.row_output
    assert output.concepts_BTK is not None
    assert rows.concepts_BTK is not None
    assert rows.routers is not None
    assert torch.equal(rows.concepts_BTK, output.concepts_BTK[:MEASURED_ROWS])
    assert len(rows.routers) == engine.config.model.layers
    assert not any(router.requires_grad for router in rows.routers)
    inputs = engine.term_inputs(rows, result.rows)
    assert isinstance(inputs, TermInputs)
    assert inputs.experts_active == 2
    measured = engine.measure_terms(result, board)
    assert {"concept", "balance", "coherence"} <= measured.keys()


def test_a_run_with_every_switch_repeats_bit_for_bit_and_learns() -> None:
    (first, board), (second, _) = make(), make()
    losses = []
    for step in range(1, 21):
        a, b = first.step(step, board), second.step(step, board)
        assert (a.loss, a.grad_norm, a.terms) == (b.loss, b.grad_norm, b.terms)
        losses.append(a.terms["ce"])
    assert losses[-1] < losses[0] - 0.5


def test_gradients_of_micro_batches_equal_the_big_one_where_terms_are_of_tokens() -> None:
    """No expert has a capacity, so a token's way does not depend on how the batch was cut."""
    config = small_config(**SWITCHES | {"accumulation": 2, "batch_size": 4})
    engine = Engine(config, open_dataset(config.data, config.model.context, None))
    assert engine.check_accumulation(1, ControlBoard(config))[0] < 1e-4
