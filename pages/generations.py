"""Generations: ask the live or paused model or any checkpoint for text or clips, and follow fixed prompts and seeds
through training.
"""

import streamlit as st

from pages import _clipprompt, _cliptimeline, _families, _parts, _prompt, _timeline
from pages._live import live

VIEWS = {"Prompt": "Prompt", "Timeline": "Timeline"}
VIDEO_VIEWS = VIEWS | {"Prompt": "Sample"}

lab = _parts.lab()
info = _parts.open_run(lab, "Generations")
if info is not None:
    name = info.name
    is_video = _families.is_video(info)
    names = VIDEO_VIEWS if is_video else VIEWS
    view = st.segmented_control(
        "View",
        list(VIEWS),
        key="gen",
        default="Prompt",
        required=True,
        bind="query-params",
        format_func=lambda one: names[one],
        label_visibility="collapsed",
    )
    if view == "Prompt" and is_video:
        _clipprompt.panel(lab, info)
        live(lab, info, lambda: _clipprompt.newest(lab, name))
    elif view == "Prompt":
        _prompt.prompt_panel(lab, info)
        live(lab, info, lambda: _prompt.newest(lab, name))
    elif is_video:
        chosen = _cliptimeline.options(lab, info)
        _cliptimeline.draw(lab, info, chosen)
        live(lab, info, "records")
    else:
        options = _timeline.options(lab, info)
        _timeline.draw(lab, info, *options)
        live(lab, info, "records")
