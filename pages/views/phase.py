"""Figures of the Phase page: pictures of one step above, curves over all steps below."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import phrases
from pages.widgets import metric_row, step_slider
from pages.widgets.chart import chart, charts_over_steps
from pages.widgets.healthy_lines import healthy_lines
from qcore.config import RunConfig
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import (
    SHARE,
    Line,
    Reference,
    XAxis,
    YAxis,
    coherence_map,
    curves,
    layer_name,
    layer_style,
    portrait,
    rose,
    spectrum,
    spread_layers,
)

MAX_POINTS = 600
PHASE = "phase"
_WINDOWS = (2, 4, 8, 16)
_BUTTONS_UP_TO = 6
_NUMBERS = (
    catalog.PHASE_R,
    catalog.PHASE_COVERAGE,
    catalog.PHASE_IM_RE_RATIO,
    catalog.PHASE_DIMENSION_VARIANCE,
    catalog.PHASE_SEMANTIC_COHERENCE,
    catalog.PHASE_REAL_AXIS_SHARE,
)


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the heading."""

    def options() -> tuple[int, bool]:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            return _layer(lab, info), step_slider.log_steps()

    step_slider.step_page(
        lab,
        info,
        lab.reader(info.name).array_steps(PHASE),
        (PHASE,),
        "phase_every",
        "phases",
        options,
        lambda step, chosen: _pictures(lab, info.name, step, chosen[0]),
        lambda step, _, chosen: _draw_curves(lab, info, step, chosen[1]),
    )


def _layer(lab: Lab, info: RunInfo) -> int:
    """Whose angles the rose shows; the last layer unless another is chosen."""
    count = _layer_count(lab, info.name)
    pick: Any = st.segmented_control if count <= _BUTTONS_UP_TO else st.selectbox
    more = {"required": True} if count <= _BUTTONS_UP_TO else {}
    names = [layer_name(layer) for layer in range(count)]
    chosen = pick(
        "Angles of",
        names,
        key="angles",
        bind="query-params",
        help="Whose angles the right circle shows; the left one shows the wave of the last layer.",
        **(more | ({"default": names[-1]} if more else {"index": count - 1})),
    )
    return names.index(chosen)


def _layer_count(lab: Lab, run: str) -> int:
    """How many sets of angles there are, the encoding's first; of a run without our configuration, as many as were
    measured.
    """
    if isinstance(config := lab.description(run), RunConfig):
        return int(config.value("layers")) + 1
    found = lab.reader(run).arrays(PHASE, needs=("histogram",))
    return 1 if found is None else len(found[1]["histogram"])


def _pictures(lab: Lab, run: str, step: int, layer: int) -> None:
    """The four figures of one step."""
    found = lab.reader(run).arrays(PHASE, step)
    if found is None:
        return
    at, arrays = found
    metric_row.series_row(lab, run, at, _NUMBERS)
    left, right = st.columns(2, gap="large")
    with left:
        empty: tuple[Any, ...] = ([], [], [])
        wave = tuple(arrays.get(f"portrait_{part}", empty[0]) for part in ("phase", "amplitude", "position"))
        chart(
            portrait(*wave, uirevision=run, title=f"Wave of the last layer, {phrases.step_words(at, step)}"),
            "chart:portrait",
            f"Points of the last layer's wave in the complex plane at step {at}, with the unit circle and their mean",
        )
        st.caption(
            "Every point is one phase of one token of a text: its angle and its amplitude. Points all around the "
            "circle are free phases; points in one direction are locked, and the arrow reaches the unit circle when "
            "all agree."
        )
    with right:
        layer = min(layer, len(arrays["histogram"]) - 1)
        chart(
            rose(
                arrays["histogram"][layer],
                uirevision=run,
                title=f"Angles of {_article(layer)}, {phrases.step_words(at, step)}",
            ),
            "chart:rose",
            f"How often each direction occurs among the angles of {layer_name(layer)} at step {at}",
        )
        st.caption(
            "A healthy layer uses the whole circle. An empty half means that amplitude and phase come from one "
            "projection; two narrow petals at 0 and π mean that the imaginary part was dropped."
        )
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            coherence_map(
                arrays["heads"],
                arrays["windows"],
                uirevision=run,
                title=f"Coherence R by layer, {phrases.step_words(at, step)}",
            ),
            "chart:coherence",
            f"Coherence of every head, and over windows of 1 to 16 tokens, by layer at step {at}",
        )
        st.caption(
            "Left: R of each head over the whole text. Right: R inside short windows that end at each token; a window "
            "of one token is 1 by definition, and what stays high at 16 is coherent over a sentence."
        )
    with right:
        chart(
            spectrum(arrays["spectrum"], uirevision=run, title=f"Rhythm of the phases, {phrases.step_words(at, step)}"),
            "chart:spectrum",
            f"Share of the power of the phases over frequency, by layer, at step {at}",
        )
        st.caption(
            "How fast phases turn along the text. A peak at 0 is a phase that stands still, one at ½ alternates from "
            "token to token, one at 0.25 repeats every four tokens."
        )


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, log_x: bool) -> None:
    """Four charts of curves, with a line at the step that the pictures show."""
    run = info.name
    reader = lab.reader(run)
    layers = spread_layers(_layer_count(lab, run))
    of_layer = {catalog.phase_r_layer(layer): layer for layer in layers}
    names = [*of_layer, *(catalog.phase_window(width) for width in _WINDOWS), *_NUMBERS]
    series = reader.scalars_of(names, max_points=MAX_POINTS)
    shared: dict[str, Any] = {
        "uirevision": run,
        "marks": phrases.marks(reader.events()),
        "x": XAxis(log=log_x),
        "height": 280,
    }

    def line(shown: str, name: str, style: dict[str, Any] | None = None) -> Line:
        return Line.of(shown, series[name], style)

    figures = {
        "layers": (
            curves(
                [line(layer_name(layer), name, layer_style(layer)) for name, layer in of_layer.items()],
                title="Coherence R by layer",
                y_title="R, 0 to 1",
                y=SHARE,
                **shared,
            ),
            "Rising curves are phases that lock. All at 1 is not order but a standstill: then the least variance, "
            "below, falls to 0 and the loss gains nothing.",
        ),
        "windows": (
            curves(
                [line(f"{width} tokens", catalog.phase_window(width)) for width in _WINDOWS],
                title="Coherence inside windows",
                y_title="R, 0 to 1",
                y=SHARE,
                **shared,
            ),
            "Mean over the layers of R inside causal windows. Independent phases would give about 0.64, 0.45, 0.32 and "
            "0.22 for 2, 4, 8 and 16 tokens: order is what lies above.",
        ),
        "balance": (
            curves(
                [line("Var(Im) ÷ Var(Re)", catalog.PHASE_IM_RE_RATIO)],
                **catalog.series_words(catalog.PHASE_IM_RE_RATIO).titles,
                references=[
                    Reference("1: equal", 1.0, "Both channels carry the same variance."),
                    *healthy_lines(catalog.PHASE_IM_RE_RATIO),
                ],
                **shared,
            ),
            "The wave's imaginary against its real part. A curve that falls to 0 is an imaginary channel that dies.",
        ),
        "circle": (
            curves(
                [
                    line("coverage", catalog.PHASE_COVERAGE),
                    line("least variance", catalog.PHASE_DIMENSION_VARIANCE),
                    line("semantic coherence", catalog.PHASE_SEMANTIC_COHERENCE),
                ],
                title="Freedom of the phases",
                y_title="share, −1 to 1",
                references=[
                    *healthy_lines(catalog.PHASE_COVERAGE, "coverage"),
                    *healthy_lines(catalog.PHASE_DIMENSION_VARIANCE, "variance"),
                ],
                y=YAxis(least=0.2),
                **shared,
            ),
            "Healthy phases cover the circle and differ from token to token. Semantic coherence rises when tokens of "
            "similar meaning come to share their phases.",
        ),
    }
    figures["balance"][0].layout["yaxis"]["rangemode"] = "tozero"
    charts_over_steps(figures, step, info.step)


def _article(layer: int) -> str:
    return layer_name(layer) if layer else "the encoding"
