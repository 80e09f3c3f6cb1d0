"""The guide's view of the Video page: what the published guide calls healthy or advises, as the guide's, with what was
measured here beside it, and with this run's own numbers.
"""

from __future__ import annotations

import html

import streamlit as st

from pages.widgets.frame_measures import Band, bands, shown
from pages.widgets.live_fragment import live
from pages.widgets.live_panel import words
from qcore.lab import Lab, RunInfo


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the choice of the view."""
    st.markdown(
        "The published guide names numbers that a healthy run should have, and fixes for emergencies. They are shown "
        "here as *the guide's*, not as ours: the last column says what came out when they were tried. Compare with the "
        "data's own value: a band that the real clips miss cannot mean health."
    )
    _tables(lab, info)
    live(lab, info, "records")


def _tables(lab: Lab, info: RunInfo) -> None:
    rows = bands()
    reader = lab.reader(info.name)
    data: dict[str, float] = reader.meta().get("data_frames") or {}
    series = reader.scalars_of(sorted({row.series for row in rows if row.series}))
    found = {name: (int(one.steps[-1]), float(one.values[-1])) for name, one in series.items() if len(one)}
    measured = [row for row in rows if row.range_text]
    advice = [row for row in rows if not row.range_text]
    if measured:
        st.header("The guide's bands", anchor=False)
        words("bands", _health(measured, data, found))
    if advice:
        st.header("Emergency fixes", anchor=False)
        st.html(_advice(advice))
        st.caption("Findings offers these as remedies where they fit, each with the same verdict.")


def _health(rows: list[Band], data: dict[str, float], found: dict[str, tuple[int, float]]) -> str:
    titles = ("measure", "the guide's band", "this run", "the data", "measured here")
    lines = []
    for row in rows:
        cells = [
            row.name,
            row.range_text,
            _against(row, here[1]) + f" · step {here[0]:,}" if (here := found.get(row.series)) else "–",
            _against(row, data.get(row.measure)),
            row.verdict,
        ]
        lines.append((cells, row.says))
    return _table(titles, lines)


def _advice(rows: list[Band]) -> str:
    return _table(
        ("trouble", "the guide's fix", "measured here"), [([row.name, row.says, row.verdict], "") for row in rows]
    )


def _against(row: Band, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{shown(value)} {'inside' if row.holds(value) else 'outside'}"


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
