"""Generations: ask the live or paused model or any checkpoint for text or clips, and follow fixed prompts and seeds
through training.
"""

import streamlit as st

from pages.session import family_words
from pages.session.lab import open_lab
from pages.views import clip_prompt, clip_timeline, external_samples, prompt, text_timeline
from pages.widgets import run_heading
from pages.widgets.live_fragment import rerun_when_changed

VIEWS = {"Prompt": "Prompt", "Timeline": "Timeline"}
VIDEO_VIEWS = VIEWS | {"Prompt": "Sample"}

lab = open_lab()
info = run_heading.open_run(lab, "Generations")
if info is not None and not family_words.has_trainer(info):
    external_samples.draw(lab, info)
    rerun_when_changed(lab, info, "records")
elif info is not None:
    name = info.name
    is_video = family_words.is_video(info)
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
        clip_prompt.panel(lab, info)
        rerun_when_changed(lab, info, lambda: clip_prompt.newest(lab, name))
    elif view == "Prompt":
        prompt.prompt_panel(lab, info)
        rerun_when_changed(lab, info, lambda: prompt.newest_finished(lab, name))
    elif is_video:
        chosen = clip_timeline.options(lab, info)
        clip_timeline.draw(lab, info, chosen)
        rerun_when_changed(lab, info, "records")
    else:
        options = text_timeline.options(lab, info)
        text_timeline.draw(lab, info, *options)
        rerun_when_changed(lab, info, "records")
