"""Look of every figure: colours that people with colour blindness tell apart, margins, axes, and the empty state.

Colours are Okabe and Ito's; the first four, which most charts need, keep a contrast of 3 : 1 or more on white and on
near-black, so that one figure serves both themes. Backgrounds are transparent; text and grid are left to the page that
shows the figure. Traces are SVG: a browser allows only a few WebGL charts on a page.
"""

from __future__ import annotations

import html
from textwrap import wrap
from typing import Any

from qcore.viz.figure import Figure

BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREY = "#808890"
LINE_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("solid", "dash", "dot", "dashdot")
CLEAR = "rgba(0,0,0,0)"
LABEL_SIZE = 11
_NARROW = 40
"""Letters of a message that fit into a line of a chart on a phone."""


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash of the `index`-th of many lines: six colours, then the same with the next dash."""
    return {
        "color": LINE_COLORS[index % len(LINE_COLORS)],
        "dash": DASHES[index // len(LINE_COLORS) % len(DASHES)],
    }


def label(text: str) -> str:
    """`text` as Plotly shall show it: letter by letter, although Plotly reads `<b>` and entities as markup."""
    return html.escape(text, quote=False)


def base_layout(*, height: int, uirevision: str, title: str = "") -> dict[str, Any]:
    """Layout shared by all figures. A zoom survives as long as `uirevision` stays the same."""
    return {
        "height": height,
        "uirevision": uirevision,
        "template": {},
        "title": {"text": label(title), "font": {"size": 15}, "x": 0, "xanchor": "left", "y": 1, "yanchor": "top"},
        "margin": {"l": 52, "r": 12, "t": 34 if title else 10, "b": 46},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "hovermode": "x unified",
        "hoverlabel": {"namelength": -1},
        "dragmode": "zoom",
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": -48 / max(1, height - 80),
            "yanchor": "top",
            "font": {"size": 12},
        },
        "xaxis": {
            "title": {"text": "step", "standoff": 8},
            "automargin": False,
            "unifiedhovertitle": {"text": "step %{x:,d}"},
        },
        "yaxis": {"title": {"text": "", "standoff": 6}, "automargin": True, "zeroline": False},
    }


def empty_figure(message: str, *, height: int = 260, uirevision: str = "empty", title: str = "") -> Figure:
    """A figure without data that says why there is nothing to see."""
    layout = base_layout(height=height, uirevision=uirevision, title=title)
    layout["xaxis"] = layout["yaxis"] = {"visible": False, "fixedrange": True}
    layout["annotations"] = [
        {
            "text": "<br>".join(label(part) for line in message.splitlines() for part in wrap(line, _NARROW)),
            "x": 0.5,
            "y": 0.5,
            "xref": "paper",
            "yref": "paper",
            "showarrow": False,
            "font": {"size": 13},
        }
    ]
    return Figure([], layout)
