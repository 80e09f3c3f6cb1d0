"""Video frames: clips of the data, denoised and generated, how alike their frames are, and why frames average into
one.
"""

import streamlit as st

from pages.session import family_words
from pages.session.lab import open_lab
from pages.views import exact_flow, frames, paths, published_guide
from pages.widgets import run_heading

VIEWS = {
    "Frames": frames.page,
    "Path and anchor": paths.page,
    "Exact flow": exact_flow.page,
    "The guide's numbers": published_guide.page,
}

lab = open_lab()
info = run_heading.open_run(lab, "Video frames")
if info is not None and family_words.has_clips(info):
    if not family_words.has_trainer(info):  # the other views speak of our paths and controls
        view = next(iter(VIEWS))
    else:
        view = st.segmented_control(
            "View",
            list(VIEWS),
            key="video",
            default=next(iter(VIEWS)),
            required=True,
            bind="query-params",
            label_visibility="collapsed",
        )
    VIEWS[view](lab, info)
