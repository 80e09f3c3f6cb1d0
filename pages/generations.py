"""Generations: prompt the live or paused model or any checkpoint, and follow fixed prompts through training."""

import streamlit as st

from pages import _parts, _prompt, _timeline
from pages._live import live

VIEWS = ("Prompt", "Timeline")

lab = _parts.lab()
info = _parts.open_run(lab, "Generations")
if info is not None:
    view = st.segmented_control(
        "View", VIEWS, key="gen", default="Prompt", required=True, bind="query-params", label_visibility="collapsed"
    )
    if view == "Prompt":
        _prompt.prompt_panel(lab, info)
        live(lab, info, lambda now: _prompt.newest(lab, now.name))
    else:
        options = _timeline.options(lab, info)
        live(lab, info, lambda now: _timeline.draw(lab, now, *options))
