"""Rules and autopilot as a pure function: when they propose what, and what holds them back."""

import json
from dataclasses import replace
from typing import Any

import pytest

from qcore.automation.policy import Automation, Proposal, held_back
from qcore.config import default_run
from qcore.detect import Tried, Verdict, remedies

RATE = {"kind": "set", "label": "Set learning_rate to 0.001", "why": "", "changes": {"learning_rate": 1e-3}}
OFF = {"kind": "set", "label": "Switch dominance off", "why": "", "changes": {"dominance_weight": 0.0}}
PAUSE = {"kind": "pause", "label": "Pause the run", "why": "", "changes": {}}
BACK = {"kind": "restore", "label": "Go back", "why": "", "changes": {"learning_rate": 1e-3}}


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests take for measured: remedies of `harmful_term` and of `raised_rate` helped."""
    keys = [("harmful_term", "set weight off"), ("harmful_term", "set learning_rate"), ("wrong_sign", "set clip_norm")]
    keys += [("raised_rate", "set learning_rate"), ("raised_rate", "restore learning_rate")]
    of_no_use = {("wrong_sign", "set weight off"): Tried(0, 3)}
    monkeypatch.setattr(remedies, "MEASURED", {**dict.fromkeys(keys, Tried(2, 3)), **of_no_use})


def verdict(name: str = "harmful_term", key: str = "", since: int = 7, *remedies: dict[str, Any]) -> Verdict:
    identity = f"{name}:{key}" if key else name
    return Verdict(identity, name, since, since, "active", {"raised_at": since}, "It is bad", "", list(remedies))


class Run:
    """A board of controls that takes what is proposed, step after step."""

    def __init__(self, **controls: Any) -> None:
        self.board = {**default_run().live_values(), **controls}
        self.automation = Automation("phase_lm")

    def turn(self, step: int, *active: Verdict, muted: tuple[str, ...] = (), **values: float) -> list[Proposal]:
        self.automation.observe({name.replace("__", "/"): value for name, value in values.items()})
        found = self.automation.proposals(step, self.board, active, muted)
        for proposal in found:
            for name, value in proposal.changes.items():
                self.board[name] = value
                self.automation.changed(step, name)
        return found


@pytest.mark.parametrize(
    "state",
    [
        {"memory": 5, "changed": {}, "latest": {}},
        {"memory": {"rule": {"held": "x", "times": 0, "last": None, "since": 1}}, "changed": {}, "latest": {}},
        {"memory": {"autopilot T1": {"tried": 5, "last": None, "first": 1, "seen": 1}}, "changed": {}, "latest": {}},
        {"memory": {}, "changed": {"clip_norm": "x"}, "latest": {}},
        {"memory": {}, "changed": {}, "latest": {"train/loss": "x"}},
        {"x": 1},
    ],
)
def test_a_damaged_memory_is_left_aside_whole(state: dict[str, Any]) -> None:
    automation = Automation("phase_lm")
    with pytest.raises(ValueError, match="memory of rules and autopilot is damaged"):
        automation.restore(state)
    assert automation.state() == {"memory": {}, "changed": {}, "latest": {}}


def test_nothing_is_proposed_unless_asked_for() -> None:
    run = Run()
    assert [run.turn(step, verdict("harmful_term", "", 0, RATE)) for step in range(100)] == [[]] * 100


def test_a_rule_on_a_series_waits_until_it_has_held_long_enough_then_rests() -> None:
    text = "when train/grad_norm > 5 for 3 steps: learning_rate *= 0.5; every 30 steps; at most 2 times"
    run = Run(rules=[text], learning_rate=8e-3)
    norms = [9, 9, 1, *[9] * 100]
    steps = [step for step, norm in enumerate(norms) if run.turn(step, train__grad_norm=float(norm))]
    assert steps == [5, 35]
    assert run.board["learning_rate"] == pytest.approx(2e-3)


def test_a_rule_on_a_finding_knows_fault_codes_and_terms_and_when_the_trouble_began() -> None:
    run = Run(rules=["when T2 is active: dominance_weight = 0, restore"], dominance_weight=1.0)
    assert run.turn(1, verdict("future_leak")) == []
    (proposal,) = run.turn(9, verdict("harmful_term", "dominance", 7))
    assert (proposal.author, proposal.changes, proposal.verbs) == ("rule", {"dominance_weight": 0.0}, ("restore",))
    assert proposal.before == 7
    assert proposal.reason == "when T2 is active: dominance_weight = 0, restore"
    other = Run(rules=["when harmful_term:eos is active: eos_weight = 0"], eos_weight=1.0)
    assert other.turn(9, verdict("harmful_term", "dominance")) == []
    assert other.turn(10, verdict("harmful_term", "eos"))


def test_a_rule_with_nothing_to_change_says_nothing() -> None:
    run = Run(rules=["when T2 is active: dominance_weight = 0"])
    assert run.turn(1, verdict()) == []


def test_limits_hold_rules_within_bounds_and_a_control_cools_down() -> None:
    run = Run(
        rules=["when train/loss > 0: learning_rate = 0.1; every 1 step"],
        limits=["learning_rate: 1e-4 .. 0.02, change x2, every 10 steps"],
        learning_rate=4e-3,
    )
    seen = {}
    for step in range(40):
        if run.turn(step, train__loss=1.0):
            seen[step] = run.board["learning_rate"]
    assert seen == {0: pytest.approx(8e-3), 10: pytest.approx(16e-3), 20: pytest.approx(0.02)}


def test_the_autopilot_tries_one_remedy_after_the_other_each_with_its_time() -> None:
    run = Run(autopilot=True, autopilot_patience=20, dominance_weight=1.0, learning_rate=5e-3)
    bad = verdict("harmful_term", "dominance", 7, OFF, PAUSE, RATE)
    told = {step: run.turn(step, bad) for step in range(10, 80)}
    acted = {step: found[0] for step, found in told.items() if found}
    assert list(acted) == [15, 35]
    assert acted[15].changes == {"dominance_weight": 0.0}
    assert acted[15].reason == "It is bad: Switch dominance off"
    assert acted[35].changes == {"learning_rate": 1e-3}


def test_the_autopilot_leaves_muted_findings_and_passing_ones_alone() -> None:
    run = Run(autopilot=True, dominance_weight=1.0)
    bad = verdict("harmful_term", "dominance", 7, OFF)
    assert not any(run.turn(step, bad, muted=[bad.id]) for step in range(10, 40))
    assert not any(run.turn(step, *([bad] if step % 4 else [])) for step in range(40, 80))
    assert any(run.turn(step, bad) for step in range(80, 90))


def test_a_finding_that_comes_back_is_treated_anew() -> None:
    run = Run(autopilot=True, autopilot_patience=5, dominance_weight=1.0)
    bad = verdict("harmful_term", "dominance", 7, OFF)
    assert any(run.turn(step, bad) for step in range(10, 20))
    run.turn(20)
    run.board["dominance_weight"] = 1.0
    assert any(run.turn(step, bad) for step in range(60, 70))


def test_a_remedy_that_a_limit_cuts_short_is_tried_again_until_it_is_reached() -> None:
    run = Run(
        autopilot=True, autopilot_patience=5, learning_rate=0.5, limits=["learning_rate: change x10, every 5 steps"]
    )
    bad = verdict("raised_rate", "", 7, RATE)
    rates = [run.turn(step, bad) and run.board["learning_rate"] for step in range(10, 60)]
    assert [rate for rate in rates if rate] == [pytest.approx(0.05), pytest.approx(5e-3), pytest.approx(1e-3)]


def test_restoring_is_a_remedy_too() -> None:
    run = Run(autopilot=True, learning_rate=0.5)
    proposals = [run.turn(step, verdict("raised_rate", "", 90, BACK)) for step in range(100, 110)]
    (found,) = [proposal for turn in proposals for proposal in turn]
    assert (found.verbs, found.before, found.changes) == (("restore",), 90, {"learning_rate": pytest.approx(5e-3)})


def test_a_resumed_run_proposes_what_an_undisturbed_one_proposes() -> None:
    def fresh() -> Run:
        text = "when train/grad_norm > 5 for 3 steps: clip_norm *= 0.9"
        return Run(rules=[text], autopilot=True, autopilot_patience=20, dominance_weight=1.0, learning_rate=5e-3)

    bad = verdict("harmful_term", "dominance", 7, OFF, RATE)
    whole, first, second = fresh(), fresh(), fresh()
    expected = [whole.turn(step, bad, train__grad_norm=9.0) for step in range(100)]
    begun = [first.turn(step, bad, train__grad_norm=9.0) for step in range(33)]
    second.automation.restore(json.loads(json.dumps(first.automation.state())))
    second.board = first.board
    assert begun + [second.turn(step, bad, train__grad_norm=9.0) for step in range(33, 100)] == expected
    assert sum(map(bool, expected)) > 3


def test_the_autopilot_acts_on_causes_only_and_with_what_was_seen_to_help() -> None:
    run = Run(autopilot=True, dominance_weight=1.0, learning_rate=5e-3)
    symptom, untried = verdict("token_collapse", "", 7, RATE), verdict("padding_targets", "", 7, RATE)
    useless, paused = verdict("wrong_sign", "local_energy", 7, OFF), verdict("harmful_term", "", 7, PAUSE)
    assert not any(run.turn(step, symptom, untried, useless, paused) for step in range(10, 60))
    assert held_back(symptom) == "it is a symptom, and its cause was not found"
    explained = {"role": "symptom", "causes": [{"id": "raised_rate", "title": "Raised", "active": True}]}
    assert held_back(replace(symptom, evidence=explained)) == "it follows from “Raised”"
    assert "seen to help" in held_back(untried)
    assert "seen to help" in held_back(useless)
    assert held_back(paused) == "no remedy of it changes the run"
    assert held_back(verdict("harmful_term", "", 7, OFF)) == ""
