"""The knobs of a run: every control that may change while training, with its acknowledgement.

A knob sends one command for one change by a person. Its place follows the run: when a control has changed elsewhere
(another tab, the CLI) or a value was refused, the knob is made anew at the run's value. The session keeps, for each
knob, the number of changes it has seen and the id of its last command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pages import _forms, _parts, _roles
from pages._moment import fragment
from qcore.config import CURRICULA, ConfigError, SetControl
from qcore.lab import ControlState, Lab, LabError
from qcore.viz import value_words

SECTIONS = {"flow": "Flow", "objective": "Objective", "optim": "Optimiser", "probes": "Probes"}
_BESIDE = {"sampling": "flow", "model": "optim", "data": "objective"}
"""Live controls of one section that are turned together with those of another."""


@fragment
def knobs(lab: Lab, run: str) -> None:
    """All knobs, a section at a time."""
    states = lab.controls(run)
    offered = [name for name in SECTIONS if any(_place(state) == name for state in states.values())]
    has_flow = "flow" in offered
    section = st.segmented_control(
        "Controls",
        offered,
        # A widget for each set of choices: one that is kept would hold a choice that the other family lacks.
        key="flow_knobs" if has_flow else "knobs",
        default="flow" if has_flow else "objective",
        required=True,
        bind="query-params",
        format_func=lambda one: SECTIONS[one],
        help="Changes are applied before the next step, and marked on every curve.",
        width="stretch",
    )
    turned(run).seen = _changes(states)
    for name, state in states.items():
        if _place(state) == section:
            _knob(lab, run, name, state)


def _place(state: ControlState) -> str:
    return _BESIDE.get(state.control.section, state.control.section)


def _changes(states: Mapping[str, ControlState]) -> int:
    return sum(state.version for state in states.values())


@dataclass
class Turned:
    """What a session's knobs of a run were drawn from. seen: number of changes of all controls · sent: the last command
    of each knob, by the name of its control, and what became of it.
    """

    seen: int = 0
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)

    def is_outdated(self, lab: Lab, run: str) -> bool:
        """Whether the knobs differ from the run: a control changed elsewhere, or a command was answered. Any thread may
        ask.
        """
        waiting = [sent for sent in list(self.sent.values()) if sent["status"] == "pending"]
        return self.seen != _changes(lab.controls(run)) or any(
            lab.outcome(run, sent["id"]).status != "pending" for sent in waiting
        )


def turned(run: str) -> Turned:
    """That of this session."""
    return st.session_state.setdefault(f"turned:{run}", Turned())


def _knob(lab: Lab, run: str, name: str, state: ControlState) -> None:
    ack = _answered(lab, run, name)
    key = _key(run, name, state, ack)
    changed = state.value != state.default
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", wrap=False):
        _forms.knob(
            state.control,
            state.value,
            [state.default, st.session_state.get(key, state.value)],
            key,
            state.control.label,
            on_change=_turned,
            args=(lab, run, name, key),
            **_roles.locked(),
        )
        if changed:
            _roles.button(
                "",
                key=f"reset:{run}:{name}",
                icon=":material/undo:",
                type="tertiary",
                help=f"Back to the initial value, {value_words(state.default)}",
                on_click=_set,
                args=(lab, run, name, state.default),
            )
    if name == "schedule":
        _curricula(lab, run)
    if ack is not None and ack["status"] == "refused":
        st.error(_parts.plain(ack["text"]), icon=":material/block:")
    elif ack is not None:
        st.caption(f"{'✓' if ack['status'] == 'applied' else '…'} {_parts.plain(ack['text'])}")
    elif changed and state.step is not None:
        st.caption(f"{value_words(state.default)} → {value_words(state.value)} at step {state.step} by {state.author}")


def _curricula(lab: Lab, run: str) -> None:
    """Put a published curriculum into the schedule; each line of it can then be edited."""
    if lab.config(run).kind != "phase_lm":
        return
    with st.container(horizontal=True, gap="small"):
        for title, lines in CURRICULA.items():
            _roles.button(
                title.capitalize().replace("-", " "),
                key=f"curriculum:{run}:{title}",
                icon=":material/school:",
                help=f"Write the {title} curriculum into the schedule: {len(lines)} changes, at shares of the run. "
                "Steps that have passed are not made up for.",
                on_click=_set,
                args=(lab, run, "schedule", lines),
            )


def _key(run: str, name: str, state: ControlState, ack: dict[str, Any] | None) -> str:
    """Key of the knob's widget: a new one, showing the run's value, when that differs from what the widget shows.

    Nothing is decided while a command of this session is on its way, and a person's own change keeps the widget, so
    that a key held down or a slider being dragged stays in hand.
    """
    base = f"knob:{run}:{name}"
    kept = st.session_state.setdefault(f"kept:{base}", {"nonce": 0, "version": state.version})
    key = f"{base}:{kept['nonce']}"
    refused = ack if ack is not None and ack["status"] == "refused" and not ack.get("shown") else None
    if (ack is None or ack["status"] != "pending") and (refused or kept["version"] != state.version):
        kept["version"] = state.version
        if refused:
            refused["shown"] = True
        shown = _forms.as_shown(state.control, state.value)
        if st.session_state.get(key, shown) != shown:
            kept["nonce"] += 1
    return f"{base}:{kept['nonce']}"


def _turned(lab: Lab, run: str, name: str, key: str) -> None:
    _set(lab, run, name, st.session_state[key])


def _set(lab: Lab, run: str, name: str, value: Any) -> None:
    """Send the change, and give the trainer a moment to answer."""
    try:
        identity = lab.command(run, SetControl(name, value))
    except (LabError, ConfigError) as error:
        turned(run).sent[name] = {"id": None, "status": "refused", "text": str(error)}
        return
    turned(run).sent[name] = {"id": identity, "status": "pending", "text": ""}
    lab.outcome(run, identity, _parts.COMMAND_SECONDS)


def _answered(lab: Lab, run: str, name: str) -> dict[str, Any] | None:
    """What became of the last change of a knob in this session, if there was one."""
    ack = turned(run).sent.get(name)
    if ack is None or ack["id"] is None or ack["status"] != "pending":
        return ack
    row = lab.outcome(run, ack["id"])
    ack["status"] = row.status
    ack["text"] = row.message if row.status != "pending" else "sent; the run takes it before its next step"
    return ack
