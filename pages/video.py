"""Video frames: clips of the data, denoised and generated, how alike their frames are, and why frames average into
one."""

import streamlit as st

from pages import _exactflow, _families, _guideviews, _parts, _pathviews, _videoviews

VIEWS = {
    "Frames": _videoviews.page,
    "Path and anchor": _pathviews.page,
    "Exact flow": _exactflow.page,
    "The guide's numbers": _guideviews.page,
}

lab = _parts.lab()
info = _parts.open_run(lab, "Video frames")
if info is not None and _families.has_clips(info):
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
