"""Dry runs over a recorded run, and the course that a schedule plans."""

import pytest

from qcore.config import ConfigError, SetControl
from qcore.lab import DryChange, Lab, dry_run, held_back_findings
from qcore.store import Finding, RunWriter
from tests.attacks.cpu import bounded
from tests.support.configs import small_config


@pytest.fixture
def recorded(lab: Lab) -> Lab:
    """A finished run whose gradient norm grew and that had a finding, and whose weight a person changed at step 0."""
    name = lab.start(small_config(steps=60, kind="transformer", learning_rate=1e-3), name="run")
    lab.command(name, SetControl("z_loss_weight", 0.5))
    lab.wait(name, 60)
    with RunWriter(lab.runs_dir / name / "run.sqlite") as writer:
        for step in range(1, 61):
            writer.log_scalars(step, {"made/up": float(step)})
        # as of a version without roles and grades: those of its rule
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


def test_steps_far_apart_and_remedies_that_nobody_can_take_are_no_work(recorded: Lab) -> None:
    with RunWriter(recorded.runs_dir / "run" / "run.sqlite") as writer:
        writer.log_scalars(9_999_990, {"made/up": 5.0})
        for place, changes in enumerate(({"learning_rate": "abc"}, {"clip_norm": None}, {"nonsense": 1}, None)):
            remedy = {"kind": "set", "label": "Odd", "why": "", "changes": changes}
            writer.put_finding(Finding(f"odd:{place}", "odd", 1, 60, "active", {}, "Odd", "", [remedy]))
    with bounded(5.0):
        by_rule = run(recorded, rules=["when made/up >= 20: learning_rate *= 0.5; at most 1 times"])
        by_autopilot = run(recorded, autopilot=True)
    assert [one.step for one in by_rule] == [20]
    assert by_autopilot
    assert [one for one in by_autopilot if one.reason.startswith("Odd")] == []


def test_only_automatic_controls_vary(recorded: Lab) -> None:
    with pytest.raises(ConfigError, match="a dry run varies schedule, rules"):
        run(recorded, learning_rate=1e-3)
    with pytest.raises(ConfigError, match="write when CONDITION"):
        run(recorded, rules=["nonsense"])


def test_what_the_autopilot_would_have_left_alone_and_why(recorded: Lab) -> None:
    rate = {"kind": "set", "label": "Rate", "why": "", "changes": {"learning_rate": 0.002}}
    with RunWriter(recorded.runs_dir / "run" / "run.sqlite") as writer:
        writer.put_finding(Finding("stuck", "stuck", 5, 60, "active", {"raised_at": 9}, "Stuck", "", [rate]))
        writer.put_finding(Finding("nonfinite", "nonfinite", 7, 60, "active", {}, "NaN", "", [rate]))
    found = held_back_findings(recorded.config("run"), recorded.reader("run"))
    assert [(one.step, one.finding, one.reason) for one in found] == [
        (7, "nonfinite", "none of its remedies was seen to help where the fault was planted"),
        (9, "stuck", "it is a symptom, and its cause was not found"),
    ]
    assert {one.reason for one in run(recorded, autopilot=True)} == {"Bad: Off"}
