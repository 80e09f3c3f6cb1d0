"""Schedules: what a line means, when it is due, what is refused."""

import pytest

from qcore.config import (
    CURRICULA,
    ConfigError,
    RunConfig,
    ScheduledChange,
    SetControl,
    default_run,
    live_controls,
    parse_schedule,
)


def points(*lines: str) -> tuple[ScheduledChange, ...]:
    return parse_schedule(lines).changes


def test_steps_and_shares() -> None:
    at, share = points("120: coherence_weight = 0.02", "", "  36% : lr_policy=manual ")
    assert (at.step(400), at.name, at.value, at.stage) == (120, "coherence_weight", "0.02", "")
    assert (share.step(400), share.step(1000), share.name, share.value) == (144, 360, "lr_policy", "manual")
    assert points("0%: ce_weight = 1", "100%: ce_weight = 2")[1].step(400) == 400


def test_a_stage_changes_several_controls_at_once() -> None:
    first, second = points("stage concept learning 50%: ce_weight = 1, z_loss_weight = 1e-3")
    assert (first.name, first.value, second.name, second.value) == ("ce_weight", "1", "z_loss_weight", "1e-3")
    assert first.stage == second.stage == "concept learning"
    assert first.moment == second.moment
    assert [change.stage for change in points("7: a = 1, b = 2")] == ["", ""]


def ramp(line: str) -> list[float]:
    (found,) = parse_schedule([line]).ramps
    return [found.value(step, 200) for step in (0, 100, 150, 200, 250)]


def test_ways_from_step_to_step() -> None:
    assert ramp("100 .. 200: ce_weight = 1 -> 3") == [1, 1, 2, 3, 3]
    assert ramp("50% .. 100%: ce_weight = 1 → 3 linear") == [1, 1, 2, 3, 3]
    assert ramp("100..200: learning_rate = 1e-2 -> 1e-4 log") == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-4])
    assert ramp("100..200: ce_weight = 4 -> 0 cosine") == pytest.approx([4, 4, 2, 0, 0])
    assert ramp("0..100..150..200: ce_weight = 0 -> 1 -> 1 -> 0") == [0, 1, 1, 0, 0]
    (quarter,) = parse_schedule(["0 .. 100: ce_weight = 0 -> 1 cosine"]).ramps
    assert quarter.value(25, 1) == pytest.approx((1 - 2**-0.5) / 2)
    assert quarter.span(1) == (0, 100)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("coherence_weight = 0.02", "write STEP: control = value"),
        ("-5: ce_weight = 1", "write STEP"),
        ("1.5: ce_weight = 1", "whole number"),
        ("101%: ce_weight = 1", "between 0% and 100%"),
        ("5: coherence_wieght = 1", "did you mean 'coherence_weight'"),
        ("5: width = 64", "cannot change while training"),
        ("5: ce_weight = 99", "a number from 0 to 10"),
        ("5: schedule = x", "refused"),
        ("5: rules = when T1 is active: ce_weight = 1", "cannot be changed by a schedule"),
        ("5: ce_weight = 1, nonsense", "refused"),
        ("10 .. 5: ce_weight = 1 -> 2", "must increase"),
        ("5 .. 10: ce_weight = 1 -> 2 -> 3", "2 steps and 3 values"),
        ("5 .. 10: ce_weight = 1 -> 99", "a number from 0 to 10"),
        ("5 .. 10: ce_weight = 1 -> 2 wiggly", "'wiggly' is not a shape"),
        ("5 .. 10: ce_weight = 0 -> 2 log", "above 0"),
        ("5 .. 10: lr_policy = 0 -> 2", "is not a number"),
        ("5 .. 10: width = 64 -> 128", "cannot change while training"),
    ],
)
def test_a_bad_line_is_refused_in_a_configuration_and_in_a_command(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        default_run().with_values({"schedule": [line]})
    with pytest.raises(ConfigError, match=words):
        SetControl("schedule", [line]).checked()


def test_a_whole_text_is_bounded_where_it_is_entered() -> None:
    many = ["5: " + ", ".join(["beta1 = 0.5"] * 100)] * 21
    long = ["# " * 1_999 + ": x"] * 17
    for name in ("schedule", "rules", "limits"):
        for lines, words in ((many, "in 2,100 pieces is refused"), (long, "with 68,017 bytes")):
            with pytest.raises(ConfigError, match=words):
                default_run().check_change(name, lines)
    with pytest.raises(ConfigError, match="in 2,100 pieces is refused"):
        default_run().with_values({"schedule": many})
    assert default_run().check_change("schedule", many[:20]) == ("schedule", many[:20])
    assert default_run().check_change("schedule", many, stored=True) == ("schedule", many), "an earlier version took it"


def test_a_schedule_in_a_schedule_is_refused_at_once() -> None:
    for name in ("schedule", "rules"):
        for text in ("1: schedule=" * 330 + "3", "when T1 is active: rules = " * 150 + "3", "1: rules=" * 400 + "3"):
            with pytest.raises(ConfigError, match="refused") as refused:
                SetControl(name, text).checked()
            assert len(str(refused.value)) <= 1_000


def test_phase_terms_are_refused_for_a_model_without_phases() -> None:
    for line in ("5: coherence_weight = 0.1", "5 .. 10: coherence_weight = 0.1 -> 0.2"):
        with pytest.raises(ConfigError, match="has nothing that it affects"):
            default_run().with_values({"kind": "transformer", "schedule": [line]})


@pytest.mark.parametrize("name", CURRICULA)
def test_the_curricula_are_valid_and_reach_every_stage(name: str) -> None:
    config = default_run().with_values({"schedule": CURRICULA[name]})
    changes = parse_schedule(config.optim.schedule).changes
    assert {change.name for change in changes} <= set(live_controls())
    steps = sorted({change.step(1400) for change in changes})
    assert steps == ([0, 200, 500, 900] if name == "published" else [0, 700])
    assert all(change.stage for change in changes)
    assert RunConfig.from_yaml(config.to_yaml()) == config
