"""The tree of runs with every change on its edge, and the two ways to make it grow: fork and rewind."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages import _family, _parts, _roles
from pages._changes import CHANGES_HELP, read_changes
from pages._live import live
from pages._plot import chart
from qcore.config import ConfigError
from qcore.lab import Lab, LabError, RunInfo, RunNode
from qcore.viz import Branch, branches, name_words, value_words

_MOST_MARKS = 40


def page(lab: Lab, info: RunInfo) -> None:
    """The tree, live; below it the forms."""
    whole = st.toggle(
        "All runs", key="all_runs", bind="query-params", help="Also those that are not related to the selected run."
    )
    _tree(lab, info, whole)
    live(lab, info, runs=lab.runs)
    left, right = st.columns(2, gap="large")
    with left:
        _fork_form(lab, info)
    with right:
        _rewind_form(lab, info)


def _tree(lab: Lab, info: RunInfo, whole: bool) -> None:
    nodes = lab.run_tree()
    related = set(_family.relatives(nodes, info.name))
    shown = [node for node in nodes if whole or node.name in related]
    figure = branches([_branch(lab, node) for node in shown], chosen=[info.name], uirevision=f"tree:{whole}")
    chart(figure, "tree", "Tree of runs: every run from its fork to its newest step")
    if len(shown) == 1:
        st.caption("This run has no forks yet. Fork it below: the child starts from exactly this state.")
    st.dataframe(
        {
            "run": [node.name for node in shown],
            "forked from": [node.parent for node in shown],
            "at step": [f"{node.step:,}" if node.parent else "" for node in shown],
            "what differs": [_words(node) for node in shown],
            "by": [node.author for node in shown],
            "why": [node.reason for node in shown],
            "state": [node.state for node in shown],
            "step": [node.at_step for node in shown],
        },
        key="tree_table",
        hide_index=True,
        column_config={"what differs": st.column_config.TextColumn(width="large")},
    )


def _branch(lab: Lab, node: RunNode) -> Branch:
    marks = [mark for mark in _parts.marks(lab.reader(node.name).events()) if mark.step > node.step or not node.parent]
    return Branch(
        node.name, node.parent, node.step, node.at_step, node.state, _words(node), tuple(marks[-_MOST_MARKS:])
    )


def _words(node: RunNode) -> str:
    if node.branch:
        return "left behind by a rewind"
    if node.parent and not node.changes:
        return "nothing: equal to its parent"
    return ", ".join(f"{name_words(name)} = {value_words(value)}" for name, value in node.changes.items())


def _fork_form(lab: Lab, info: RunInfo) -> None:
    st.subheader("Fork", anchor=False, help="A new run that goes on from a step of this one, with changes.")
    saved = [item.step for item in lab.checkpoints(info.name)]
    with st.form("fork", border=True):
        step = st.number_input(
            "From step",
            0,
            max(info.step, 1),
            info.step if info.step < info.total_steps else max((one for one in saved if one < info.step), default=0),
            key=f"fork_step:{info.name}:{info.step if not info.alive else 0}",
            help="At a checkpoint the fork is ready at once ("
            + (", ".join(f"{one:,}" for one in saved[-6:]) or "there is none yet")
            + "); any other step is reached from the nearest earlier one, exactly.",
        )
        text = st.text_area(
            "What changes", key="fork_changes", placeholder="diversity_weight = 0.3", height=100, help=CHANGES_HELP
        )
        name = st.text_input("Name", key="fork_name", placeholder="made up when empty", help="Of the new run.")
        why = st.text_input("Why", key="fork_why", placeholder="what if …", help="Stands on the edge of the tree.")
        asked = st.form_submit_button("Fork", icon=":material/call_split:", type="primary", **_roles.locked())
    if asked:
        _fork(lab, info, int(step), text, name.strip(), why.strip())


def _fork(lab: Lab, info: RunInfo, step: int, text: str, name: str, why: str) -> None:
    try:
        options: dict[str, Any] = {"new_name": name or None, "reason": why}
        child = lab.fork(info.name, step=step, changes=read_changes(text), **options)
    except (LabError, ConfigError) as error:
        st.error(_parts.plain(str(error)), icon=":material/block:")
        return
    _parts.note("done", f"Forked {child} from step {step:,}; it trains when its turn comes")
    st.rerun()


def _rewind_form(lab: Lab, info: RunInfo) -> None:
    st.subheader(
        "Rewind", anchor=False, help="This run goes back; what came after is kept as a run of its own in the tree."
    )
    lineage = lab.lineage(info.name)
    first = lineage.step if lineage is not None and lineage.forked else 0
    if info.step <= first:
        st.caption("It has made no step of its own yet.")
        return
    with st.form("rewind", border=True):
        step = st.number_input(
            "To step",
            first,
            info.step,
            max(first, info.step - 1),
            key=f"rewind_step:{info.name}:{info.step if not info.alive else 0}",
            help="To before the changes that were made at this step. The run is stopped for it, and goes on if it was "
            "training.",
        )
        asked = st.form_submit_button("Rewind", icon=":material/history:", **_roles.locked())
    if not asked:
        return
    try:
        branch = lab.rewind(info.name, int(step))
    except (LabError, ConfigError) as error:
        st.error(_parts.plain(str(error)), icon=":material/block:")
        return
    _parts.note("done", f"Rewound to step {int(step):,}; {branch} keeps what came after")
    st.rerun()
