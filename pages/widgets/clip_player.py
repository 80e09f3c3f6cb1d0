"""Clips that play in the browser, all in step: a small element of our own, as the charts are.

The server sends the frames once for each change of the data, as raw bytes; the browser animates them by itself, so that
a playing page costs the server nothing. All players of a page share one clock, one speed and one pause button. They
stand still outside the window, in a hidden tab, and from the start for people who ask their system for less motion.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.session.assets import module_script
from qcore.viz import ClipRow, clip_bytes

_mount = st.components.v2.component(
    "collapse_lab_clips",
    html='<div class="lab-clips"></div>',
    js=module_script("clips"),
    isolate_styles=False,
)


def film(rows: Sequence[ClipRow], key: str, alt: str) -> None:
    """Play all clips of all rows side by side, with pause, speed and a count of frames.

    Args:
        alt: for screen readers.
    """
    _mount(key=key, data=clip_bytes(rows, layout="film", alt=alt))


def film_strip(rows: Sequence[ClipRow], key: str, alt: str) -> None:
    """The frames of the first clip of each row side by side; the frame that a film on the page shows is outlined."""
    _mount(key=key, data=clip_bytes(rows, layout="strip", alt=alt))
