"""One line on samples: whether the sampler was, when it was last asked, the model that is trained."""

from __future__ import annotations

import streamlit as st

from pages.session import phrases
from pages.session.markdown_escape import escape_markdown
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import number_words

_MISTAKES = ("cache_mismatch", "sampler_mismatch", "prompt_ignored", "sampler_velocity", "sampler_times")


def draw(lab: Lab, info: RunInfo, series: str) -> None:
    """Say how far samples are from the trained model, at which step; nothing before it was measured.

    Args:
        series: of text or of clips.
    """
    measured = lab.reader(info.name).latest().get(series)
    if measured is None:
        return
    step, apart = measured
    wrong = [one.title for one in lab.findings(info.name) if one.name in _MISTAKES and one.state == "active"]
    unit = catalog.series_words(series).unit
    if wrong:
        st.caption(f":material/close: Sampler ≠ model at {phrases.step_words(step)}: {escape_markdown(wrong[0])}.")
    else:
        st.caption(f":material/check: Sampler = model: agrees to {number_words(apart, 2)} ({unit}) at step {step:,}.")
