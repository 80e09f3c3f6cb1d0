"""Tokens: what the model predicts against what the data holds, at any measured step, and how that changes."""

import streamlit as st

from pages.session import advice, family_words
from pages.session.lab import open_lab
from pages.views import token_statistics
from pages.widgets import run_heading, step_slider
from pages.widgets.live_fragment import rerun_when_changed

lab = open_lab()
info = run_heading.open_run(lab, "Tokens")
if info is not None and family_words.has_text(info, "tokens"):
    steps = lab.reader(info.name).array_steps("tokens")
    if not steps:
        st.info(advice.why_nothing_to_show(lab, info, "token statistics", "tokens_every", budgeted=True))
        if not family_words.has_trainer(info):
            rerun_when_changed(lab, info, "records")
            st.stop()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        follow = st.toggle(
            "Newest step",
            True,
            key="follow",
            bind="query-params",
            help="Off: look at any earlier step with the slider.",
        )
        if follow or len(steps) < 2:
            chosen = None
        else:
            chosen = st.select_slider("Step", steps, steps[-1], key="at", bind="query-params")
        log_x = step_slider.log_steps()
    if steps or info.alive:
        token_statistics.draw(lab, info, chosen, log_x=log_x)
        rerun_when_changed(lab, info, "records")
