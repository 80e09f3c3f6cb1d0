"""Weakened faults: each acts, each trains, and each resumes like any other run."""

import pytest
import torch

from qcore.config import WEAKENED, default_run
from qcore.faults.weakened import PLANTERS


def test_every_case_has_a_planter_and_is_a_valid_run():
    assert list(WEAKENED) == list(PLANTERS)
    for code, case in WEAKENED.items():
        assert default_run().with_values(case.preset_changes).fault == code


@pytest.mark.parametrize("code", WEAKENED)
def test_it_changes_the_run_and_resumes_bit_for_bit(healthy, planted, code):
    changes = {"layers": 2, "width": 16}
    plain, board = healthy(code, **changes)
    engine, _ = planted(code, **changes)
    for step in (1, 2):
        plain.step(step, board)
        engine.step(step, board)
    weights = {name: value.clone() for name, value in engine.model.state_dict().items()}
    same = [name for name, value in plain.model.state_dict().items() if torch.equal(value, weights[name])]
    assert set(weights) - set(same) or len(weights) > len(plain.model.state_dict()), "nothing was planted"
    resumed, _ = planted(code, **changes)
    resumed.model.load_state_dict(weights)
    for old, new in zip(engine.model.parameters(), resumed.model.parameters(), strict=True):
        if moments := engine.optimizer.state.get(old):
            resumed.optimizer.state[new] = {name: value.clone() for name, value in moments.items()}
    assert engine.step(3, board).loss == resumed.step(3, board).loss
    assert engine.evaluate(board) == resumed.evaluate(board)
    for name, value in engine.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
