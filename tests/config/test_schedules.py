"""Schedules: what a line means, when it is due, what is refused."""

import pytest

from qcore.config import CURRICULA, ConfigError, RunConfig, SetControl, default_run, live_controls, parse_schedule


def test_steps_and_shares() -> None:
    at, share = parse_schedule(["120: coherence_weight = 0.02", "", "  36% : lr_policy=manual "])
    assert (at.step(400), at.name, at.value) == (120, "coherence_weight", "0.02")
    assert (share.step(400), share.step(1000), share.name, share.value) == (144, 360, "lr_policy", "manual")
    assert parse_schedule(["0%: ce_weight = 1", "100%: ce_weight = 2"])[1].step(400) == 400


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
        ("5: schedule = x", "cannot change the schedule|refused"),
    ],
)
def test_a_bad_line_is_refused_in_a_configuration_and_in_a_command(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        default_run().with_values({"schedule": [line]})
    with pytest.raises(ConfigError, match=words):
        SetControl("schedule", [line]).checked()


def test_phase_terms_are_refused_for_a_model_without_phases() -> None:
    with pytest.raises(ConfigError, match="has no phases"):
        default_run().with_values({"kind": "transformer", "schedule": ["5: coherence_weight = 0.1"]})


@pytest.mark.parametrize("name", CURRICULA)
def test_the_curricula_are_valid_and_reach_every_stage(name: str) -> None:
    config = default_run().with_values({"schedule": CURRICULA[name]})
    changes = parse_schedule(config.optim.schedule)
    assert {change.name for change in changes} <= set(live_controls())
    steps = sorted({change.step(1400) for change in changes})
    assert steps == ([0, 200, 500, 900] if name == "published" else [0, 700])
    assert RunConfig.from_yaml(config.to_yaml()) == config
