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


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_names_are_unique_within_a_run(kind: str) -> None:
    names = [control.name for control in all_controls(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_every_control_is_fully_declared(kind: str) -> None:
    wrong = {control.name: said for control in all_controls(kind) if (said := _wrong_with(control))}
    assert wrong == {}


def _wrong_with(control: Control) -> list[str]:
    """What a declaration lacks, in words."""
    help_ = control.help
    checks = {
        "a help of ten letters": len(help_) >= 10,
        "a help that ends as a sentence": help_.rstrip().endswith((".", ")")),
        "a label that begins in upper case": control.label[0].isupper(),
        "its range in words": bool(control.range_text),
        "a default that it takes": control.check(control.default) == control.default,
        "all kinds as choices": control.name != "kind" or control.choices == tuple(MODEL_KINDS),
        "a default among its choices": control.kind != "choice" or control.default in control.choices,
        "no risk where nothing can change while training": not control.risky or control.live,
    }
    if control.kind in ("int", "float"):
        low, high = control.low, control.high
        assert low is not None, control.name
        assert high is not None, control.name
        written = [float(word) for word in re.findall(r"-?[\d.]+(?:e[-+]\d+)?", control.range_text)]
        checks |= {
            "finite bounds in order": -math.inf < low < high < math.inf,
            "a default within its bounds": low <= control.default <= high,
            "its range written out exactly": written == [low, high],
            "bounds that have a logarithm": control.scale != "log" or (low >= 0 and high > 0),
        }
    else:
        checks["no bounds, scale or unit"] = (control.low, control.high, control.scale, control.unit) == (
            None,
            None,
            "linear",
            "",
        )
    return [what for what, holds in checks.items() if not holds]


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({"help": "Short."}, "a help of ten letters"),
        ({"help": "No full stop at the end"}, "a help that ends as a sentence"),
        ({"default": 0.0, "low": 0.0, "high": 0.0}, "finite bounds in order"),
        ({"scale": "log", "low": -1.0}, "bounds that have a logarithm"),
        ({"risky": True, "live": False}, "no risk where nothing can change while training"),
    ],
)
def test_a_declaration_that_lacks_something_is_seen(changes: dict[str, object], lacks: str) -> None:
    whole = find_control("dropout", "phase_lm")
    assert _wrong_with(whole) == []
    assert lacks in _wrong_with(replace(whole, **changes))  # type: ignore[arg-type]


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


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_short_and_dotted_names_find_the_same_control(kind: str) -> None:
    for control in all_controls(kind):
        found = [find_control(name, kind) for name in (control.name, f"{control.section}.{control.name}")]
        assert found == [control, control]


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
