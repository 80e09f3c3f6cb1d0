"""Dry runs over a recorded run, and the course that a schedule plans."""

import pytest

from qcore.config import ConfigError, SetControl, default_run
from qcore.lab import DryChange, Lab, dry_run, planned
from qcore.store import Finding, RunWriter
from tests.attacks.cpu import bounded
from tests.helpers import small_config


@pytest.fixture
def recorded(lab: Lab) -> Lab:
    """A finished run whose gradient norm grew and that had a finding, and whose weight a person changed at step 0."""
    name = lab.start(small_config(steps=60, kind="transformer", learning_rate=1e-3), name="run")
    lab.command(name, SetControl("z_loss_weight", 0.5))
    lab.wait(name, 60)
    with RunWriter(lab.runs_dir / name / "run.sqlite") as writer:
        for step in range(1, 61):
            writer.log_scalars(step, {"made/up": float(step)})
        remedy = {"kind": "set", "label": "Off", "why": "", "changes": {"z_loss_weight": 0.0}}
        evidence = {"raised_at": 30}
        writer.put_finding(Finding("harmful_term:z", "harmful_term", 28, 60, "active", evidence, "Bad", "", [remedy]))
    return lab


def run(lab: Lab, **changes: object) -> list[DryChange]:
    return dry_run(lab.config("run"), lab.reader("run"), changes)


def test_what_rules_would_have_done(recorded: Lab) -> None:
    found = run(recorded, rules=["when made/up >= 20: learning_rate *= 0.5, checkpoint; every 30 steps"])
    assert [(one.step, one.name, one.old, one.new) for one in found] == [
        (20, "checkpoint", "", ""),
        (20, "learning_rate", 1e-3, 5e-4),
        (50, "checkpoint", "", ""),
        (50, "learning_rate", 5e-4, 2.5e-4),
    ]
    assert {one.author for one in found} == {"rule"}


def test_findings_count_from_the_step_at_which_they_were_raised(recorded: Lab) -> None:
    (rule,) = run(recorded, rules=["when T2 is active: learning_rate = 0.0005"])
    assert (rule.step, rule.new) == (30, 5e-4)
    (remedy,) = [one for one in run(recorded, autopilot=True) if one.reason == "Bad: Off"]
    assert (remedy.step, remedy.author) == (35, "autopilot")
    assert (remedy.name, remedy.old, remedy.new) == ("z_loss_weight", 0.5, 0.0)


def test_a_schedule_is_walked_through(recorded: Lab) -> None:
    found = run(recorded, schedule=["stage two 50%: clip_norm = 0.5", "10 .. 20: learning_rate = 0.002 -> 0.004"])
    assert [(one.step, one.name, one.new) for one in found] == [
        (10, "learning_rate", 0.002),
        (20, "learning_rate", 0.004),
        (30, "clip_norm", 0.5),
    ]
    assert found[2].reason == "two"
    assert run(recorded) == []


def test_only_automatic_controls_vary(recorded: Lab) -> None:
    with pytest.raises(ConfigError, match="a dry run varies schedule, rules"):
        run(recorded, learning_rate=1e-3)
    with pytest.raises(ConfigError, match="write when CONDITION"):
        run(recorded, rules=["nonsense"])


def test_the_planned_course_of_numbers() -> None:
    values = {**small_config().live_values(), "steps": 400, "lr_policy": "cosine"}
    lines = ["100: clip_norm = 0.5", "200 .. 300: clip_norm = 0.5 -> 0.1", "50%: lr_policy = constant"]
    found = planned(lines, values, "phase_lm")
    assert list(found) == ["clip_norm"]
    course = dict(zip(*found["clip_norm"], strict=True))
    expected = {0: 1.0, 99: 1.0, 100: 0.5, 200: 0.5, 250: 0.3, 300: 0.1, 400: 0.1}
    assert {step: course[step] for step in expected} == pytest.approx(expected)
    assert planned([], values, "phase_lm") == {}


def test_a_schedule_of_a_thousand_ways_is_planned_at_once() -> None:
    lines = [f"{10 * place} .. {10 * place + 9}: clip_norm = 1 -> 0.5" for place in range(1, 1000)]
    values = {**default_run().live_values(), "steps": 20_000}
    with bounded(10.0):
        found = planned(lines, values, "phase_lm")
    steps, numbers = found["clip_norm"]
    assert len(steps) <= 6_000
    assert numbers[steps.index(9_999)] == 0.5
