"""Start a run: a preset changed in a form that the declarations make, or a whole configuration as YAML."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages import _forms, _parts, _roles
from qcore.config import (
    MODEL_KINDS,
    PRESETS,
    SEED,
    VIDEO_KINDS,
    ConfigError,
    GuideLoad,
    RunConfig,
    decoded,
    read_config,
    section_types,
)
from qcore.lab import Lab, LabError
from qcore.lab.forecast import memory_forecast

WAYS = ("Form", "YAML")
_INSIST, _INSISTS = "Start all the same", "new:insists"


def new_run(lab: Lab) -> None:
    """The whole view: preset, values, preview and the start button."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        preset = st.selectbox(
            "Preset",
            list(PRESETS),
            key="preset",
            bind="query-params",
            format_func=lambda name: PRESETS[name].title,
            help="A named starting point; every value can be changed below.",
        )
        st.caption(PRESETS[preset].about)
        way = st.segmented_control("Edit as", WAYS, key="edit_as", default="Form", required=True, bind="query-params")
    with right:
        name = st.text_input("Name (optional)", key="new:name", placeholder="made from preset and time", max_chars=120)
        place = st.container()
    config, error = _form(preset) if way == "Form" else _yaml(preset)
    with place:
        # The button comes first: the forecast below it waits for torch, seconds after a server's start.
        _roles.button(
            "Start",
            type="primary",
            icon=":material/play_arrow:",
            width="stretch",
            disabled=config is None,
            on_click=_start,
            args=(lab, config, name, preset if config and config == PRESETS[preset].config else f"{preset}-edited"),
        )
        if error:
            st.error(_parts.plain(error), icon=":material/block:")
        elif config:
            st.caption(_summary(config))
            _memory(config)
    if config and way == "Form":
        with st.expander("This run as YAML", icon=":material/code:"):
            st.code(config.to_yaml(), language="yaml")


def _memory(config: RunConfig) -> None:
    """Say what the run will need; when that is more than there is, it starts only if somebody insists."""
    try:
        found = memory_forecast(config)
    except ValueError as error:
        st.error(_parts.plain(str(error)), icon=":material/block:")
        return
    if found is None:
        return
    words = f"{found.parameters:,} parameters. {found.text}"
    if found.published:
        words += f" The published model of these sizes had {found.published / 1e6:.2f} M, with 256 characters."
    if found.verdict == "fits":
        st.caption(_parts.plain(words), help="Counted before the start, without computing anything.")
    elif found.verdict == "tight":
        st.warning(_parts.plain(words), icon=":material/memory:")
    else:
        st.error(_parts.plain(words), icon=":material/block:")
        st.checkbox(_INSIST, key=_INSISTS, help="It will most likely be ended by the system.")


def _start(lab: Lab, config: RunConfig, name: str, preset: str) -> None:
    try:
        found = memory_forecast(config)
        if found is not None and found.verdict == "too large" and not st.session_state.get(_INSISTS):
            raise LabError(f"{found.text} Or tick “{_INSIST}”.")
        started = lab.start(config, name=name.strip() or None, preset=preset)
    except (LabError, ValueError) as error:
        _parts.note("error", str(error))
        return
    _parts.switch("run", started)
    _parts.switch("view", "Watch")
    st.session_state["new:name"] = ""


def _form(preset: str) -> tuple[RunConfig | None, str]:
    """Fields of every section, starting at the preset's values; the configuration, or what is wrong with it."""
    base = PRESETS[preset].config
    prefix = f"new:{preset}"
    kind = st.segmented_control(
        "Model family", list(MODEL_KINDS), key=f"{prefix}:kind", default=base.kind, required=True
    )
    base = base if kind == base.kind else base.with_values({"kind": kind})
    values: dict[str, Any] = {}
    for section, cls in section_types(kind).items():
        with st.expander(_forms.SECTION_TITLES[section]):
            part = getattr(base, section).model_dump()
            values |= _forms.fields(cls, part, f"{prefix}:{kind}", skip=("kind",))
            if section == "optim":
                values["seed"] = _forms.field(SEED, base.seed, f"{prefix}:seed")
    return _checked(lambda: base.with_values(values))


def _yaml(preset: str) -> tuple[RunConfig | None, str]:
    """A configuration as text, pasted or from a file; starts at the preset's."""
    key = f"new:{preset}:yaml"
    st.session_state.setdefault(key, PRESETS[preset].config.to_yaml())
    uploaded = st.file_uploader(
        "From a file", type=["yaml", "yml"], key=f"{key}:file", on_change=_take_file, args=(key,)
    )
    del uploaded
    text = st.text_area(
        "Configuration",
        key=key,
        height=420,
        help="Keys that are left out take their defaults. The published collapse guide's own file is read, too.",
    )
    loaded: list[GuideLoad] = []

    def read() -> RunConfig:
        config, guide = read_config(text, adapter=bool(st.session_state.get(f"{key}:adapter")))
        loaded.extend([guide] if guide else [])
        return config

    found = _checked(read)
    if loaded:
        _guide_notes(loaded[0], f"{key}:adapter")
    return found


def _guide_notes(loaded: GuideLoad, key: str) -> None:
    """What became of every key of the guide's file."""
    st.toggle(
        "Train LTX-Video with LoRA",
        key=key,
        help="Off: the guide's flow on the small backbone and the built-in digits. On: the adapter, with the published "
        "weights of the file's variant.",
    )
    lines = [f"- `{mapped.key}` → `{mapped.ours}` = {_parts.plain(str(mapped.value))}" for mapped in loaded.mapped]
    lines += [f"- `{note.key}`: {_parts.plain(note.why)}" for note in (*loaded.adjusted, *loaded.without_effect)]
    with st.expander(f"The guide's file: what became of its {len(lines)} keys", icon=":material/menu_book:"):
        st.markdown("\n".join(lines))


def _take_file(key: str) -> None:
    file = st.session_state[f"{key}:file"]
    if file is not None:
        try:
            st.session_state[key] = decoded(file.getvalue(), file.name)
        except ConfigError as error:
            _parts.note("error", str(error))


def _checked(make: Any) -> tuple[RunConfig | None, str]:
    try:
        return make(), ""
    except ConfigError as error:
        return None, str(error)


def _summary(config: RunConfig) -> str:
    """The run in a sentence."""
    model: Any = config.model
    data: Any = config.data
    optim = config.optim
    rows = optim.batch_size * optim.accumulation
    size = f"{model.kind}, {model.layers} layers of width {model.width}"
    if config.kind in VIDEO_KINDS:
        frame = f"{data.canvas} × {data.canvas} px" if hasattr(data, "canvas") else "latents"
        return (
            f"{size}, on {data.source}, {data.frames} frames of {frame}: "
            f"{optim.steps:,} steps of {rows:,} clips, {config.value('flow_path')} path, "
            f"noise correlation {config.value('noise_correlation'):g}."
        )
    return f"{size}, on {data.source} by {data.tokenizer}: {optim.steps:,} steps of {rows * model.context:,} tokens."
