"""A row of figures that wraps on a narrow screen, and the choice of a curve's smoothing."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import streamlit as st

from pages.widgets import live_panel
from qcore.base.words import form_words
from qcore.lab import Lab
from qcore.probes.catalog import Declared
from qcore.viz import series_words


def metric_row(cells: Iterable[tuple[str, str, str]], key: str = "numbers") -> None:
    """A row of (label, value, help) that wraps on a narrow screen; one element, however many figures."""
    live_panel.html_element(key, metric_row_html(cells))


def metric_row_html(cells: Iterable[tuple[str, str, str]]) -> str:
    """The same as HTML, all text escaped."""
    parts = [
        f'<div title="{html.escape(about)}"><span>{html.escape(label)}</span><b>{html.escape(value)}</b></div>'
        for label, value, about in cells
    ]
    return f'<div class="strip">{"".join(parts)}</div>'


def series_row(lab: Lab, run: str, step: int, names: Sequence[str]) -> None:
    """Series measured at a step in a row, in the catalogue's words: a dash for one that this step lacks, and none for
    what the run never measured.
    """
    reader = lab.reader(run)
    known = set(reader.names())
    names = [name for name in names if name in known]
    metric_row(newest_values(reader.scalars_of(names, start=step, stop=step + 1), map(series_words, names)))


def newest_values(series: Mapping[str, Any], declared: Iterable[Declared]) -> Iterator[tuple[str, str, str]]:
    """(label, newest value or a dash, meaning) of each series."""
    for words in declared:
        found = series[words.name]
        yield words.label, form_words(float(found.values[-1]) if len(found) else None, words.form), words.meaning


def smoothing_slider() -> int:
    """Choose how many steps curves are averaged over; 0 is none."""
    return st.select_slider(
        "Smoothing",
        (0, 5, 10, 20, 50, 100, 200, 500),
        key="smooth",
        bind="query-params",
        width=150,
        format_func=lambda span: f"{span} steps" if span else "off",
        help="Span of the moving average; the raw curve stays visible behind it.",
    )
