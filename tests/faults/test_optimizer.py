"""Every optimizer fault of the bank is named by its cause on a tiny engine, and by nothing else; its twin is silent."""

from typing import ClassVar

import pytest
import torch

from qcore.config import FAULTS
from qcore.detect import Facts, Watch
from qcore.faults.optimizer import uneven_rows
from qcore.probes.text import PROBES
from qcore.train.text_workload import TextProbed

CODES = [code for code in FAULTS if code.startswith("O")]
MEASURED = [probe for probe in PROBES if probe.name in ("weights", "accumulation")]


def findings(engine, board, steps=4):
    """Names of what is found of an engine, from the gradients and updates alone."""
    probed = TextProbed(engine)
    watch = Watch(Facts(kind="transformer", accumulation=engine.config.optim.accumulation, controls=dict(board)))

    def observe(step, result):
        seen = probed.probe_input(step, result, board, lambda name, arrays: None)
        values = {"train/lr": result.learning_rate} if step else {}
        for probe in MEASURED:
            values |= probe.measure(seen)
        return {verdict.name for verdict in watch.observe(step, values, {"ce": 1.0}) if verdict.state == "active"}

    found = observe(0, engine.preview(board))
    for step in range(1, steps + 1):
        if step in (2, steps):
            probed.record_update()
        result = engine.step(step, board)
        if step in (2, steps):
            found |= observe(step, result)
    return found


@pytest.mark.parametrize("code", CODES)
def test_each_is_named_by_its_cause_alone(planted, code):
    engine, board = planted(code, **({"learning_rate": 1e-4} if code == "O5" else {}))
    assert findings(engine, board) == set(FAULTS[code].findings)


@pytest.mark.parametrize("code", ["O1", "O3", "O5", "O9", "O10"])
def test_their_twins_are_silent(healthy, code):
    engine, board = healthy(code)
    if code == "O10":
        uneven_rows(engine)
    assert findings(engine, board) == set()


@pytest.mark.parametrize("kind", ["phase_lm", "pam", "flux_lm"])
def test_healthy_models_of_every_family_are_silent(healthy, kind):
    engine, board = healthy("O1", kind=kind)
    assert findings(engine, board) == set()


class SignDescent:
    """An optimizer of somebody's own, with no moments and no class of torch's."""

    state: ClassVar[dict] = {}

    def __init__(self, groups):
        self.param_groups = groups

    def zero_grad(self, set_to_none=True):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad.sign(), alpha=group["lr"])


def test_another_optimizer_is_measured_and_its_update_is_not_made_up(healthy):
    engine, board = healthy("O1")
    engine.optimizer = SignDescent(engine.optimizer.param_groups)
    probed = TextProbed(engine)
    probed.record_update()
    before = {name: value.detach().clone() for name, value in engine.model.named_parameters()}
    result = engine.step(1, board)
    seen = probed.probe_input(1, result, board, lambda name, arrays: None)
    found = MEASURED[0].measure(seen)
    assert "weights/update_ratio" not in found
    change = torch.cat([(value - before[name]).flatten() for name, value in engine.model.named_parameters()])
    assert found["update/rms"] == pytest.approx(float(change.square().mean().sqrt()), rel=0.05)


def test_recording_an_update_changes_none(healthy):
    weights = []
    for recorded in (False, True):
        engine, board = healthy("O10")
        for step in (1, 2):
            if recorded:
                engine.updates.arm()
            result = engine.step(step, board)
            if recorded:
                assert engine.updates.record(skipped=result.skipped) is not None
        weights.append(torch.cat([value.detach().flatten() for value in engine.model.parameters()]))
    assert torch.equal(*weights)
