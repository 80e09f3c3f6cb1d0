"""A row of figures that wraps on a narrow screen, and the choice of a curve's smoothing."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

import streamlit as st

from pages.widgets.live_panel import words
from qcore.lab import Lab
from qcore.viz import number_words, percent_words

_STRIP_STYLE = """<style>
.strip{display:grid;grid-template-columns:repeat(auto-fit,minmax(max(5.6rem,20%),1fr));gap:.6rem 1rem}
.strip div{display:flex;flex-direction:column;min-width:0}
.strip span{font-size:.8rem;color:var(--lab-faint);white-space:nowrap}
.strip b{font-size:1.15rem;font-weight:600;white-space:nowrap;font-variant-numeric:tabular-nums}</style>"""


def strip(cells: Iterable[tuple[str, str, str]], key: str = "numbers") -> None:
    """A row of (label, value, help) that wraps on a narrow screen; one element, however many figures."""
    words(key, strip_html(cells))


def strip_html(cells: Iterable[tuple[str, str, str]]) -> str:
    """The same as HTML, all text escaped."""
    parts = [
        f'<div title="{html.escape(about)}"><span>{html.escape(label)}</span><b>{html.escape(value)}</b></div>'
        for label, value, about in cells
    ]
    return f'{_STRIP_STYLE}<div class="strip">{"".join(parts)}</div>'


def numbers(lab: Lab, run: str, step: int, shown: Iterable[tuple[str, str, str, str]]) -> None:
    """Scalars measured at a step in a row, each as (title, series, format, help): a dash for one that this step lacks,
    and none for what the run never measured.
    """
    reader = lab.reader(run)
    known = set(reader.names())
    shown = tuple(one for one in shown if one[1] in known)
    series = reader.scalars_of([name for _, name, _, _ in shown], start=step, stop=step + 1)
    strip(
        (title, _formatted(float(series[name].values[-1]) if len(series[name]) else None, form), about)
        for title, name, form, about in shown
    )


def _formatted(value: float | None, form: str) -> str:
    if value is None or not math.isfinite(value) or form.endswith("g"):
        return number_words(value, 3)
    return percent_words(value) if form.endswith("%") else format(value, form).replace("-", "−")


def smoothing() -> int:
    """Choose how many steps curves are averaged over; 0 is none."""
    return st.select_slider(
        "Smoothing",
        (0, 5, 10, 20, 50, 100, 200, 500),
        key="smooth",
        bind="query-params",
        width=150,
        format_func=lambda span: f"{span} steps" if span else "off",
        help="Memory of a moving average; the raw curve stays behind it.",
    )
