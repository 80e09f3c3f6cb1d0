"""Tokens: what the model predicts against what the data holds, at any measured step, and how that changes."""

import streamlit as st

from pages import _advice, _families, _parts, _tokenviews
from pages._live import live

lab = _parts.lab()
info = _parts.open_run(lab, "Tokens")
if info is not None and _families.has_text(info, "tokens"):
    steps = lab.reader(info.name).array_steps("tokens")
    if not steps:
        st.info(_advice.not_yet(lab, info, "token statistics", "tokens_every", budgeted=True))
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
        log_x = st.toggle("Logarithmic steps", key="log_steps", bind="query-params")
    if steps or info.alive:
        _tokenviews.draw(lab, info, chosen, log_x=log_x)
        live(lab, info, "records")
