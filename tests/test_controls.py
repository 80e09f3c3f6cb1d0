"""Controls are declared once; whatever is generated from the declarations must find them complete and consistent."""

import math
import re
from dataclasses import replace

import pytest

from qcore.config import (
    LANGUAGE_KINDS,
    MODEL_KINDS,
    PRESETS,
    Control,
    RunConfig,
    all_controls,
    find_control,
    live_controls,
    preset,
)
from qcore.config.controls import ConfigError
from qcore.objectives import TERMS

EVERY = [
    pytest.param(kind, control, id=f"{kind}-{control.name}") for kind in MODEL_KINDS for control in all_controls(kind)
]


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_names_are_unique_within_a_run(kind: str) -> None:
    names = [control.name for control in all_controls(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("kind", "control"), EVERY)
def test_a_control_is_fully_declared(kind: str, control: Control) -> None:
    assert len(control.help) >= 10
    assert control.help.rstrip().endswith((".", ")"))
    assert control.label[0].isupper()
    assert control.range_text
    assert control.check(control.default) == control.default
    if control.kind in ("int", "float"):
        assert control.low is not None
        assert control.high is not None
        assert math.isfinite(control.low)
        assert math.isfinite(control.high)
        assert control.low < control.high
        assert control.low <= control.default <= control.high
        bounds = [float(word) for word in re.findall(r"-?[\d.]+(?:e[-+]\d+)?", control.range_text)]
        assert bounds == [control.low, control.high], "the range is written out exactly"
        if control.scale == "log":
            assert control.low >= 0
            assert control.high > 0
    else:
        assert control.low is None
        assert control.high is None
        assert control.scale == "linear"
        assert control.unit == ""
    if control.name == "kind":
        assert control.choices == tuple(MODEL_KINDS)
    if control.kind == "choice":
        assert control.default in control.choices
    if control.risky:
        assert control.live, "only a change while training can be risky"


def test_every_objective_term_has_a_weight_that_can_change_while_training() -> None:
    weights = {name for name in live_controls() if name.endswith("_weight")}
    assert {term.control for term in TERMS} == weights | {"label_smoothing"}
    declared = {name for name, control in live_controls().items() if control.section == "objective"}
    used = {term.control for term in TERMS} | {name for term in TERMS for name in term.parameters}
    assert used == declared, "every control of the objective is read by a term, and none is undeclared"


def test_language_models_share_their_live_controls_but_those_of_the_model_itself() -> None:
    shared = {
        kind: {name: control for name, control in live_controls(kind).items() if control.section != "model"}
        for kind in LANGUAGE_KINDS
    }
    assert shared == dict.fromkeys(LANGUAGE_KINDS, live_controls())


def test_a_live_control_means_the_same_in_every_family() -> None:
    """Only the default may differ, so that a command can be checked before its run is known."""
    seen: dict[str, Control] = {}
    for kind in MODEL_KINDS:
        for name, control in live_controls(kind).items():
            known = seen.setdefault(name, control)
            assert replace(control, default=known.default) == known


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_documented_and_survives_yaml(name: str) -> None:
    chosen = preset(name)
    assert chosen.name == name
    assert chosen.title
    assert chosen.about.endswith(".")
    assert RunConfig.from_yaml(chosen.config.to_yaml()) == chosen.config
    for key, value in chosen.changes.items():
        assert chosen.config.value(key) == value


@pytest.mark.parametrize(("kind", "control"), EVERY)
def test_short_and_dotted_names_find_the_same_control(kind: str, control: Control) -> None:
    assert find_control(control.name, kind) == find_control(f"{control.section}.{control.name}", kind) == control


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("optim.lerning_rate", "optim.learning_rate"),
        ("diversity", "diversity_weight"),
        ("objective.learning_rate", "learning_rate"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown name '{re.escape(wrong)}'; did you mean '.*{meant}'\?"):
        find_control(wrong)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'tiny-transfomer'; did you mean 'tiny-transformer'\?"):
        preset("tiny-transfomer")
