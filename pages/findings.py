"""Findings: what is wrong with a run, since when, the evidence, and what to do about it; and which runs have any."""

import streamlit as st

from pages.session.lab import open_lab
from pages.views import findings
from pages.widgets import message_list, run_heading

VIEWS = ("This run", "All runs", "Rules")

lab = open_lab()
info = run_heading.open_run(lab, "Findings")
if info is not None:
    view = st.segmented_control(
        "View", VIEWS, key="of", default=VIEWS[0], required=True, bind="query-params", label_visibility="collapsed"
    )
    message_list.show_messages()
    if view == VIEWS[0]:
        findings.run_findings(lab, info)
    elif view == VIEWS[1]:
        findings.findings_of_all_runs(lab, info)
    else:
        findings.rules()
