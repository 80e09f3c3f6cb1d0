"""Curves alone, of a run that another program wrote, give findings; its own stand, and healthy ones give none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from qcore.lab import Lab
from qcore.runs.external_run import ExternalRun
from qcore.store import Event, Finding, RunWriter, Status
from tests.support.foreign import foreign_run


def healthy(step: int) -> dict[str, float]:
    found = {"loss": 1 + 4 * math.exp(-step / 60) + 0.02 * (step * 7 % 5), "lr": 1e-3, "grad_norm": 1.0}
    return found | ({"val_loss": 1.1 + 4 * math.exp(-step / 60)} if step % 25 == 0 else {})


def overfit(step: int) -> dict[str, float]:
    found = {"train/loss": 5 * math.exp(-step / 100) + 0.01 * (step * 7 % 5), "train/lr": 1e-3}
    return found | ({"eval/loss": 3 + abs(step - 100) / 100} if step % 25 == 0 else {})


def nan_loss(step: int) -> dict[str, float]:
    return {"train/loss": math.nan if step > 100 else 3.0, "train/lr": 1e-3}


def rate_gone(step: int) -> dict[str, float]:
    return {"train_loss": 3 - step / 1000, "learning_rate": max(0.0, 1e-3 * (1 - step / 50))}


def spike(step: int) -> dict[str, float]:
    fades = math.exp(-(step - 200) / 20) if step >= 200 else 0.0
    return {"term/ce": 1 + 0.02 * (step * 7 % 5) + 4 * fades, "train/grad_norm": 1 + 0.1 * (step % 3) + 99 * fades}


def resumed(step: int) -> dict[str, float]:
    return {"train/loss": 2 + 0.02 * (step * 7 % 5) + (1.5 if 150 < step < 170 else 0.0), "train/lr": 1e-3}


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (healthy, set()),
        (overfit, {"overfit"}),
        (nan_loss, {"nonfinite_series"}),
        (rate_gone, {"rate_zero_early"}),
        (spike, {"loss_spike"}),
        (resumed, {"resume_jump", "loss_spike"}),
    ],
)
def test_curves_of_another_program_are_judged(
    curve: Callable[[int], dict[str, float]], expected: set[str], lab: Lab
) -> None:
    with foreign_run(lab.runs_dir, "own") as writer:
        for step in range(301):
            writer.log_scalars(step, curve(step))
        writer.add_event(Event(1, 150, time.time(), "train.py", "resume", {}))
        writer.set_status(Status("finished", 300, 300, time.time(), 1, "elsewhere"))
    found = lab.findings("own")
    assert {one.name for one in found} == expected
    assert lab.all_findings() == ({"own": found} if expected else {})
    for one in found:
        assert all("changes" not in remedy or not remedy["changes"] for remedy in one.remedies)  # nothing to set there


def test_findings_of_its_own_stand_and_it_may_have_no_loss_at_all(lab: Lab) -> None:
    own = Finding("mine", "mine", 1, 1, "active", {"numbers": [], "figure": None}, "Mine 1", "", [])

    def write(writer: RunWriter) -> None:
        for step in range(301):
            writer.log_scalars(step, overfit(step))
        writer.put_finding(own)

    with foreign_run(lab.runs_dir, "own") as writer:
        write(writer)
    assert [one.name for one in lab.findings("own")] == ["mine"]
    with foreign_run(lab.runs_dir, "other") as writer:
        writer.log_scalars(1, {"accuracy": math.nan})
    assert lab.findings("other") == []


def test_a_judged_finding_can_be_muted_and_follows_what_is_written(lab: Lab) -> None:
    with ExternalRun(lab.runs_dir, "own") as run:
        for step in range(150):
            run.writer.log_scalars(step, overfit(step))
        run.writer.flush()
        assert lab.findings("own") == []
        for step in range(150, 301):
            run.writer.log_scalars(step, overfit(step))
    [found] = lab.findings("own")
    assert found.needs_attention
    lab.mute("own", "overfit")
    [found] = lab.findings("own")
    assert found.muted
