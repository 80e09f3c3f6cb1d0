"""Which runs a comparison shows: the selected one and its relatives, or what is chosen; the choice is in the URL."""

from __future__ import annotations

import streamlit as st

from pages.session import family_words, phrases
from qcore.lab import Lab, RunInfo, RunNode

MOST = 6


def relatives(nodes: list[RunNode], name: str) -> list[str]:
    """The run, then those of its tree: its parent, its siblings and its forks, parents first."""
    parents = {node.name: node.parent for node in nodes}
    root = name
    while parents.get(root) in parents and parents[root] != root:
        root = parents[root]
    tree = {root}
    for node in nodes:
        if node.parent in tree:
            tree.add(node.name)
    return [name, *(node.name for node in nodes if node.name in tree and node.name != name)]


def pick_runs(lab: Lab, info: RunInfo) -> list[str]:
    """Runs to compare, at most six, the selected one first unless it was taken out."""
    nodes = lab.run_tree()
    names = [node.name for node in nodes]
    linked = [name for name in st.query_params.get_all("with") if name in names]
    chosen = st.multiselect(
        "Runs",
        names,
        linked or relatives(nodes, info.name)[:MOST],
        key=f"with:{info.name}",
        max_selections=MOST,
        format_func=phrases.short_name,
        help="At most six. A fork's curves begin with those of its parent.",
    )
    st.query_params["with"] = chosen
    if len(chosen) < 2:
        st.info(
            "Choose a second run to compare with, or fork this one under *Tree*: both futures then start from the same "
            "state."
            if family_words.has_trainer(info)
            else "Choose a second run to compare with."
        )
    return chosen


def fork_steps(lab: Lab, names: list[str]) -> dict[str, int]:
    """Step at which each run parts from the others: its own fork, or, for a parent, the first fork among them."""
    found = {}
    for name in names:
        lineage = lab.lineage(name)
        if lineage is not None and lineage.forked:
            found[name] = lineage.step
    first = min(found.values(), default=0)
    return {name: found.get(name, first) for name in names}
