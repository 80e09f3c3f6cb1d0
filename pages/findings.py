"""Findings: what is wrong with a run, since when, the evidence, and what to do about it; and which runs have any."""

import streamlit as st

from pages import _findingviews, _parts

VIEWS = ("This run", "All runs", "Rules")

lab = _parts.lab()
info = _parts.open_run(lab, "Findings")
if info is not None:
    view = st.segmented_control(
        "View", VIEWS, key="of", default=VIEWS[0], required=True, bind="query-params", label_visibility="collapsed"
    )
    _parts.flash()
    if view == VIEWS[0]:
        _findingviews.this_run(lab, info)
    elif view == VIEWS[1]:
        _findingviews.all_runs(lab, info)
    else:
        _findingviews.rules()
