"""The guide's view of the Video page: what the published guide calls healthy or advises, as the guide's, with what was
measured here beside it, and with this run's own numbers.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from pages.widgets.frame_measures import MEASURES, measure_text
from pages.widgets.live_fragment import rerun_when_changed
from pages.widgets.live_panel import html_element
from qcore.lab import GUIDE, Band, Fix, Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import name_words, number_words

_TROUBLES = {"averaging": "frames average", "nan": "not a number", "jitter": "jitter"}


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the choice of the view."""
    st.markdown(
        "The published guide names numbers that a healthy run should have, and fixes for emergencies. They are shown "
        "here as *the guide's*, not as ours: the last column says what came out when they were tried. Compare with the "
        "data's own value: a band that the real clips miss cannot mean health."
    )
    _tables(lab, info)
    rerun_when_changed(lab, info, "records")


def _tables(lab: Lab, info: RunInfo) -> None:
    reader = lab.reader(info.name)
    data: dict[str, float] = reader.meta().get("data_frames") or {}
    series = reader.scalars_of(sorted({_series(band) for band in GUIDE.bands}))
    found = {name: (int(one.steps[-1]), float(one.values[-1])) for name, one in series.items() if len(one)}
    st.header("The guide's bands", anchor=False)
    html_element("bands", _health(GUIDE.bands, data, found))
    st.header("Emergency fixes", anchor=False)
    st.html(_advice(GUIDE.fixes))
    st.caption("Findings offers these as remedies where they fit, each with the same verdict.")


def _series(band: Band) -> str:
    """Where a run keeps what a band is about; a bare measure is that of generated clips."""
    return catalog.frames("generated", band.measure) if band.measure in MEASURES else band.measure


def _health(bands: Sequence[Band], data: dict[str, float], found: dict[str, tuple[int, float]]) -> str:
    titles = ("measure", "the guide's band", "this run", "the data", "measured here")
    lines = []
    for band in bands:
        measure = MEASURES[band.measure].words if band.measure in MEASURES else catalog.series_words(band.measure)
        cells = [
            f"{measure.label}, {band.grade}",
            band.range_text,
            _measured_text(band, here[1]) + f" · step {here[0]:,}" if (here := found.get(_series(band))) else "–",
            _measured_text(band, data.get(band.measure)),
            band.verdict,
        ]
        lines.append((cells, measure.meaning))
    return _table(titles, lines)


def _advice(fixes: Sequence[Fix]) -> str:
    rows = [
        ([_TROUBLES[fix.symptom], f"set {name_words(fix.control)} to {number_words(fix.value)}", fix.verdict], "")
        for fix in fixes
    ]
    return _table(("trouble", "the guide's fix", "measured here"), rows)


def _measured_text(band: Band, value: float | None) -> str:
    return "–" if value is None else f"{measure_text(value)} {'inside' if band.holds(value) else 'outside'}"


def _table(titles: tuple[str, ...], lines: list[tuple[list[str], str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join(
        f'<tr title="{html.escape(hint)}">'
        + "".join(
            f'<td data-title="{html.escape(title)}:">{html.escape(cell)}</td>'
            for title, cell in zip(titles, cells, strict=True)
        )
        + "</tr>"
        for cells, hint in lines
    )
    return f'<table class="guide"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
