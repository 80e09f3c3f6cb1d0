"""Run configurations: YAML round trips, refusals with their remedy, changes by name, hostile documents."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.config import (
    MODEL_KINDS,
    ConfigError,
    Control,
    PhaseLMConfig,
    RunConfig,
    TransformerConfig,
    VideoRunConfig,
    all_controls,
    default_run,
)

LINES = {
    "schedule": ["5: clip_norm = 0.5", "36%: learning_rate = 0.001", "  120 : lr_policy = manual  ", ""],
    "rules": ["when T1 is active: clip_norm = 0.5", "when train/loss > 9 for 3 steps: learning_rate *= 0.5, pause", ""],
    "limits": ["learning_rate: 1e-5 .. 0.1, change x2, every 50 steps", ""],
}


def values_of(control: Control) -> st.SearchStrategy[Any]:
    """Any valid value of a control."""
    match control.kind:
        case "bool":
            return st.booleans()
        case "choice":
            return st.sampled_from(control.choices)
        case "text" if control.name == "encoding":
            return st.sampled_from(("", "cp1252", "Shift_JIS", "utf-16-le"))
        case "text":
            return st.text(max_size=20).filter(lambda text: "\0" not in text)  # refused everywhere
        case "texts" if control.name in LINES:
            return st.lists(st.sampled_from(LINES[control.name]), max_size=3)
        case "texts":
            return st.lists(st.text(max_size=20), max_size=3)
        case "int":
            return st.integers(math.ceil(control.low or 0), math.floor(control.high or 0))
        case _:
            return st.floats(control.low, control.high)


# These depend on one another; `test_values_that_do_not_fit_together` and the shapes drawn below cover them.
_TOGETHER = {"kind", "width", "heads", "phases", "source", "patch", "canvas", "latents", "latent_patch", "digit_size"}
_TOGETHER |= {"speed_low", "speed_high", "colour", "variant", "channels", "normalisation", "lora_targets"}
_TOGETHER |= {"concepts", "experts", "experts_active", "language_phases", "languages", "concept_weight"}
_TOGETHER |= {"balance_weight", "complex_state", "planes", "values", "read_out", "evaluation", "gate_temperature"}
_TOGETHER |= {"gate", "precision", "compile", "validation_path", "step_size", "hebbian"}
_TOGETHER |= {"attention", "interference_attention", "concepts", "experts", "experts_active", "languages"}
_TOGETHER |= {"language_phases", "concept_weight", "balance_weight"}


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    kind = draw(st.sampled_from(sorted(MODEL_KINDS)))
    heads = draw(st.integers(1, 8))
    changes: dict[str, Any] = {"kind": kind}
    if kind == "flux_lm":
        changes |= {"width": draw(st.integers(8, 256))}
    elif kind != "ltx_video":
        changes |= {"heads": heads, "width": heads * 2 * draw(st.integers(4, 32))}
    controls = [control for control in all_controls(kind) if not control.models or kind in control.models]
    free = [control for control in controls if control.name not in _TOGETHER]
    for control in draw(st.lists(st.sampled_from(free), unique_by=lambda control: control.name, max_size=12)):
        changes[control.name] = draw(values_of(control))
    return default_run().with_values(changes)


@given(configs())
@settings(max_examples=60, deadline=None)
def test_yaml_round_trip(config: RunConfig) -> None:
    assert RunConfig.from_yaml(config.to_yaml()) == config
    assert RunConfig.from_dict(config.model_dump()) == config


@pytest.mark.parametrize(
    "mark", ["\x85", "\u2028", "\ufeff", "\x01", "\x1b", "\r", "\n", "\t", " ", "😀", "ä", "#", ": ", "'", "null"]
)
def test_any_character_survives_yaml(mark: str) -> None:
    for text in (mark, f"a{mark}", f"{mark}a", f"a{mark}b"):
        config = default_run().with_values({"path": text, "prompts": [text, ""]})
        assert RunConfig.from_yaml(config.to_yaml()) == config


@given(configs(), configs())
@settings(max_examples=25, deadline=None)
def test_changes_by_name_reach_any_configuration(start: RunConfig, goal: RunConfig) -> None:
    changes = {control.name: goal.value(control.name) for control in all_controls(goal.model.kind)}
    assert start.with_values(changes) == goal
    dotted = {f"{c.section}.{c.name}": goal.value(c.name) for c in all_controls(goal.model.kind)}
    assert start.with_values(dotted) == goal


def test_defaults_and_empty_documents_agree() -> None:
    assert RunConfig.from_yaml("") == RunConfig.from_yaml("{}") == default_run() == RunConfig.from_yaml("# nothing\n")
    assert isinstance(default_run().model, PhaseLMConfig)


def test_a_section_may_be_given_in_part() -> None:
    config = RunConfig.from_yaml("model: {kind: transformer, width: 32}\noptim: {steps: 7}\nseed: 3\n")
    assert isinstance(config.model, TransformerConfig)
    assert (config.model.width, config.optim.steps, config.seed) == (32, 7, 3)
    assert config.optim.batch_size == default_run().optim.batch_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lerning_rate: 1}", r"unknown key optim\.lerning_rate; did you mean 'learning_rate'\?"),
        ("optimm: {steps: 1}", r"unknown section 'optimm'; did you mean 'optim'\?"),
        ("model: {kind: transformer, phases: 4}", r"unknown key model\.phases"),
        ("model: {kind: transfomer}", r"kind = 'transfomer' is refused.*did you mean 'transformer'\?"),
        ("optim: {steps: 0}", r"steps = 0 is refused: it must be a whole number from 1 to 10000000"),
        ("optim: {steps: true}", r"steps = True is refused"),
        ("optim: {learning_rate: .nan}", r"learning_rate = nan is refused"),
        ("optim: {learning_rate: .inf}", r"learning_rate = inf is refused"),
        ("optim: {learning_rate: null}", r"learning_rate = None is refused"),
        ("seed: -1", r"seed = -1 is refused"),
        ("seed: true", r"seed = True is refused"),
        ("seed: 99999999999999999999999999", r"seed = 9+ is refused"),
        ("optim: 3", r"section 'optim' is a mapping"),
        ("optim:", r"section 'optim' is a mapping"),
        ("model: 3", r"section 'model' is a mapping"),
        ("- 1\n- 2", r"a run configuration is a mapping of sections, not list"),
        ("just words", r"a run configuration is a mapping of sections, not str"),
        ("probes: {prompts: [1]}", r"prompts = \[1\] is refused: it must be a list of texts"),
        ("a: [", r"this is not YAML"),
        ("1: {}", r"unknown section 1"),
        ("optim: {1: 2}", r"unknown key optim\.1"),
        ("model: {kind: [phase_lm]}", r"kind = \['phase_lm'\] is refused"),
        ("? [a, b]\n: 1", r"unknown section|this is not YAML"),
        ("seed: " + "9" * 5000, r"seed|this is not YAML"),
        ("seed: 2001-99-99", r"seed|this is not YAML"),
        ("a: &a [*a]", r"unknown section 'a'|this is not YAML"),
        ("\x00", r"this is not YAML"),
        ("[" * 5000, r"this is not YAML"),
    ],
    ids=lambda value: value[:24],
)
def test_a_mistake_is_answered_with_the_value_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_yaml(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 97}, r"width = 97 is refused: it must be a multiple of heads = 4"),
        ({"heads": 8, "phases": 4}, r"phases = 4 is refused: .* without any; take 8"),
        ({"kind": "transformer", "width": 12, "heads": 4}, r"even width a head; take 16"),
        ({"attention": "phase_bias", "interference_attention": False}, r"'phase_bias' is refused: .* set it to True"),
        ({"concepts": 1}, r"concepts = 1 is refused: .* take 0 for none, or at least 2"),
        ({"experts": 1}, r"experts = 1 is refused: .* take 0 for none, or at least 2"),
        ({"experts": 2, "experts_active": 3}, r"experts_active = 3 is refused: there are 2 experts"),
        ({"language_phases": True, "languages": 1}, r"languages = 1 is refused: .* take at least 2"),
        ({"concept_weight": 0.5}, r"concept_weight = 0.5 is refused: the model has no concepts; set concepts to at"),
        ({"balance_weight": 0.5}, r"balance_weight = 0.5 is refused: the model has no experts; set experts to at"),
        ({"source": "text"}, r"source = 'text' needs path"),
        ({"source": "huggingface"}, r"source = 'huggingface' needs hub_name"),
        ({"kind": "video_flow", "width": 97}, r"width = 97 is refused: it must be a multiple of heads = 4"),
        ({"kind": "video_flow", "source": "folder"}, r"source = 'folder' needs path"),
        ({"kind": "video_flow", "digit_size": 9}, r"digit_size = 9 is refused: the canvas has 8 px"),
        ({"kind": "video_flow", "speed_low": 2}, r"speed_low = 2.* is refused: speed_high is 0.9"),
        ({"kind": "video_flow", "colour": "rgb"}, r"colour = 'rgb' is refused: the digits are grey"),
        ({"kind": "video_flow", "patch": 3}, r"patch = 3 is refused: it does not divide the 8 positions"),
        ({"kind": "video_flow", "latents": "autoencoder", "latent_patch": 4}, r"patch = 4 .* divide the 2 positions"),
        ({"kind": "video_flow", "latents": "space_to_channel", "latent_patch": 3}, r"latent_patch = 3 is refused"),
        ({"kind": "video_flow", "phases": 4}, r"'phases' is no value of a video_flow: it belongs to phase_lm"),
        ({"flow_path": "rab"}, r"'flow_path' is no value of a phase_lm: it belongs to video_flow"),
    ],
)
def test_values_that_do_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        default_run().with_values(changes)


def test_changing_the_family_keeps_what_both_share() -> None:
    start = default_run().with_values({"width": 64, "layers": 5, "phases": 8})
    other = start.with_values({"kind": "transformer"})
    assert isinstance(other.model, TransformerConfig)
    assert (other.model.width, other.model.layers) == (64, 5)
    assert isinstance(other.with_values({"model.kind": "phase_lm"}).model, PhaseLMConfig)


def test_changing_between_text_and_video_starts_from_the_new_family() -> None:
    start = default_run().with_values({"width": 48, "steps": 7, "seed": 5})
    video = start.with_values({"kind": "video_flow"})
    assert video == default_run("video_flow").with_values({"seed": 5})
    assert video.with_values({"kind": "phase_lm"}) == default_run().with_values({"seed": 5})


def test_a_partial_section_takes_the_defaults_of_its_family() -> None:
    config = RunConfig.from_yaml("model: {kind: video_flow}\noptim: {steps: 7}\nflow: {flow_path: rab}\n")
    assert isinstance(config, VideoRunConfig)
    assert (config.optim.steps, config.optim.batch_size) == (7, default_run("video_flow").optim.batch_size)
    assert config.flow.flow_path == "rab"


def test_changes_are_checked_and_the_original_stays() -> None:
    config = default_run()
    changed = config.with_values(
        {"optim.learning_rate": "1e-4", "prompts": "one\ntwo", "interference_attention": "false"}
    )
    assert changed.optim.learning_rate == 1e-4
    assert changed.probes.prompts == ["one", "two"]
    assert changed.model_dump()["model"]["interference_attention"] is False
    assert config == default_run()
    with pytest.raises(ConfigError, match="'phases' is no value of a transformer: it belongs to phase_lm"):
        config.with_values({"kind": "transformer", "phases": 4})
    with pytest.raises(ConfigError, match="unknown name 'learning_rat'; did you mean 'learning_rate'"):
        config.with_values({"learning_rat": 1})


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(Exception, match="frozen"):
        default_run().optim.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "seed: !!python/object/apply:os.system ['touch {marker}']",
        "optim: !!python/object/new:subprocess.Popen [['touch', '{marker}']]",
        "data: {{path: !!python/object/apply:builtins.open ['{marker}', 'w']}}",
        "seed: !!python/name:os.system",
        "seed: !!python/module:os",
    ],
)
def test_a_document_that_asks_for_code_is_refused_and_runs_nothing(text: str, tmp_path: Any) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(ConfigError, match="this is not YAML"):
        RunConfig.from_yaml(text.format(marker=marker))
    assert not marker.exists()


@pytest.mark.parametrize(
    "place", ["probes: {prompts: %s}", "model: {kind: %s}", "optim: {steps: %s}", "data: {path: %s}"]
)
def test_nested_aliases_are_never_expanded(place: str) -> None:
    """Eight levels of ten aliases stand for a hundred million items; a refusal must not write them out."""
    levels = ["&a [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"&{name} [{', '.join([f'*{below}'] * 10)}]" for below, name in zip("abcdefg", "bcdefgh", strict=True)]
    with pytest.raises(ConfigError, match="is refused") as refused:
        RunConfig.from_yaml(place % f"[{', '.join(levels)}]")
    assert len(str(refused.value)) < 2000


def test_live_values_are_the_starting_values_of_live_controls() -> None:
    config = default_run().with_values({"learning_rate": 0.01, "diversity_weight": 0.5})
    values = config.live_values()
    assert values["learning_rate"] == 0.01
    assert values["diversity_weight"] == 0.5
    assert "width" not in values
    assert "seed" not in values
    for control in all_controls():
        assert (control.name in values) == control.live
