"""Widgets made from declared controls, in two kinds: fields of a form, which take exact values, and knobs, which turn.

Range, unit, choices, scale and help come from the declaration alone. A knob of a logarithmic control slides over a
1–1.5–2–3–5–7 grid of its range, with 0 first where 0 is allowed, and with the values that the run has had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from qcore.config import Control, Section
from qcore.viz import value_words

_GRID = (1, 1.5, 2, 3, 5, 7)
_WEIGHT_FLOOR = 1e-4
_SLIDER_INTS = 256
_BUTTON_LETTERS = 24
SECTION_TITLES = {
    "model": "Model",
    "data": "Data",
    "flow": "Flow",
    "objective": "Objective",
    "optim": "Optimisation",
    "probes": "Probes and checkpoints",
    "sampling": "Sampling",
}


def tooltip(control: Control) -> str:
    """Help and accepted values of a control."""
    return f"{control.help}  \n*{control.range_text[0].upper()}{control.range_text[1:]}.*"


def field(control: Control, value: Any, key: str, *, disabled: bool = False) -> Any:
    """A form field that starts at `value`, and for the session holds what was put in; returns what it holds."""
    shared: dict[str, Any] = {"key": key, "help": tooltip(control), "disabled": disabled, "persist_state": "session"}
    match control.kind:
        case "bool":
            return st.toggle(control.label, value, **shared)
        case "choice":
            return st.selectbox(control.label, control.choices, control.choices.index(value), **shared)
        case "text":
            return st.text_input(control.label, value, **shared)
        case "texts":
            return _lines(st.text_area(control.label, "\n".join(value), height=90, **shared))
        case _:
            return st.number_input(control.label, value=value, **_number(control), **shared)


def field_value(control: Control, value: Any, key: str) -> Any:
    """What the form field of that key holds, drawn or not; `value` where nobody has touched it."""
    found = st.session_state.get(key)
    if found is None:
        return value
    return _lines(found) if control.kind == "texts" else found


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def fields(
    section: type[Section],
    values: Mapping[str, Any],
    prefix: str,
    *,
    skip: tuple[str, ...] = (),
    notes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Form fields of one section in two columns; returns its values by name.

    Args:
        notes: takes a place below each field of text, by name, for what is to be said of it.
    """
    columns = st.columns(2)
    found = {}
    shown = [control for control in section.controls() if control.name not in skip]
    for index, control in enumerate(shown):
        with columns[index * 2 // len(shown)]:
            found[control.name] = field(control, values[control.name], f"{prefix}:{control.name}")
            if notes is not None and control.kind == "text":
                notes[control.name] = st.empty()
    return found


def knob(control: Control, value: Any, others: Iterable[Any], key: str, label: str, **more: Any) -> None:
    """A knob that starts at `value` and is read from `st.session_state[key]`.

    Args:
        others: more values on a log slider.
    """
    shared: dict[str, Any] = {"key": key, "help": tooltip(control), **more}
    low, high = control.low or 0, control.high or 0
    if control.kind == "texts":
        st.text_area(label, widget_value(control, value), height=110, placeholder="one per line", **shared)
    elif control.kind == "choice" and sum(map(len, control.choices)) > _BUTTON_LETTERS:
        st.selectbox(label, control.choices, control.choices.index(value), **shared)
    elif control.kind == "choice":
        st.segmented_control(label, control.choices, default=value, required=True, width="stretch", **shared)
    elif control.kind == "bool":
        st.toggle(label, value, **shared)
    elif control.kind == "float" and control.scale == "log":
        options = log_options(control, [value, *others])
        st.select_slider(label, options, float(value), format_func=value_words, **shared)
    elif control.kind == "float":
        step = 10.0 ** (math.floor(math.log10(high - low)) - 2)
        st.slider(label, float(low), float(high), float(value), step=step, format="%.6g", **shared)
    elif high <= _SLIDER_INTS:
        st.slider(label, int(low), int(high), value, step=1, **shared)
    else:
        st.number_input(label, value=value, **_number(control), **shared)


def widget_value(control: Control, value: Any) -> Any:
    """What the widget of a control holds when the control has this value."""
    return "\n".join(value) if control.kind == "texts" else value


def log_options(control: Control, values: Iterable[float]) -> list[float]:
    """The grid of a logarithmic control between its limits, and `values`, ascending."""
    low = control.low or _WEIGHT_FLOOR
    high = float(control.high or 1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    grid = {float(f"{digit}e{power}") for power in powers for digit in _GRID}
    chosen = {number for number in grid if low <= number <= high} | {low, high} | {float(value) for value in values}
    return sorted(chosen | ({0.0} if control.low == 0 else set()))


def _number(control: Control) -> dict[str, Any]:
    low, high = control.low or 0, control.high or 0
    if control.kind == "int":
        return {"min_value": int(low), "max_value": int(high), "step": 1}
    step = (
        10.0 ** (math.floor(math.log10(high - low)) - 2)
        if control.scale == "linear"
        else 10.0 ** math.floor(math.log10(max(abs(float(control.default)), 1e-6))) / 10
    )
    return {"min_value": float(low), "max_value": float(high), "step": step, "format": "%.6g"}
