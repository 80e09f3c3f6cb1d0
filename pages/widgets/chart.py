"""A Plotly chart that keeps its zoom, pan, hidden traces and a drag in progress while its data change.

Streamlit 1.67's own element is made anew for every change of the data (streamlit#16052), which resets the view at each
refresh. This one hands each new figure to `Plotly.react` in place, and `uirevision` decides what outlives it.
A page that is opened again shows the part of a chart that was zoomed into before. The library is the one inside the
plotly package, copied once to ./static, so that nothing is fetched from outside. A chart outside the window or in a
hidden tab waits, because drawing is what watching costs the machine. Text and grid take the colours of the theme.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import streamlit as st

from pages.session.assets import module_script, served_copy
from qcore.viz import Figure, heading, script_file, with_cursor

_URL = served_copy(*script_file())
_mount = st.components.v2.component(
    "collapse_lab_plot",
    html='<div class="lab-plot" style="width:100%"></div>',
    js=module_script("chart"),
    isolate_styles=False,
)


def chart(figure: Figure, key: str, alt: str, step: int | None = None) -> None:
    """Draw a figure; the key is its identity through refreshes.

    Args:
        alt: what it shows, for screen readers.
        step: of the moment that curves over steps are drawn from; those that end before it say so.
    """
    shown = figure if step is None else with_last_step(figure, step)
    # Bytes pass through Streamlit as they are; an object would be serialised and parsed once more for its identity.
    _mount(key=key, data=plot_json(shown, alt, key).encode())


def with_last_step(figure: Figure, step: int) -> Figure:
    """Curves over steps that end before `step` with their last step in the title; any other figure as it is."""
    title = figure.layout.get("title") or {}
    if not title.get("text") or not str(figure.layout["xaxis"].get("title", {}).get("text", "")).startswith("step"):
        return figure
    ends = [int(one["x"][-1]) for one in figure.data if one.get("name") != "changes" and len(one.get("x", ()))]
    if not ends or max(ends) >= step:
        return figure
    head, rows, unit = title["text"].partition("<br>")
    text = f"{head}, to step {max(ends):,}{rows}{unit}"
    return Figure(figure.data, figure.layout | {"title": title | {"text": text}})


def plot_json(figure: Figure, alt: str, key: str) -> str:
    """A figure as `pages/assets/chart.js` takes it.

    Args:
        key: names the chart on its page.
    """
    return f'{{"figure":{figure.to_json()},"alt":{json.dumps(alt)},"url":{json.dumps(_URL)},"key":{json.dumps(key)}}}'


def charts_over_steps(figures: Mapping[str, tuple[Figure, str]], step: int | None, newest: int | None = None) -> None:
    """Curves in two columns, each with its caption and a line at `step`, if there is one.

    Args:
        newest: the moment's step.
    """
    for index, (key, (figure, about)) in enumerate(figures.items()):
        if index % 2 == 0:
            columns = st.columns(2, gap="large")
        with columns[index % 2]:
            chart(with_cursor(figure, step), f"chart:{key}", f"{heading(figure)} over steps", newest)
            st.caption(about)
