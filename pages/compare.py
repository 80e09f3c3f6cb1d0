"""Compare and fork: the tree of runs, their curves and samples side by side, what differs, what a change does."""

import streamlit as st

from pages.session import family_words
from pages.session.lab import open_lab
from pages.views import curves, differences, effects, run_tree
from pages.widgets import message_list, run_heading

VIEWS = {
    "Tree": run_tree.page,
    "Curves": curves.page,
    "Differences": differences.page,
    "Samples": differences.samples,
    "Effect of a change": effects.effect,
    "Sweep": effects.sweep,
}

WITH_A_TRAINER = ("Effect of a change", "Sweep")

lab = open_lab()
info = run_heading.open_run(lab, "Compare and fork")
if info is not None:
    message_list.show_messages()
    has_trainer = family_words.has_trainer(info)
    offered = [name for name in VIEWS if has_trainer or name not in WITH_A_TRAINER]
    view = st.segmented_control(
        "View",
        offered,
        key="compare" if has_trainer else "compare_external",
        default=next(iter(VIEWS)),
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    VIEWS[view](lab, info)
