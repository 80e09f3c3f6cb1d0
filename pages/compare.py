"""Compare and fork: the tree of runs, their curves and samples side by side, what differs, what a change does."""

import streamlit as st

from pages import _compareviews, _differenceviews, _effectviews, _forkviews, _parts

VIEWS = {
    "Tree": _forkviews.page,
    "Curves": _compareviews.page,
    "Differences": _differenceviews.page,
    "Samples": _differenceviews.samples,
    "Effect of a change": _effectviews.effect,
    "Sweep": _effectviews.sweep,
}

lab = _parts.lab()
info = _parts.open_run(lab, "Compare and fork")
if info is not None:
    _parts.flash()
    view = st.segmented_control(
        "View",
        list(VIEWS),
        key="compare",
        default=next(iter(VIEWS)),
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    VIEWS[view](lab, info)
