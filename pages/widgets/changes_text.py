"""Changes as a person writes them, one per line: `diversity_weight = 0.3`; and a picker that writes such lines.

Names are taken as pages write them, too: `Learning rate = 0.01`.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session.markdown_escape import escape_markdown
from pages.widgets import control_widgets
from qcore import config
from qcore.config import (
    ConfigError,
    Control,
    all_controls,
    assignment,
    find_control,
    live_controls,
    normal_name,
    shorten,
)
from qcore.viz import value_words

CHANGES_HELP = (
    "One per line: `diversity_weight = 0.3`, or by its title. Live controls, data, `order_seed` (other batches from "
    "the "
    "same weights), or sizes of the model, which then grows and keeps its function. Empty: the fork equals its parent "
    "bit for bit."
)
EXAMPLE = "write name = value, such as diversity_weight = 0.3"
_FIXED = ("seed", "kind", "fault")


def read_changes(text: str, kind: str) -> dict[str, str]:
    """Name → value; the name as it is declared, the value not checked yet. `ConfigError` names a line that is no
    change, or a name that nothing has.
    """
    found: dict[str, str] = {}
    for written, value in config.read_changes(text.splitlines(), EXAMPLE).items():
        name = declared_name(written, kind)
        if name in found:
            raise ConfigError(f"{name!r} is given twice: {shorten(found[name], 40)!r} and {shorten(value, 40)!r}")
        found[name] = value
    return found


def declared_name(name: str, kind: str) -> str:
    """The declared name behind what a person wrote: the name, or the title that pages show.

    Raises:
        ConfigError: as of `find_control`.
    """
    words = _normalize(name)
    for control in all_controls(kind):
        if words in (_normalize(control.name), _normalize(control.label), _normalize(control_title(control))):
            return control.name
    return find_control(name, kind).name


def control_title(control: Control) -> str:
    """The title of a control without its unit."""
    return control.label.removesuffix(f" ({control.unit})") if control.unit else control.label


def _normalize(name: str) -> str:
    return normal_name(name).replace("_", " ")


def changes_box(label: str, key: str, kind: str, values: dict[str, Any], *, live_only: bool = False) -> None:
    """A text of changes, kept for the session, and beside it the picker: a control by its title, a value within its
    range, and a button that writes the line.

    Args:
        values: of the controls now, where the picker starts.
    """
    controls = live_controls(kind).values() if live_only else all_controls(kind)
    offered = {
        control.name: control
        for control in controls
        if control.name not in _FIXED and control.kind != "texts" and (not control.models or kind in control.models)
    }
    usual = "learning_rate" if "learning_rate" in offered else next(iter(offered))
    name = st.selectbox(
        "Control",
        list(offered),
        list(offered).index(usual),
        key=f"{key}:pick",
        format_func=lambda one: f"{control_title(offered[one])} · {one}",
        help="Type part of its title or name.",
        persist_state="session",
    )
    control = offered[name]
    start = values.get(name, control.default)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        control_widgets.field(control, start, f"{key}:value:{kind}:{name}")
    with right:
        st.button(
            "Add",
            icon=":material/add:",
            key=f"{key}:add",
            help="Write this change into the text below.",
            on_click=_write_change,
            args=(key, kind, control, start),
        )
    st.text_area(
        label,
        key=key,
        placeholder="diversity_weight = 0.3",
        height=100,
        help=f"{CHANGES_HELP}" if not live_only else "One per line: `diversity_weight = 0.3`, or by its title.",
        persist_state="session",
    )
    st.caption(f"{control_title(control)}: {control.range_text}; now {escape_markdown(value_words(start))}.")


def _write_change(key: str, kind: str, control: Control, start: Any) -> None:
    """Write one change; a line of the same control is replaced."""
    value = control_widgets.field_value(control, start, f"{key}:value:{kind}:{control.name}")
    kept = [
        line
        for line in str(st.session_state.get(key) or "").splitlines()
        if line.strip() and not _names_control(line, control)
    ]
    st.session_state[key] = "\n".join([*kept, f"{control.name} = {value}"])


def _names_control(line: str, control: Control) -> bool:
    change = assignment(line)
    return _normalize(change.written if change else line) in (
        _normalize(control.name),
        _normalize(control.label),
        _normalize(control_title(control)),
    )
