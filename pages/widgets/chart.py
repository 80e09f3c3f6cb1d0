"""A Plotly chart that keeps its zoom, pan, hidden traces and a drag in progress while its data change.

Streamlit 1.67's own element is made anew for every change of the data (streamlit#16052), which resets the view at each
refresh. This one hands each new figure to `Plotly.react` in place, and `uirevision` decides what outlives it.
The library is the one inside the plotly package, copied once to ./static, so that nothing is fetched from outside.
A chart outside the window or in a hidden tab waits, because drawing is what watching costs the machine.
Text and grid take the colours of the page's theme.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from pages.session.moment import HUB
from qcore.viz import Figure, heading, script_file, with_cursor

PLOT_SCRIPT = """
const library = (url) => window.collapseLabPlotly ??= new Promise((resolve, reject) => {
  const tag = document.createElement("script");
  tag.src = url;
  tag.onload = () => resolve(window.Plotly);
  tag.onerror = () => { window.collapseLabPlotly = undefined; reject(new Error("cannot load " + url)); };
  document.head.appendChild(tag);
});
const CONFIG = {
  responsive: true, displaylogo: false, doubleClick: "reset+autosize", showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "sendChartToCloud"],
};
const themed = (layout, host) => {
  const style = getComputedStyle(host), color = (name) => style.getPropertyValue(name).trim();
  const text = color("--st-text-color") || style.color, grid = color("--st-border-color") || "rgba(128,136,144,.3)";
  const axis = {gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickfont: {size: 12},
    spikecolor: grid, spikethickness: 1, spikedash: "solid", title: {font: {size: 13}}};
  const panel = color("--st-secondary-background-color");
  layout.paper_bgcolor = layout.plot_bgcolor = color("--st-background-color") || layout.plot_bgcolor;
  layout.template = {layout: {
    font: {family: style.fontFamily, color: text}, xaxis: {...axis, showgrid: false}, yaxis: axis,
    title: {font: {weight: 600}},
    hoverlabel: {bgcolor: panel, bordercolor: grid, font: {color: text, family: style.fontFamily}},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: text},
  }};
  return layout;
};
// The last step of the curves of a figure over steps; nothing for pictures, whose titles name their step.
const NUMBERS = {f8: Float64Array, f4: Float32Array, i4: Int32Array};
const numbers = (column) => {
  if (!column?.bdata) return column ?? [];
  const bytes = Uint8Array.from(atob(column.bdata), (letter) => letter.charCodeAt(0));
  return new NUMBERS[column.dtype](bytes.buffer);
};
const reach = (figure) => {
  if (!/^step/.test(figure?.layout.xaxis?.title?.text ?? "")) return undefined;
  let last;
  for (const {x, name} of figure.data) {
    const column = name === "changes" ? [] : numbers(x);
    if (column.length) last = Math.max(last ?? -Infinity, column[column.length - 1]);
  }
  return last;
};
// A chart that could not be drawn says to which step it goes, or that it is an earlier picture, until it is.
const tell = (host) => {
  const drawn = host.reached, is_late = host.drawn && host.drawn !== host.latest;
  const wanted = is_late ? reach(host.latest) : drawn;
  let text = "";
  if (is_late && drawn !== undefined && wanted !== drawn) text = `curve to step ${drawn.toLocaleString("en")}`;
  if (is_late && drawn === undefined && host.named !== host.latest.layout.title?.text) text = "earlier picture";
  if (drawn !== undefined) host.dataset.reached = drawn; else delete host.dataset.reached;
  if (text && !host.behind) {
    host.behind = document.createElement("span");
    host.behind.className = "lab-behind";
  }
  if (!host.behind) return;
  host.behind.textContent = text;
  if (text && host.behind.parentElement !== host) host.append(host.behind);
  if (!text) host.behind.remove();
};
const plot = (host, {figure, alt, url}) => {
  host.setAttribute("role", "figure");
  host.setAttribute("aria-label", alt);
  host.style.minHeight = figure.layout.height + "px";
  host.style.position = "relative";
  const draw = (Plotly) => {
    // A figure is handed over once: Plotly writes a person's view into it. While a person drags, or cannot see the
    // chart, the newest one waits.
    if (host.latest !== figure || host.drawn === figure || host.held || !host.isConnected) return;
    if (!host.seen || document.hidden) return;
    host.drawn = figure;
    host.reached = reach(figure);
    host.named = figure.layout.title?.text;
    Plotly.react(host, figure.data, themed(figure.layout, host), CONFIG);
    // Its tools are for the mouse: whoever tabs through a page would meet four stops a chart before the next control.
    for (const tool of host.querySelectorAll(".modebar-btn")) tool.tabIndex = -1;
    host.sized ??= new ResizeObserver(() => host.isConnected && host.offsetWidth && Plotly.Plots.resize(host));
    host.sized.observe(host);
    tell(host);
  };
  // At once where the library is there: a chart changes in the same task as the words around it.
  const redraw = () => { if (window.Plotly) draw(window.Plotly); else library(url).then(draw); };
  host.latest = figure;
  host.redraw = redraw;
  if (host.held === undefined) {
    host.held = host.seen = false;
    new IntersectionObserver((entries) => {
      host.seen = entries.at(-1).isIntersecting;
      host.redraw();
    }, {rootMargin: "100px"}).observe(host);
    document.addEventListener("visibilitychange", () => host.redraw());
    host.addEventListener("pointerdown", () => { host.held = true; }, true);
    for (const end of ["pointerup", "pointercancel"])
      window.addEventListener(end, () => {
        if (host.held) setTimeout(() => { host.held = false; host.redraw(); }, 350);
      }, true);
  }
  redraw();
  tell(host);
};
"""
"""`plot(element, {figure, alt, url})` in JavaScript."""

_SCRIPT = f"""{HUB}{PLOT_SCRIPT}
export default function ({{data, parentElement}}) {{
  const host = parentElement.querySelector(".lab-plot"), sent = JSON.parse(new TextDecoder().decode(data));
  host.style.minHeight = sent.figure.layout.height + "px";
  hub.offer(host, () => plot(host, sent));
}}
"""
PLOT_STYLE = """
.lab-behind{position:absolute;right:.5rem;bottom:.25rem;z-index:2;padding:.05rem .45rem;border-radius:.4rem;
font-size:.8rem;background:var(--st-secondary-background-color);border:1px solid var(--st-border-color)}
"""


def _library() -> str:
    """Path of the library below the server's address; copies the file where the server finds it, if it is not there."""
    source, name = script_file()
    place = Path(__file__).parents[2] / "static" / name
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        unfinished = place.with_suffix(f".{os.getpid()}")
        shutil.copyfile(source, unfinished)
        unfinished.replace(place)
    return f"app/static/{name}"


_URL = _library()
_mount = st.components.v2.component(
    "collapse_lab_plot",
    html='<div class="lab-plot" style="width:100%"></div>',
    css=PLOT_STYLE,
    js=_SCRIPT,
    isolate_styles=False,
)


def chart(figure: Figure, key: str, alt: str, step: int | None = None) -> None:
    """Draw a figure; the key is its identity through refreshes.

    Args:
        alt: what it shows, for screen readers.
        step: of the moment that curves over steps are drawn from; those that end before it say so.
    """
    shown = figure if step is None else dated(figure, step)
    # Bytes pass through Streamlit as they are; an object would be serialised and parsed once more for its identity.
    _mount(key=key, data=plot_json(shown, alt).encode())


def dated(figure: Figure, step: int) -> Figure:
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


def plot_json(figure: Figure, alt: str) -> str:
    """A figure as the script's `plot` takes it."""
    return f'{{"figure":{figure.to_json()},"alt":{json.dumps(alt)},"url":{json.dumps(_URL)}}}'


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
