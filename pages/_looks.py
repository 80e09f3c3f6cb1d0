"""How pages look beyond the theme: what of a curve an axis shows, and text that everybody can read.

The theme fades captions and small labels to a contrast of 4.2 : 1; here they get 4.5 : 1 or more, in light and dark.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import streamlit as st

from qcore.viz import number_words

_STYLE = """<style>
[data-testid="stCaptionContainer"],[data-testid="stCaptionContainer"] p,
[data-testid="stWidgetLabel"] small,[data-testid="stTooltipHoverTarget"] small{color:var(--lab-faint)!important}
:root{--lab-faint:#5b6570}
</style>"""


def column(values: Sequence[float | None], places: int) -> list[float | None] | list[str]:
    """Numbers for a column of a table: as numbers, which sort, while all that are known are finite; else in words, so
    that none reads `nan`.
    """
    if all(value is None or math.isfinite(value) for value in values):
        return [None if value is None else round(value, places) for value in values]
    return [number_words(value, places=places) for value in values]


def day(wall: float) -> str:
    """Local date and time of an epoch second; empty when it is not known."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall)) if wall else ""


def axis_choices() -> dict[str, bool]:
    """Choose what the axes of curves show; as `viz.curves` takes it, and in the URL."""
    return {
        "ignore_outliers": st.toggle(
            "Ignore outliers",
            key="ignore_outliers",
            bind="query-params",
            help="Single values far from all around them are left out of axes and smoothing; each chart says how many.",
        ),
        "whole": st.toggle(
            "First steps too",
            key="whole",
            bind="query-params",
            help="On: axes reach up to where the curves began. Off: where the first steps would squeeze all that comes "
            "after, a chart says how high they were.",
        ),
    }
