"""Figures of the Flux page: discs, thresholds and connections of one step above, curves over all steps below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.session import phrases
from pages.widgets import metric_row, step_slider
from pages.widgets.chart import chart, charts_over_steps
from qcore.config import RunConfig
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import SHARE, Line, XAxis, curves, kernel, layer_name, layer_style, spread_layers
from qcore.viz.flux import disc, measures_along_text, past_figure

INTERNALS = "internals"
_NEEDS = ("angle", "radius", "threshold", "kept", "strength", "similarity", "connections", "tokens")
_MAX_POINTS = 600
_BUTTONS_UP_TO = 9
_NUMBERS = (
    catalog.FLUX_KEPT_SHARE,
    catalog.FLUX_THRESHOLD_MEAN,
    catalog.FLUX_STRENGTH,
    catalog.FLUX_RADIUS_MEAN,
    catalog.FLUX_DT_MEAN,
    catalog.FLUX_SKIP,
)


@dataclass(frozen=True)
class DiscChoice:
    """What is picked, all counted from 0; layer of the flow. token None is the last one."""

    layer: int
    head: int
    plane: int
    token: int | None
    log_x: bool


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the heading."""
    reader = lab.reader(info.name)
    newest = reader.arrays(INTERNALS, needs=_NEEDS)
    arrays = {} if newest is None else newest[1]
    step_slider.step_page(
        lab,
        info,
        reader.array_steps(INTERNALS) if "angle" in arrays else (),
        (INTERNALS,),
        "phase_every",
        "discs",
        lambda: _choice(arrays, _texts(lab, info.name, arrays["tokens"])),
        lambda step, choice: _pictures(lab, info.name, step, choice),
        lambda step, _, choice: _draw_curves(lab, info, step, choice.log_x),
    )


def _choice(arrays: dict[str, Any], texts: list[str]) -> DiscChoice:
    """The pickers; every choice is in the URL."""
    layers, heads = arrays["threshold"].shape[:2]
    planes = arrays["angle"].shape[2]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = _pick("Layer", layers, layers - 1, "layer", "Whose flow is shown.")
        head = _pick("Group", heads, 0, "head", "Group of planes with connections of its own.")
        plane = _pick("Plane", planes, head * (planes // heads), "plane", "Plane whose disc is drawn.")
        names = [f"{place + 1}: {text}" for place, text in enumerate(texts)]
        token = st.selectbox(
            "Token",
            names,
            len(names) - 1,
            key="token",
            bind="query-params",
            width=180,
            help="Whose likeness to its past and whose connections are drawn.",
        )
        log_x = step_slider.log_steps()
    return DiscChoice(layer, head, plane, names.index(token) if token in names else None, log_x)


def _pick(label: str, count: int, index: int, key: str, about: str) -> int:
    options = [str(number + 1) for number in range(count)]
    if count <= _BUTTONS_UP_TO:
        default = options[index]
        chosen = st.segmented_control(
            label, options, default=default, required=True, key=key, bind="query-params", help=about
        )
        return options.index(chosen)
    return options.index(st.selectbox(label, options, index, key=key, bind="query-params", width=110, help=about))


def _pictures(lab: Lab, run: str, step: int, choice: DiscChoice) -> None:
    """The four figures of one step."""
    found = lab.reader(run).arrays(INTERNALS, step, needs=_NEEDS)
    if found is None or "angle" not in found[1]:
        return
    at, arrays = found
    metric_row.series_row(lab, run, at, _NUMBERS)
    texts = _texts(lab, run, arrays["tokens"])
    layer, head = choice.layer, choice.head
    token = min(len(texts) - 1 if choice.token is None else choice.token, len(texts) - 1)
    where = f"layer {layer + 1}, group {head + 1}, {phrases.step_words(at, step)}"
    plane = choice.plane
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            disc(
                arrays["angle"][:, :, plane],
                arrays["radius"][:, :, plane],
                texts,
                layer=layer + 1,
                token=token,
                uirevision=run,
                title=f"Plane {plane + 1} after layer {layer + 1}, {phrases.step_words(at, step)}",
            ),
            "chart:disc",
            f"States of the tokens of a text on plane {plane + 1} after layer {layer + 1} at step {at}",
        )
        st.caption(
            "Every point is a token, turned back by its position: equal tokens start at one place. Grey paths lead "
            "there from the encoding. Tokens that flow together have become alike; all in one place carry nothing."
        )
    with right:
        chart(
            past_figure(
                arrays["similarity"][layer, head, token, : token + 1],
                arrays["connections"][layer, head, token, : token + 1],
                float(arrays["threshold"][layer, head, token]),
                texts,
                uirevision=run,
                title=f"The past of “{texts[token]}”, {where}",
            ),
            "chart:past",
            f"Likeness of token {token + 1} to each token before it, its threshold and its connections, {where}",
        )
        st.caption(
            "Above: how much the chosen token resembles each token up to itself, against its threshold. Below: the "
            "weight with which it reads each; together they are 1."
        )
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            measures_along_text(
                [
                    ("threshold", arrays["threshold"][layer, head]),
                    ("share kept", arrays["kept"][layer, head]),
                    ("strength", arrays["strength"][layer, head]),
                ],
                texts,
                uirevision=run,
                title=f"Thresholds along the text, {where}",
                y_title="0 to 1",
            ),
            "chart:thresholds",
            f"Threshold, share kept and strength of connections at every token, {where}",
        )
        st.caption(
            "Each token's threshold comes from its own past alone. A share kept at 1 is an average over everything; "
            "near 0, tokens keep to themselves."
        )
    with right:
        chart(
            kernel(
                arrays["connections"][layer, head],
                texts,
                signed=False,
                uirevision=run,
                title=f"Connections, {where}",
                height=440,
            ),
            "chart:connections",
            f"Weights with which each token reads the others, {where}",
        )
        st.caption(
            "A row is a token that reads, a column one that it reads; rows sum to 1. Beyond the grey line lies the "
            "future, which must be empty."
        )


def _texts(lab: Lab, run: str, tokens: Any) -> list[str]:
    known = lab.token_labels(run)
    ids = [int(token) for token in tokens.tolist()]
    return [known[token] if token < len(known) else str(token) for token in ids]


def _layer_count(lab: Lab, run: str) -> int:
    """Layers; of a run without our configuration, as many as were measured."""
    if isinstance(config := lab.description(run), RunConfig):
        return int(config.value("layers"))
    found = lab.reader(run).arrays(INTERNALS, needs=_NEEDS)
    return 0 if found is None else len(found[1]["threshold"])


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, log_x: bool) -> None:
    """Four charts of curves, with a line at the step that the pictures show."""
    run = info.name
    reader = lab.reader(run)
    layers = [layer for layer in spread_layers(_layer_count(lab, run) + 1) if layer]
    of_layer = {part: [catalog.flux_layer(part, layer) for layer in layers] for part in ("kept", "dt", "radius")}
    means = _NUMBERS
    series = reader.scalars_of(
        [*means, *(name for names in of_layer.values() for name in names)], max_points=_MAX_POINTS
    )
    shared: dict[str, Any] = {
        "uirevision": run,
        "marks": phrases.marks(reader.events()),
        "x": XAxis(log=log_x),
        "height": 280,
        "y_title": "0 to 1",
        "y": SHARE,
    }

    def line(shown: str, name: str, style: dict[str, Any] | None = None) -> Line:
        return Line.of(shown, series[name], style)

    def by_layer(part: str) -> list[Line]:
        named = zip(layers, of_layer[part], strict=True)
        return [line(layer_name(layer), name, layer_style(layer)) for layer, name in named]

    figures = {
        "kept_steps": (
            curves(by_layer("kept"), title="Share of the past that is kept", **shared),
            "How much of a token's past lies above its threshold. A soft gate reads a little of the rest too.",
        ),
        "threshold_steps": (
            curves(
                [line("threshold", catalog.FLUX_THRESHOLD_MEAN), line("strength", catalog.FLUX_STRENGTH)],
                title="Threshold and strength",
                **shared,
            ),
            "Strength is the mean weight of all connections before they are normalised; it also drives the radii.",
        ),
        "radius_steps": (
            curves(by_layer("radius"), title="Mean radius by layer", **shared),
            "The flow can only shorten the longest state, and radii grow again with the strength of connections. All "
            "at the bounds means that they tell tokens apart no more.",
        ),
        "dt_steps": (
            curves([*by_layer("dt"), line("skip, mean", catalog.FLUX_SKIP)], title="Steps of the flow", **shared),
            "A learned step near 0 switches a layer's flow off, and its skip opens; a sampled one is resampled for "
            "every row in training; its mean, which evaluation uses, is plotted here.",
        ),
    }
    charts_over_steps(figures, step, info.step)
