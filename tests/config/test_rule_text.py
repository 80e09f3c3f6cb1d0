"""Rules and limits: what a line means and what is refused."""

import math

import pytest

from qcore.config import (
    COOL_DOWN,
    Action,
    Compared,
    ConfigError,
    IsActive,
    Limit,
    SetControl,
    WhenRule,
    check_limits,
    check_rules,
    default_run,
    find_control,
    finding_names,
)


def rule(line: str) -> WhenRule:
    (found,) = check_rules([line])
    return found


def test_a_rule_with_everything() -> None:
    found = rule(
        "when T1 is active and train/grad_norm >= 5e0 for 20 steps: restore, learning_rate *= 0.5, clip_norm = 0.5; "
        "every 100 steps; at most 3 times"
    )
    assert found.conditions == (IsActive("T1"), Compared("train/grad_norm", ">=", 5.0))
    assert found.actions == (Action("learning_rate", "*=", "0.5"), Action("clip_norm", "=", "0.5"))
    assert (found.verbs, found.lasting, found.every, found.times) == (("restore",), 20, 100, 3)


def test_a_short_rule_takes_defaults() -> None:
    found = rule("when harmful_term:dominance is active: dominance_weight = 0")
    assert found.conditions == (IsActive("harmful_term", "dominance"),)
    assert (found.verbs, found.lasting, found.every) == ((), 1, COOL_DOWN)
    assert check_rules(["", "  "]) == ()


def test_conditions_and_actions_compute() -> None:
    assert [Compared("a/b", sign, 1.0).holds(1.0) for sign in (">", "<", ">=", "<=")] == [False, False, True, True]
    assert not Compared("a/b", "<", 1.0).holds(-math.inf)
    assert Action("x", "*=", "0.5").target(4.0) == 2.0
    assert Action("x", "+=", "-1").target(4.0) == 3.0
    assert Action("x", "=", "off").target(4.0) == "off"
    assert finding_names("T1") == ("padding_targets", "eos_collapse")
    assert finding_names("eos_collapse") == ("eos_collapse",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("T1 is active: ce_weight = 1", "write when CONDITION"),
        ("when x: ce_weight = 1", "'x' is not a condition"),
        ("when T1 is active: foo", "is not an action"),
        ("when T1 is active: paus", "did you mean 'pause'"),
        ("when T1 is active: width = 64", "cannot change while training"),
        ("when T1 is active: width *= 2", "cannot change while training"),
        ("when T1 is active: ce_weight *= two", "'two' is not a number"),
        ("when T1 is active: lr_policy *= 2", "is not a number"),
        ("when T1 is active: ce_wieght = 1", "did you mean 'ce_weight'"),
        ("when T1 is active: ce_weight = 99", "a number from 0 to 10"),
        ("when T1 is active: pause; sometimes", "neither 'every N steps'"),
    ],
)
def test_bad_rules_are_refused_in_a_configuration_and_in_a_command(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        default_run().with_values({"rules": [line]})
    with pytest.raises(ConfigError, match=words):
        SetControl("rules", [line]).checked()


@pytest.mark.parametrize(
    ("kind", "action", "words"),
    [
        ("transformer", "coherence_weight += 0.1", "coherence_weight = 0.1 is refused: a transformer has nothing"),
        ("phase_lm", "concept_weight += 0.5", "the model has no concepts"),
        ("phase_lm", "clip_norm = 0.5, balance_weight += 2", "the model has no experts"),
    ],
)
def test_what_a_rule_adds_to_is_something_that_the_model_has(kind: str, action: str, words: str) -> None:
    base, rules = default_run(kind), [f"when T1 is active: {action}"]
    for given in (lambda: base.with_values({"rules": rules}), lambda: base.check_change("rules", rules)):
        with pytest.raises(ConfigError, match=words):
            given()
    assert base.check_change("rules", rules, stored=True) == ("rules", rules), "an earlier version took it"
    assert default_run("phase_lm").with_values({"concepts": 4, "rules": ["when T1 is active: concept_weight += 0.5"]})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("learning_rate", "write control: LOW"),
        ("learning_rate: change 3", "write control: LOW"),
        ("learning_rate: 5 .. 1", "must not exceed|refused"),
        ("learning_rate: 1e-9 .. 1", "a number from 1e-07"),
        ("learning_rate: change x0.5", "at least 1"),
        ("width: 1 .. 2", "needs no limit"),
        ("wieght: 1 .. 2", "unknown name"),
    ],
)
def test_bad_limits_are_refused(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        default_run().with_values({"limits": [line]})


def test_limits_hold_automatic_changes() -> None:
    rate, share = find_control("learning_rate"), find_control("label_smoothing")
    limits = check_limits(["learning_rate: 1e-4 .. 0.01, change x2, every 50 steps", "label_smoothing: change ±0.1"])
    limit = limits["learning_rate"]
    assert limit == Limit("learning_rate", 1e-4, 0.01, 2.0, None, 50)
    assert limit.allowed(rate, 0.002, 0.1) == 0.004
    assert limit.allowed(rate, 0.002, 1e-5) == 0.001
    assert limit.allowed(rate, 0.008, 0.1) == 0.01
    assert limit.allowed(rate, 1.5e-4, 1e-6) == 1e-4
    assert limits["label_smoothing"].allowed(share, 0.3, 0.0) == pytest.approx(0.2)


def test_without_a_limit_the_range_holds_and_a_weight_may_start_from_nothing() -> None:
    rate, weight, steps = (find_control(name) for name in ("learning_rate", "diversity_weight", "steps"))
    assert Limit("learning_rate").allowed(rate, 0.5, 1e-4) == 0.005  # a hundredth at once, no more
    assert Limit("diversity_weight").allowed(weight, 0.0, 0.3) == 0.3
    assert Limit("diversity_weight").allowed(weight, 0.3, 0.0) == 0.0
    assert Limit("diversity_weight").allowed(weight, 1.0, 99.0) == 10.0
    assert Limit("steps").allowed(steps, 400, 600.4) == 600
