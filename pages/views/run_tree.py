"""The tree of runs with every change on its edge, and the two ways to make it grow: fork and rewind."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import family_words, looks, messages, phrases, roles
from pages.session.markdown_escape import escape_markdown
from pages.widgets import queue_words, run_picker
from pages.widgets.changes_text import changes_box, read_changes
from pages.widgets.chart import chart
from pages.widgets.live_fragment import rerun_when_changed
from qcore.config import ConfigError, all_controls
from qcore.lab import Lab, LabError, RunInfo, RunNode
from qcore.runs.waiting import waiting_words
from qcore.viz import Branch, author_words, branches, name_words, value_words

_MOST_MARKS = 40


def page(lab: Lab, info: RunInfo) -> None:
    """The tree, live; below it the forms."""
    whole = st.toggle(
        "All runs", key="all_runs", bind="query-params", help="Also those that are not related to the selected run."
    )
    _tree(lab, info, whole)
    rerun_when_changed(lab, info, runs=lab.runs)
    if not family_words.has_trainer(info):
        st.caption("Another program wrote this run: without a trainer of this lab it cannot be forked or rewound.")
        return
    left, right = st.columns(2, gap="large")
    with left:
        _fork_form(lab, info)
    with right:
        _rewind_form(lab, info)


def _tree(lab: Lab, info: RunInfo, whole: bool) -> None:
    nodes = lab.run_tree()
    related = set(run_picker.relatives(nodes, info.name))
    shown = [node for node in nodes if whole or node.name in related]
    figure = branches([_branch(lab, node) for node in shown], chosen=[info.name], uirevision=f"tree:{whole}")
    chart(figure, "tree", "Tree of runs: every run from its fork to its newest step")
    if len(shown) == 1 and family_words.has_trainer(info):
        st.caption("This run has no forks yet. Fork it below: the child starts from exactly this state.")
    looks.table(
        {
            "run": [node.name for node in shown],
            "forked from": [node.parent for node in shown],
            "at step": [f"{node.step:,}" if node.parent else "" for node in shown],
            "what differs": [_changes_text(node) for node in shown],
            "by": [author_words(node.author) for node in shown],
            "why": [node.reason for node in shown],
            "state": [node.state for node in shown],
            "step": [node.at_step for node in shown],
        },
        key="tree_table",
        column_config={"what differs": st.column_config.TextColumn(width="large")},
    )


def _branch(lab: Lab, node: RunNode) -> Branch:
    marks = [mark for mark in phrases.marks(lab.reader(node.name).events()) if mark.step > node.step or not node.parent]
    return Branch(
        node.name, node.parent, node.step, node.at_step, node.state, _changes_text(node), tuple(marks[-_MOST_MARKS:])
    )


def _changes_text(node: RunNode) -> str:
    if node.branch:
        return "left behind by a rewind"
    if node.parent and not node.changes:
        return "nothing: equal to its parent"
    return ", ".join(f"{name_words(name)} = {value_words(value)}" for name, value in node.changes.items())


def _fork_form(lab: Lab, info: RunInfo) -> None:
    st.header("Fork", anchor=False, help="A new run that continues from a step of this one, with changes.")
    saved = [item.step for item in lab.checkpoints(info.name)]
    key = f"fork_step:{info.name}:{info.step if not info.alive else 0}"
    with st.container(border=True):
        st.number_input(
            "From step",
            0,
            max(info.step, 1),
            info.step if info.step < info.total_steps else max((one for one in saved if one < info.step), default=0),
            key=key,
            help=_starting_point_text(saved),
            persist_state="session",
        )
        values = {name: state.value for name, state in lab.controls(info.name).items()}
        fixed = {control.name: lab.config(info.name).value(control.name) for control in all_controls(info.kind)}
        changes_box("What changes", "fork_changes", info.kind, {**fixed, **values})
        st.text_input(
            "Name", key="fork_name", placeholder="generated when empty", help="Of the new run.", persist_state="session"
        )
        st.text_input(
            "Why",
            key="fork_why",
            placeholder="what if …",
            help="Shown on the edge in the tree.",
            persist_state="session",
        )
        queue_words.warn_of_queue(lab)
        roles.button(
            "Fork", key="do:fork", icon=":material/call_split:", type="primary", on_click=_fork, args=(lab, info, key)
        )


def _starting_point_text(saved: list[int]) -> str:
    """How a fork comes to its first step."""
    if not saved:
        return "There is no checkpoint: the fork is trained from its first step to this one, as its parent was."
    there = ", ".join(f"{one:,}" for one in saved[-6:])
    return (
        f"At a checkpoint the fork is ready immediately ({there}); any other step is reached from the nearest "
        f"earlier one, "
        "exactly."
    )


def _fork(lab: Lab, info: RunInfo, key: str) -> None:
    """Reads the fields themselves; what was typed stays when it is refused."""
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    held = st.session_state
    try:
        step = int(held[key])
        options: dict[str, Any] = {
            "new_name": str(held.get("fork_name") or "").strip() or None,
            "reason": str(held.get("fork_why") or "").strip(),
        }
        before = queue_words.runs_ahead(lab)
        child = lab.fork(
            info.name, step=step, changes=read_changes(str(held.get("fork_changes") or ""), info.kind), **options
        )
        queue_words.pause_runs_ahead(lab, before)
    except (LabError, ConfigError) as error:
        messages.note("error", str(error))
        return
    waits = waiting_words(lab.info(child), lab.runs())
    messages.note("done", f"Forked {child} from step {step:,}" + (f"; {waits}" if waits else ""))
    held["fork_name"] = ""


def _rewind_form(lab: Lab, info: RunInfo) -> None:
    st.header("Rewind", anchor=False, help="This run goes back; what came after is kept as a separate run in the tree.")
    lineage = lab.lineage(info.name)
    first = lineage.step if lineage is not None and lineage.forked else 0
    if info.step <= first:
        st.caption("It has made no step of its own yet.")
        return
    key = f"rewind_step:{info.name}:{info.step if not info.alive else 0}"
    with st.container(border=True):
        step = st.number_input(
            "To step",
            first,
            info.step,
            max(first, info.step - 1),
            key=key,
            help="To before the changes that were made at this step. The run is stopped for this, and continues if "
            "it was training.",
            persist_state="session",
        )
        with st.popover("Rewind", icon=":material/history:"):
            st.markdown(
                f"Take **{escape_markdown(phrases.short_name(info.name))}** from step {info.step:,} back to step "
                f"{int(step):,}? "
                f"Its {info.step - int(step):,} steps since then become a separate run, with their curves and samples."
                + (
                    ""
                    if any(saved.step <= step for saved in lab.checkpoints(info.name))
                    else " It has no checkpoint from then, so it is trained from its first step to that one again."
                )
                + (" It is stopped for this, and continues from there." if info.alive else "")
            )
            roles.button(
                "Rewind now",
                key="do:rewind",
                icon=":material/history:",
                type="primary",
                on_click=_rewind,
                args=(lab, info, key),
            )


def _rewind(lab: Lab, info: RunInfo, key: str) -> None:
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    step = int(st.session_state[key])
    try:
        branch = lab.rewind(info.name, step)
    except (LabError, ConfigError) as error:
        messages.note("error", str(error))
        return
    messages.note("done", f"Rewound to step {step:,}; {branch} keeps what came after")
