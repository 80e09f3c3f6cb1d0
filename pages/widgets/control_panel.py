"""The knobs of a run: every control that may change while training, with its acknowledgement.

A knob sends one command for one change by a person: a slider or a number waits until it has stood still for a moment
(`_settle`), so that a key held down is one change. Its place follows the run: when a control has changed elsewhere
(another tab, the CLI) or a value was refused, the knob is made anew at the run's value. The session keeps, for each
knob, the number of changes it has seen and the id of its last command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from pages.session import messages, phrases, roles
from pages.session.debounce import HELD_SECONDS, UNASKED_SECONDS, settling
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import fragment
from pages.widgets import control_widgets, error_boundary
from pages.widgets.live_panel import rerun_when_stale
from qcore.config import CURRICULA, FAMILIES, ConfigError, Control, SetControl
from qcore.lab import ControlState, Lab, LabError
from qcore.viz import author_words, change_words, name_words, value_words

SECTIONS = {"flow": "Flow", "objective": "Objective", "optim": "Optimiser", "probes": "Probes"}
_BESIDE = {"sampling": "flow", "model": "optim", "data": "objective"}
"""Live controls of one section that are turned together with those of another."""
WAITING = "waiting"
_KEPT = "queued; the run applies it when it is resumed"
ASK_SECONDS = 0.2
"""How often a page asks whether a change that it waits for was answered."""


@fragment
@error_boundary.with_errors_shown
def knobs(lab: Lab, run: str) -> None:
    """All knobs, a section at a time."""
    states = lab.controls(run)
    offered = [name for name in SECTIONS if any(_panel_section(state) == name for state in states.values())]
    has_flow = "flow" in offered
    with st.container(key="knob-sections"):
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
    mine = knob_state(run)
    mine.seen = _changes(states)
    for name, state in states.items():
        if _panel_section(state) == section:
            _knob(lab, run, name, state)
    settling.release((run,), UNASKED_SECONDS)
    if not mine.is_settled(lab, run):
        rerun_when_stale(f"knobs:{run}", lab, lambda: _has_settled(lab, run, mine), False, ASK_SECONDS)


def _has_settled(lab: Lab, run: str, mine: KnobState) -> bool:
    """Whether all is settled, asked by a browser that has drawn the knobs and so has taken what was pressed before."""
    settling.release((run,))
    return mine.is_settled(lab, run)


def _panel_section(state: ControlState) -> str:
    return _BESIDE.get(state.control.section, state.control.section)


def _changes(states: Mapping[str, ControlState]) -> int:
    return sum(state.version for state in states.values())


@dataclass
class KnobState:
    """What a session's knobs of a run were drawn from.

    Attributes:
        seen: number of changes of all controls.
        sent: the last command of each knob, by the name of its control, and what became of it: `waiting` for the knob
            to stand still, `pending` in the run, `applied` or `refused`.
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

    def is_settled(self, lab: Lab, run: str) -> bool:
        """Whether no change of this session waits for an answer that may come. Any thread may ask."""
        every = list(self.sent.values())
        if any(sent["status"] == WAITING for sent in every):
            return False
        asked = [sent["id"] for sent in every if sent["status"] == "pending"]
        return not asked or not lab.listed(run).alive or all(lab.outcome(run, one).status != "pending" for one in asked)


def knob_state(run: str) -> KnobState:
    """That of this session."""
    return st.session_state.setdefault(f"turned:{run}", KnobState())


def _knob(lab: Lab, run: str, name: str, state: ControlState) -> None:
    ack = _last_outcome(lab, run, name)
    key = _key(run, name, state, ack)
    changed = state.value != state.default
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", wrap=False):
        control_widgets.knob(
            state.control,
            state.value,
            [state.default, st.session_state.get(key, state.value)],
            key,
            state.control.label,
            on_change=_on_change,
            args=(lab, run, state.control, key),
            **roles.viewer_lock(),
        )
        if changed:
            roles.button(
                "",
                key=f"reset:{run}:{name}",
                icon=":material/undo:",
                type="tertiary",
                help=f"Back to the initial value, {escape_markdown(value_words(state.default))}",
                on_click=_set,
                args=(lab, run, name, state.default),
            )
    if name == "schedule":
        _curricula(lab, run)
    if ack is not None and ack["status"] == "refused":
        st.error(escape_markdown(ack["text"]), icon=":material/block:")
    elif ack is not None:
        st.caption(f"{'✓' if ack['status'] == 'applied' else '…'} {escape_markdown(_outcome_text(lab, run, ack))}")
    elif changed and state.step is not None:
        change = change_words(name, state.default, state.value)
        st.caption(escape_markdown(f"{change} at step {state.step:,} by {author_words(state.author)}"))


def _outcome_text(lab: Lab, run: str, ack: dict[str, Any]) -> str:
    """What became of a change, and of one without an answer when it is taken."""
    if ack["status"] != "pending":
        return str(ack["text"])
    alive = lab.listed(run).alive
    return f"{ack['text']}: {'sent; the run applies it before its next step' if alive else _KEPT}"


def _curricula(lab: Lab, run: str) -> None:
    """Put a published curriculum into the schedule; each line of it can then be edited."""
    if "curricula" not in FAMILIES[lab.config(run).kind].capabilities:
        return
    with st.container(horizontal=True, gap="small"):
        for title, lines in CURRICULA.items():
            roles.button(
                title.capitalize().replace("-", " "),
                key=f"curriculum:{run}:{title}",
                icon=":material/school:",
                help=f"Write the {title} curriculum into the schedule: {len(lines)} changes, at shares of the run. "
                "Steps that have already passed are skipped.",
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
    if (ack is None or ack["status"] not in ("pending", WAITING)) and (refused or kept["version"] != state.version):
        kept["version"] = state.version
        if refused:
            refused["shown"] = True
        shown = control_widgets.widget_value(state.control, state.value)
        if st.session_state.get(key, shown) != shown:
            kept["nonce"] += 1
    return f"{base}:{kept['nonce']}"


def _on_change(lab: Lab, run: str, control: Control, key: str) -> None:
    """Callback of a knob. What is chosen by one press is sent at once; what turns, when it stands still."""
    name, value = control.name, st.session_state[key]
    if control.kind not in ("int", "float"):
        _set(lab, run, name, value)
        return
    sent = knob_state(run).sent
    mine = sent[name] = {"id": None, "status": WAITING, "text": f"{name_words(name)} → {value_words(value)}"}
    act, failed = partial(_send, lab, run, name, value, sent), partial(_note_failure, name, sent)
    # Newer presses are delivered when this run of the script has ended and the browser has drawn it.
    settling.put((run, name), act, failed, HELD_SECONDS, partial(_note_superseded, mine))


def _set(lab: Lab, run: str, name: str, value: Any) -> None:
    """Send the change, and give the trainer a moment to answer."""
    settling.drop((run, name))
    sent = knob_state(run).sent
    _send(lab, run, name, value, sent)
    if sent[name]["id"] is not None:
        lab.outcome(run, sent[name]["id"], messages.COMMAND_SECONDS)


def _send(lab: Lab, run: str, name: str, value: Any, sent: dict[str, dict[str, Any]]) -> None:
    """Send a change and note its command. Any thread may call it."""
    try:
        identity = lab.command(run, SetControl(name, value))
    except (LabError, ConfigError) as error:
        _note_failure(name, sent, error)
        return
    sent[name] = {"id": identity, "status": "pending", "text": f"{name_words(name)} → {value_words(value)}"}


def _note_failure(name: str, sent: dict[str, dict[str, Any]], error: Exception) -> None:
    sent[name] = {"id": None, "status": "refused", "text": str(error)}


def _note_superseded(waiting: dict[str, Any]) -> None:
    """Something newer came for the knob: of this session, which has then forgotten the entry, or from another tab. Any
    thread may call it.
    """
    if waiting["status"] == WAITING:
        waiting["text"] += " was not sent: the control was changed in another tab first"
        waiting["status"] = "refused"


def _last_outcome(lab: Lab, run: str, name: str) -> dict[str, Any] | None:
    """What became of the last change of a knob in this session, if there was one."""
    ack = knob_state(run).sent.get(name)
    if ack is None or ack["id"] is None or ack["status"] != "pending":
        return ack
    row = lab.outcome(run, ack["id"])
    if row.status != "pending":
        ack["status"] = row.status
        ack["text"] = phrases.outcome_words(lab, run, row)
    return ack
