"""How pages look beyond the theme: what of a curve an axis shows, and text that everybody can read.

The theme fades captions and small labels to a contrast of 4.2 : 1, and writes white on the light blue of dark mode at
2.6 : 1; here all text gets 4.5 : 1 or more, in light and dark.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

from qcore.viz import NOT_MEASURED, Extremes, number_words

_STYLE = """<style>
:root{--lab-faint:color-mix(in srgb,var(--st-text-color,currentColor) 78%,transparent)}
.stApp{--lab-faint:color-mix(in srgb,var(--st-text-color,currentColor) 78%,transparent)}
[data-testid="stCaptionContainer"]{color:var(--lab-faint)!important;opacity:1!important}
[data-testid="stCaptionContainer"] *{color:inherit}
[data-testid^="stBaseButton-primary"]:not(:disabled),button[kind^="primary"]:not(:disabled),
[data-testid="stMultiSelectTagsContainer"] [data-baseweb="tag"],
[data-testid="stMultiSelectTagsContainer"] span{color:light-dark(#fff,#0f141a)!important}
[data-testid="stCode"] .token{color:inherit!important}
.st-key-knob-sections button{padding-inline:.35rem;min-width:0}
.st-key-knob-sections button p{font-size:.85rem;white-space:nowrap}
</style>"""


def style() -> None:
    """Put the style on this page."""
    st.html(_STYLE)


def column(values: Sequence[float | None], places: int) -> list[float | None] | list[str]:
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


def day(wall: float) -> str:
    """Local date and time of an epoch second; empty when it is not known."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(wall)) if wall else ""


_TABLE_STYLE = """<style>.lab-table{overflow-x:auto}.lab-table table{border-collapse:collapse;width:100%}
.lab-table th,.lab-table td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;font-size:.875rem;
border:0;border-bottom:1px solid var(--st-border-color);overflow-wrap:break-word}.lab-table th{font-weight:600}
@media(max-width:640px){.lab-table thead{display:none}.lab-table tr{display:block;padding:.4rem 0;
border-bottom:1px solid var(--st-border-color)}.lab-table td{display:block;border:0;padding:.1rem 0}
.lab-table td:first-child{font-weight:600}}</style>"""


def wrapped_table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts whose cells wrap, as HTML; on a phone a row is a block of its own.

    Args:
        name: for screen readers.
    """
    head = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'{_TABLE_STYLE}<div class="lab-table"><table aria-label="{html.escape(name)}"><thead><tr>{head}</tr></thead>'
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
