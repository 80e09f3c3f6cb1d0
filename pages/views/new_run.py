"""Start a run: a preset or an earlier run, changed in a form that the declarations make, or a whole one as YAML.

What a person has typed stays for the session, whatever is shown in between. Start reads the fields themselves: what was
typed last may not have been drawn yet, and what is drawn is then of another moment than what would start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.session import messages, phrases, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import consistent_reads
from pages.widgets import control_widgets, queue_words
from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.config import (
    FAMILIES,
    MODEL_KINDS,
    PRESETS,
    SEED,
    ConfigError,
    GuideLoad,
    RunConfig,
    decode_text,
    read_config,
    section_types,
)
from qcore.lab import Lab, LabError, RunInfo
from qcore.lab.forecast import memory_forecast
from qcore.lab.inputs import input_problems, place
from qcore.viz import value_words

WAYS = ("Form", "YAML")
_INSIST = "Start anyway"
_RUN, _FROM, _SHOWN = "run:", "new:from", "new:shown"
_SOURCES = {
    "documents": ("stories", "bilingual"),
    "path": ("text", "folder"),
    "validation_path": ("text",),
    "encoding": ("text", "huggingface"),
    **dict.fromkeys(("hub_name", "hub_config", "hub_split", "data_files", "text_column"), ("huggingface",)),
    **dict.fromkeys(("digit_size", "speed_low", "speed_high"), ("digits",)),
    **dict.fromkeys(("colour", "frame_stride", "clip_stride"), ("folder",)),
    **dict.fromkeys(("channels", "latent_height", "latent_width"), ("random",)),
    "normalisation": ("folder",),
}
"""Settings of the data that only some sources read; the others are not asked for."""


@dataclass(frozen=True)
class Start:
    """What a form starts from.

    Attributes:
        key: of its fields, another one for another configuration.
        preset: named in the run.
        run, created: which run it was taken from, empty for a preset.
    """

    config: RunConfig
    title: str
    about: str
    key: str
    preset: str
    run: str = ""
    created: float = 0.0


def new_run_button(lab: Lab, info: RunInfo, key: str) -> None:
    """The button that every run has: its configuration and the controls as they stand, in the form of a new run."""
    if "trainer" in info.capabilities:
        st.button(
            "New run from this one",
            icon=":material/content_copy:",
            key=key,
            help="Its configuration with its current controls, in the form of a new run. Nothing starts yet.",
            on_click=_open_form_of,
            args=(lab, info.name),
        )


def _open_form_of(lab: Lab, name: str) -> None:
    try:
        st.session_state[_FROM] = _start_from_run(lab, name)
    except LabError as error:
        messages.note("error", str(error))
        return
    st.session_state["preset"] = f"{_RUN}{name}"
    selection.remember_choice("view", "New run")


def new_run(lab: Lab) -> None:
    """The whole view: preset, values, preview and the start button."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        chosen = st.selectbox(
            "Preset",
            _choices(lab),
            key="preset",
            bind="query-params",
            format_func=lambda one: _title(one),
            help="A named starting point, or an earlier run; every value can be changed below.",
        )
        start = _start_of(lab, chosen)
        st.caption(start.about)
        if not roles.can_operate():
            _show_read_only(start, right)
            return
        way = st.segmented_control("Edit as", WAYS, key="edit_as", default="Form", required=True, bind="query-params")
    with right:
        st.text_input(
            "Name (optional)",
            key="new:name",
            placeholder="made from preset and time",
            max_chars=120,
            persist_state="session",
        )
        spot = st.empty()
        if st.session_state.get(_SHOWN) != (start.key, way):
            with spot.container():  # nothing of what was chosen before stands beside it while it is being counted
                st.button("Start", icon=":material/play_arrow:", width="stretch", key="new:waiting", disabled=True)
                st.caption("Reading what was chosen …")
    notes: dict[str, Any] = {}
    config, error = _form(start, notes) if way == "Form" else _yaml(start)
    problems = input_problems(config) if config else {}
    with spot.container():
        # The button comes first: the forecast below it waits for torch, seconds after a server's start.
        roles.button(
            "Start",
            type="primary",
            icon=":material/play_arrow:",
            width="stretch",
            disabled=config is None or bool(problems),
            on_click=_start,
            args=(lab,),
        )
        for why in [error] if error else problems.values():
            st.error(escape_markdown(why), icon=":material/block:")
        if config and not problems:
            queue_words.warn_of_queue(lab)
            st.caption(_summary(config))
            _memory(start, config)
    st.session_state[_SHOWN] = (start.key, way)
    if config:
        _say_paths(config, problems, notes)
    if config and way == "Form":
        with st.expander("This run as YAML", icon=":material/code:"):
            st.code(config.to_yaml(), language="yaml")


def _show_read_only(start: Start, beside: Any) -> None:
    """What a viewer sees: the configuration, to be read. Fields would answer what is typed by looking at the owner's
    files: whether a path is there, what it holds, and what can be told of it.
    """
    with beside:
        roles.button("Start", type="primary", icon=":material/play_arrow:", width="stretch")
        st.caption(_summary(start.config))
    st.code(start.config.to_yaml(), language="yaml")


# what it starts from


def _choices(lab: Lab) -> list[str]:
    """The presets, and the run that somebody wants another of; the link names it, too."""
    asked = st.query_params.get("preset", "")
    held: Start | None = st.session_state.get(_FROM)
    name = held.run if held else asked.removeprefix(_RUN) if asked.startswith(_RUN) else ""
    known = bool(name) and selection.listed_run(lab, name).state != RunState.UNREADABLE
    if not known and str(st.session_state.get("preset", "")).startswith(_RUN):
        st.session_state["preset"] = next(iter(PRESETS))  # its run is gone
    return [*([f"{_RUN}{name}"] if known else []), *PRESETS]


def _title(choice: str) -> str:
    return f"Run {choice.removeprefix(_RUN)}" if choice.startswith(_RUN) else PRESETS[choice].title


def _start_of(lab: Lab, choice: str) -> Start:
    """A preset; or the run that somebody wants another of, as it stood when they said so. It may train on meanwhile:
    what it becomes changes neither the fields nor what starts.
    """
    if not choice.startswith(_RUN):
        found = PRESETS[choice]
        return Start(found.config, found.title, found.about, f"new:{choice}", choice)
    name = choice.removeprefix(_RUN)
    held: Start | None = st.session_state.get(_FROM)
    if held is None or held.run != name or held.created != lab.info(name).created:
        held = st.session_state[_FROM] = _start_from_run(lab, name)  # by a link
    return held


def _start_from_run(lab: Lab, name: str) -> Start:
    """The configuration of a run with its controls of now."""
    with consistent_reads(lab):
        config, states, info = lab.config(name), lab.controls(name), lab.info(name)
    moved = {key: state.value for key, state in states.items() if state.value != config.value(key)}
    try:
        config = config.with_values(moved)
    except ConfigError:  # a run whose controls were moved to where no run may start
        moved = {}
    about = f"As **{escape_markdown(phrases.short_name(name))}** was started" + (
        f" (preset {escape_markdown(info.preset)})" if info.preset else ""
    )
    if moved:
        changed = ", ".join(find_words(states[key].control.label, value) for key, value in moved.items())
        about += f", with its controls as of step {info.step:,}: {escape_markdown(changed)}"
    digest = hashlib.sha256(config.to_yaml().encode()).hexdigest()[:8]
    key = f"new:{name}:{digest}"
    return Start(config, _title(f"{_RUN}{name}"), f"{about}.", key, info.preset or config.kind, name, info.created)


def find_words(label: str, value: Any) -> str:
    """A control and its value, short."""
    text = " · ".join(map(str, value)) if isinstance(value, list) else value_words(value)
    return f"{label} {text if len(text) <= 60 else text[:59] + '…'}"


# the form


def _family(start: Start) -> str:
    """The model family that the form stands at."""
    return str(st.session_state.get(f"{start.key}:kind") or start.config.kind)


def _base_config(start: Start, kind: str) -> RunConfig:
    return start.config if kind == start.config.kind else start.config.with_values({"kind": kind})


def _form(start: Start, notes: dict[str, Any]) -> tuple[RunConfig | None, str]:
    """Fields of every section, starting at the preset's values; the configuration, or what is wrong with it.

    Args:
        notes: a place below each field that is a path, by name.
    """
    kind = st.segmented_control(
        "Model family",
        list(MODEL_KINDS),
        key=f"{start.key}:kind",
        default=start.config.kind,
        required=True,
        persist_state="session",
    )
    base = _base_config(start, kind)
    for section, cls in section_types(kind).items():
        with st.expander(
            control_widgets.SECTION_TITLES[section],
            expanded=section == "data" and bool(st.session_state.get("new:troubled")),
        ):
            part = getattr(base, section).model_dump()
            control_widgets.fields(
                cls, part, f"{start.key}:{kind}", skip=_unused_fields(start, kind, part), notes=notes
            )
            if section == "optim":
                control_widgets.field(SEED, base.seed, f"{start.key}:{kind}:seed")
    return _config_or_error(lambda: _form_config(start))


def _unused_fields(start: Start, kind: str, part: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that do not matter: of data that come from elsewhere."""
    if "source" not in part:
        return ("kind",)
    source = st.session_state.get(f"{start.key}:{kind}:source", part["source"])
    return ("kind", *(name for name, sources in _SOURCES.items() if name in part and source not in sources))


def _form_config(start: Start) -> RunConfig:
    """The configuration that the fields say, by what the session holds of them.

    Raises:
        ConfigError: when it cannot be.
    """
    kind = _family(start)
    base = _base_config(start, kind)
    values: dict[str, Any] = {"seed": control_widgets.field_value(SEED, base.seed, f"{start.key}:{kind}:seed")}
    for section, cls in section_types(kind).items():
        part = getattr(base, section).model_dump()
        skip = _unused_fields(start, kind, part)
        for control in cls.controls():
            if control.name not in skip and control.name != "kind":
                values[control.name] = control_widgets.field_value(
                    control, part[control.name], f"{start.key}:{kind}:{control.name}"
                )
    return base.with_values(values)


def _say_paths(config: RunConfig, problems: Mapping[str, str], notes: Mapping[str, Any]) -> None:
    """Next to each path: what is wrong with it, or where it leads when it was not written in full."""
    st.session_state["new:troubled"] = any(name in notes for name in problems)
    for name, spot in notes.items():
        value = str(getattr(config.data, name, ""))
        if name in problems:
            spot.error(escape_markdown(problems[name]), icon=":material/block:")
        elif value and str(place(value)) != value and getattr(config.data, "source", "") != "huggingface":
            spot.caption(f"This is {escape_markdown(str(place(value)))}.")


# the text


def _yaml(start: Start) -> tuple[RunConfig | None, str]:
    """A configuration as text, pasted or from a file; starts at the preset's."""
    key = f"{start.key}:yaml"
    st.session_state.setdefault(key, start.config.to_yaml())
    uploaded = st.file_uploader(
        "From a file", type=["yaml", "yml"], key=f"{key}:file", on_change=_take_file, args=(key,)
    )
    del uploaded
    st.text_area(
        "Configuration",
        key=key,
        height=420,
        help="Keys that are left out take their defaults. The published collapse guide's own file is read, too.",
        persist_state="session",
    )
    loaded: list[GuideLoad] = []
    found = _config_or_error(lambda: _yaml_config(start, loaded))
    if loaded:
        _guide_notes(loaded[0], f"{key}:adapter")
    return found


def _yaml_config(start: Start, loaded: list[GuideLoad] | None = None) -> RunConfig:
    """The configuration that the text says.

    Raises:
        ConfigError: when it cannot be.
    """
    key = f"{start.key}:yaml"
    text = str(st.session_state.get(key, start.config.to_yaml()))
    config, guide = read_config(text, adapter=bool(st.session_state.get(f"{key}:adapter")))
    if loaded is not None and guide:
        loaded.append(guide)
    return config


def _guide_notes(loaded: GuideLoad, key: str) -> None:
    """What became of every key of the guide's file."""
    st.toggle(
        "Train LTX-Video with LoRA",
        key=key,
        persist_state="session",
        help="Off: the guide's flow on the small backbone and the built-in digits. On: the adapter, with the published "
        "weights of the file's variant.",
    )
    lines = [f"- `{mapped.key}` → `{mapped.ours}` = {escape_markdown(str(mapped.value))}" for mapped in loaded.mapped]
    lines += [f"- `{note.key}`: {escape_markdown(note.why)}" for note in (*loaded.adjusted, *loaded.without_effect)]
    with st.expander(f"The guide's file: how its {len(lines)} keys were read", icon=":material/menu_book:"):
        st.markdown("\n".join(lines))


def _take_file(key: str) -> None:
    file = st.session_state[f"{key}:file"]
    if file is not None:
        try:
            st.session_state[key] = decode_text(file.getvalue(), file.name)
        except ConfigError as error:
            messages.note("error", str(error))


def _config_or_error(make: Any) -> tuple[RunConfig | None, str]:
    try:
        return make(), ""
    except ConfigError as error:
        return None, str(error)


# what will be, and the start of it


def _memory(start: Start, config: RunConfig) -> None:
    """Say what the run will need; when that is more than there is, it starts only if somebody insists."""
    spot = st.empty()
    spot.caption("Counting parameters and memory …")
    try:
        found = memory_forecast(config)
    except ValueError as error:
        spot.error(escape_markdown(str(error)), icon=":material/block:")
        return
    if found is None:
        spot.empty()
        return
    words = escape_markdown(f"{found.parameters_text}. {found.text}")
    if found.published:
        published = number_words(found.published / 1e6, places=2)
        words += f" The authors' model of these sizes had {published} M, over 256 characters."
    if found.verdict == "fits":
        spot.caption(words, help="Estimated before the start, without running the model.")
    elif found.verdict == "tight":
        spot.warning(words, icon=":material/memory:")
    else:
        spot.error(words, icon=":material/block:")
        st.checkbox(_INSIST, key=_insist_key(start), help="The system will most likely kill it.")


def _insist_key(start: Start) -> str:
    """Key of the word that a configuration may start although it will not fit: it holds for no other one."""
    return f"{start.key}:insists"


def _start(lab: Lab) -> None:
    """Start what the fields say now."""
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    choice = st.session_state.get("preset") or next(iter(PRESETS))
    name = str(st.session_state.get("new:name") or "").strip()
    try:
        start = _start_of(lab, choice)
        config = _form_config(start) if (st.session_state.get("edit_as") or "Form") == "Form" else _yaml_config(start)
        found = memory_forecast(config)
        if found is not None and found.verdict == "too large" and not st.session_state.get(_insist_key(start)):
            raise LabError(f"{found.text} Or tick “{_INSIST}”.")
        preset = (
            start.preset if config == start.config or start.preset.endswith("-edited") else f"{start.preset}-edited"
        )
        before = queue_words.runs_ahead(lab)
        started = lab.start(config, name=name or None, preset=preset)
        queue_words.pause_runs_ahead(lab, before)  # after the start: nothing is paused for a run that was refused
    except (LabError, ValueError) as error:
        messages.note("error", str(error))
        return
    selection.remember_choice("run", started)
    selection.remember_choice("view", "Watch")
    st.session_state["new:name"] = ""


def _summary(config: RunConfig) -> str:
    """The run in a sentence."""
    model: Any = config.model
    data: Any = config.data
    optim = config.optim
    rows = optim.batch_size * optim.accumulation
    size = f"{model.kind}, {model.layers} layers of width {model.width}"
    if "clips" in FAMILIES[config.kind].capabilities:
        frame = f"{data.canvas} × {data.canvas} px" if hasattr(data, "canvas") else "latents"
        return (
            f"{size}, on {data.source}, {data.frames} frames of {frame}: "
            f"{optim.steps:,} steps of {rows:,} clips, {config.value('flow_path')} path, "
            f"noise correlation {value_words(config.value('noise_correlation'))}."
        )
    return f"{size}, on {data.source} by {data.tokenizer}: {optim.steps:,} steps of {rows * model.context:,} tokens."
