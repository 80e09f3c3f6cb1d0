"""Names as pages write them: accepted wherever a control or a key is asked for, and unknown ones still hinted at."""

from typing import Any

import pytest

from qcore.cli.base import set_commands
from qcore.config import (
    MODEL_KINDS,
    ConfigError,
    Grow,
    RunConfig,
    Sample,
    SetControl,
    all_controls,
    check_limits,
    check_rules,
    check_schedule,
    default_run,
    find_control,
    nearest_hint,
    normal_name,
    read_changes,
)
from tests.attacks.cpu import bounded

WAYS = ("learning rate", "Learning rate", "LEARNING_RATE", "learning-rate", " learning   rate ", "optim.learning rate",
        "Optim . Learning-Rate", "learning\u00a0rate", "learning__rate")  # fmt: skip


@pytest.mark.parametrize("written", WAYS)
def test_a_name_is_accepted_in_every_place_that_asks_for_one(written: str) -> None:
    base = default_run()
    wanted = base.with_values({"learning_rate": 0.02})
    assert find_control(written).name == "learning_rate"
    assert base.with_values({written: 0.02}) == base.with_values(read_changes([f"{written} = 0.02"])) == wanted
    assert base.value(written) == base.optim.learning_rate
    assert SetControl(written, 0.02).checked() == SetControl("learning_rate", 0.02)
    assert base.check_change(written, "0.02") == ("learning_rate", 0.02)
    line = written.strip()
    assert check_schedule([f"5: {line} = 0.02"]).changes[0].name == "learning_rate"
    assert check_schedule([f"5 .. 9: {line} = 0.02 -> 0.01"]).ramps[0].name == "learning_rate"
    (rule,) = check_rules([f"when T1 is active: {line} *= 0.5, {line} = 0.02"])
    assert [action.name for action in rule.actions] == ["learning_rate"] * 2
    assert list(check_limits([f"{line}: 1e-5 .. 0.01, change x2"])) == ["learning_rate"]


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_every_control_is_found_under_its_title_and_none_under_two(kind: str) -> None:
    controls = all_controls(kind)
    for control in controls:
        assert normal_name(control.name) == control.name
        for written in (control.name, control.label, control.label.partition(" (")[0], control.name.replace("_", " ")):
            assert find_control(written, kind).name == control.name
            assert find_control(f"{control.section}.{control.name}".upper(), kind) == control


def test_keys_of_a_document_may_be_written_so_too() -> None:
    text = "Model: {Kind: transformer, Width: 32}\noptim:\n  learning rate: 0.02\n  Batch size: 3\nOrder seed: 4\n"
    config = RunConfig.from_yaml(text)
    assert (config.kind, config.value("width"), config.optim.learning_rate) == ("transformer", 32, 0.02)
    assert (config.optim.batch_size, config.order_seed) == (3, 4)
    for twice in (
        "optim: {learning rate: 1, learning_rate: 2}",
        "{Optim: {steps: 5}, optim: {}}",
        "seed: 1\nSeed: 2",
        "model: {}\nMODEL: {}",
    ):
        with pytest.raises(ConfigError, match="is given twice: leave one out"):
            RunConfig.from_yaml(twice)


def test_settings_of_samples_and_sizes_of_models_too() -> None:
    assert Sample("a", "b", {"Top k": 3, "sample-seed": 4}).checked().settings == {"top_k": 3, "sample_seed": 4}
    assert Sample("a", "b", {"Sampled clips": 2}).checked().settings == {"sampled_clips": 2}
    assert Grow({"FFN width": 64, "model.width": 32}).checked().changes == {"ffn_width": 64, "width": 32}


def test_one_value_under_two_names_is_refused_everywhere() -> None:
    both = {"learning_rate": 0.1, "optim.Learning rate": 0.2}
    for given in (
        lambda: default_run().with_values(both),
        lambda: default_run().with_values({"kind": "pam", "model.kind": "transformer"}),
        lambda: set_commands([f"{name}={value}" for name, value in both.items()]),
        lambda: Grow({"width": 32, "Width": 64}).checked(),
        lambda: Sample("a", "b", {"Top k": 3, "top-k": 4}).checked(),
    ):
        with pytest.raises(ConfigError, match="is given twice"):
            given()


@pytest.mark.parametrize("operator", ["-", "+", "/", "--", " -", "- ", "*-", ":", "<"])
def test_an_operator_that_is_not_read_is_refused_and_never_an_assignment(operator: str) -> None:
    """`learning_rate -= 0.001` would otherwise set the rate to 0.001."""
    name = f"learning_rate {operator}"
    for given in (
        lambda: find_control(name),
        lambda: SetControl(name, 0.001).checked(),
        lambda: default_run().with_values({name: 0.001}),
        lambda: RunConfig.from_dict({"optim": {name: 0.001}}),
        lambda: set_commands([f"{name}=0.001"]),
        lambda: check_schedule([f"5: {name}= 0.001"]),
        lambda: check_schedule([f"5 .. 9: {name}= 0.002 -> 0.001"]),
    ):
        with pytest.raises(ConfigError, match=r"refused|unknown (name|key)"):
            given()
    if operator.strip() != "+":
        with pytest.raises(ConfigError, match="refused"):
            check_rules([f"when T1 is active: {name}= 0.001"])


def test_a_hyphen_counts_between_letters_only() -> None:
    for written in ("-learning_rate", "learning_rate-", "learning--rate", "learning - rate", "learning_-rate"):
        with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
            find_control(written)
    with pytest.raises(ConfigError, match=r"-= is not read; .* \+= -0\.001"):
        check_rules(["when T1 is active: learning_rate -= 0.001"])


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("learning rat", "did you mean 'learning_rate'"),
        ("Lerning Rate", "did you mean 'learning_rate'"),
        ("optim.lerning rate", "did you mean 'optim.learning_rate'"),
        ("model.learning rate", "unknown name"),
        ("flow path", "it belongs to video_flow and ltx_video"),
        ("", "unknown name ''"),
        (" ", "unknown name ' '"),
        (5, "it must be the name of a control"),
        ("x" * 100_000, "unknown name 'xxx"),
        ("learning rate " * 10_000, "unknown name"),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint_and_shortly(written: Any, hint: str) -> None:
    with bounded(1.0):
        for refuse in (find_control, lambda name: default_run().check_change(name, 1)):
            with pytest.raises(ConfigError, match=hint) as refused:
                refuse(written)
            assert len(str(refused.value)) < 300


def test_a_hint_is_short_whatever_the_names_are() -> None:
    with bounded(1.0):
        assert len(nearest_hint("a" * 50_000, ["a" * 200, "a" * 50_000])) < 150


def test_changes_are_read_in_one_way() -> None:
    assert read_changes(["a=1", " Learning rate = 0.5 ", "", "text= b=c "]) == {
        "a": "1",
        "learning_rate": "0.5",
        "text": "b=c",
    }
    for items, words in {
        ("learning_rate",): "'learning_rate' is refused: write it as key=value",
        ("=1",): "write it as key=value",
        ("a=1", "A = 2"): "'a' is given twice: '1' and '2'",
        ("x" * 9_000,): "write it as key=value",
    }.items():
        with pytest.raises(ConfigError, match=words) as refused:
            read_changes(items)
        assert len(str(refused.value)) < 300


def test_every_refusal_is_short_and_can_be_printed() -> None:
    error = ConfigError("a" * 50_000 + "\ud800" + "; take less")
    assert len(str(error)) == 1_000
    assert str(error).startswith("aaa")
    assert str(error).endswith("\\ud800; take less")
