"""How pages look beyond the theme: their stylesheet, tables, and what of a curve an axis shows."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

from pages.session.assets import stylesheet
from qcore.viz import NOT_MEASURED, Extremes, number_words


def style() -> None:
    """Put the stylesheet of all elements of our own on this page."""
    st.html(f"<style>{stylesheet()}</style>")


def table_column(values: Sequence[float | None], places: int) -> list[float | None] | list[str]:
    """Numbers for a column of a table: as numbers, which sort, while all that are known are finite; else in words, so
    that none reads `nan`.
    """
    if all(value is None or math.isfinite(value) for value in values):
        return [None if value is None else round(value, places) for value in values]
    return [number_words(value, places=places) for value in values]


def table(data: Any, **more: Any) -> Any:
    """`st.dataframe` without row numbers, and with a dash for what is not known: Streamlit writes `None`."""
    settings: dict[str, Any] = {"hide_index": True, "placeholder": NOT_MEASURED} | more
    return st.dataframe(data, **settings)


def local_time(wall: float) -> str:
    """Local date and time of an epoch second; empty when it is not known."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall)) if wall else ""


def wrapped_table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts whose cells wrap, as HTML; on a phone a row is a block of its own.

    Args:
        name: for screen readers.
    """
    head = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="lab-table"><table aria-label="{html.escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def axis_choices() -> Extremes:
    """Choose what the axes of curves show; as `viz.curves` takes it, and in the URL."""
    return Extremes(
        ignore_outliers=st.toggle(
            "Ignore outliers",
            key="ignore_outliers",
            bind="query-params",
            help="Isolated values far from their neighbours are left out of axes and smoothing; each chart says how "
            "many.",
        ),
        whole=st.toggle(
            "First steps too",
            key="whole",
            bind="query-params",
            help="On: axes reach up to where the curves began. Off: where the first steps would squeeze all that comes "
            "after, a chart says how high they were.",
        ),
    )
