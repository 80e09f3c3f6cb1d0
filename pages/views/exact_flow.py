"""The exact flow: samples of a finite data set without any network, so that only path and noise decide what comes out.

The closed-form velocity takes about a second for a setting. It is computed when the view shows it, and kept for all
sessions of the process: the answer depends on the setting alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import streamlit as st

from pages.session.markdown_escape import escape_markdown
from pages.widgets import boxes, clip_player, metric_row
from pages.widgets.chart import chart
from pages.widgets.frame_measures import cells
from qcore.lab import ExactFlowResult, ExactFlowSettings, Lab, RunInfo, exact_flow, motion_choice
from qcore.viz import ClipRow, Line, curves_over_time, number_words

CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.999, 1.0)
KEPT = 64
SAMPLES = 64
SHOWN = 8
PATHS = {
    "plain": "straight line from noise to data",
    "rab": "bridge through an anchor",
    "quantum": "anchor with a sharp collapse",
    "ring": "noise to anchor, anchor to data",
    "spherical": "along the sphere",
}


@lru_cache(maxsize=KEPT)
def _compute(path: str, correlation: float, t_star: float, repulsion: float, seed: int) -> ExactFlowResult:
    settings = ExactFlowSettings(
        path=path,
        noise_correlation=correlation,
        t_star=t_star,
        repulsion=repulsion,
        samples=SAMPLES,
        seed=seed,
    )
    return exact_flow(settings)


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the choice of the view; it needs nothing of the run but starts from the run's own settings."""
    controls = lab.controls(info.name)
    now = {name: controls[name].value for name in ("flow_path", "noise_correlation", "t_star", "repulsion")}
    st.markdown(
        "**No network, no training:** the best velocity that any network could learn is known in closed form when the "
        "data are a known set of clips. Whatever goes wrong here is due to the path and the noise alone."
    )
    _panel(now)


@st.fragment
def _panel(now: dict[str, Any]) -> None:
    """Settings, samples and explanation; a fragment of its own, so that a slider redraws nothing else."""
    path, correlation, t_star, repulsion, seed = _settings(now)
    with st.spinner("Following the exact velocity of 64 samples …"):
        try:
            result = _compute(path, correlation, t_star, repulsion, seed)
        except ValueError as error:
            st.error(escape_markdown(str(error)), icon=":material/block:")
            return
    left, right = st.columns([5, 4], gap="large")
    with left:
        shown = result.clips[: 2 * SHOWN]
        rows = [
            ClipRow("data", result.data[:SHOWN], hint="eight of the clips that the flow knows"),
            ClipRow("samples", shown, hint=f"{len(shown)} of {result.samples}"),
        ]
        about = f"Data and samples of the exact flow, {path} path, ρ = {number_words(correlation)}"
        clip_player.film(rows, "chart:exact", about)
    with right:
        st.metric(
            "Distinct motions",
            f"{result.distinct} of {result.samples}",
            help="Each sample is matched to the clip of the data whose changes from frame to frame are nearest; this "
            "is how many different clips were matched.",
        )
        _verdict(result.distinct, result.samples, correlation)
        _numbers(result.scalars)
        st.caption(
            f"Computed in {number_words(result.seconds, places=2)} s; a setting that was computed before comes from "
            "the cache."
        )
    _explanation()
    _trajectory(result, path)


def _settings(now: dict[str, Any]) -> tuple[str, float, float, float, int]:
    """The pickers; every choice is in the URL, and starts at the run's value."""
    nearest = min(CORRELATIONS, key=lambda value: abs(value - float(now["noise_correlation"])))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        path = st.segmented_control(
            "Path",
            list(PATHS),
            key="exact_path",
            default=now["flow_path"],
            required=True,
            bind="query-params",
            help=" · ".join(f"{name}: {about}" for name, about in PATHS.items()),
        )
        correlation = st.select_slider(
            "Noise that frames share, ρ",
            CORRELATIONS,
            nearest,
            key="rho",
            bind="query-params",
            width=260,
            format_func=number_words,
            help="0: each frame has its own noise · 1: all frames have the same, as published.",
        )
        t_star = st.slider(
            "Collapse time t*",
            0.05,
            0.9,
            min(0.9, max(0.05, round(float(now["t_star"]) * 20) / 20)),
            step=0.05,
            key="exact_t",
            bind="query-params",
            width=180,
            disabled=path in ("plain", "spherical"),
            help="Time from which the path lets frames separate.",
        )
        repulsion = st.slider(
            "Repulsion",
            0.0,
            20.0,
            min(20.0, round(float(now["repulsion"]) * 2) / 2),
            step=0.5,
            key="exact_repulsion",
            bind="query-params",
            width=180,
            disabled=path != "quantum",
            help="How hard the quantum path pushes frames apart below t*.",
        )
        seed = st.number_input("Seed", 0, 999, 0, key="exact_seed", bind="query-params", width=110)
    return path, float(correlation), float(t_star), float(repulsion), int(seed)


def _verdict(distinct: int, samples: int, correlation: float) -> None:
    match motion_choice(distinct, samples, correlation):
        case "one":
            st.error(
                f"{samples} samples, {'one motion' if distinct == 1 else f'{distinct} motions'}: the noise could "
                "not select the motion.",
                icon=":material/blur_on:",
            )
        case "few":
            st.warning(
                f"With ρ = {number_words(correlation)} too little of the noise differs between frames: many samples "
                "show the same motion.",
                icon=":material/blur_linear:",
            )
        case "remembered":
            st.info(
                "All frames have the same noise, and yet the samples differ: on this path the state is the anchor "
                "alone at t*, and the anchor of one of the known clips says which clip it is. The motion is "
                "memorised, not sampled.",
                icon=":material/anchor:",
            )
        case _:
            st.success("Each sample moves in its own way: the noise selects the motion.", icon=":material/animation:")


def _numbers(scalars: dict[str, dict[str, float]]) -> None:
    """The samples' measures beside the data's."""
    measured = {name: value for name, value in scalars["generated"].items() if name != "energy"}
    boxes.heading("exact_about", "Samples of the exact flow · the data")
    metric_row.metric_row(cells(measured, scalars["data"]))


def _explanation() -> None:
    with st.expander("Why shared noise cannot select the motion", icon=":material/school:", expanded=True):
        st.markdown(
            "Every frame is `z = α · noise + β · anchor + γ · frame`. If all frames get **the same** noise, it cancels "
            "in the difference of two frames, and so does the anchor: what is left is `γ` times the difference of the "
            "data's frames, and at the start, where `γ = 0`, **nothing at all**. All frames of a sample start as one "
            "and the same picture.\n\n"
            "From there on, nothing is random. A frame's difference to its neighbour grows by a rule that starts from "
            "zero, so nothing random can tell it to grow into *this* motion rather than *that* one: the model can only "
            "take the mean of all of them, and the mean of many motions is a ghost.\n\n"
            "No weight, no t*, no repulsion changes that: they scale a difference that is zero. Try the paths with "
            "ρ = 1. (The ring passes through the anchor itself, so a sample can make the movement that belongs to its "
            "anchor: memorised, not sampled.) What helps is independent noise for each frame: ρ = 0, or a "
            "mixture such as 0.9, which keeps frames alike and still lets the noise select the motion. This flow is "
            "exact; a small network learns ρ = 0 well in 1000 steps, and still flickers at 0.9."
        )


def _trajectory(result: ExactFlowResult, path: str) -> None:
    figure = curves_over_time(
        [Line("mean over samples", result.trajectory_t, result.trajectory)],
        uirevision=path,
        title="Distance between the frames of a sample during sampling",
        y_title="RMS distance of frames",
    )
    chart(figure, "chart:trajectory", "Distance between the frames of a sample over the time of sampling")
    st.caption(
        "Independent noise separates the frames from the start. With ρ = 1 the curve starts at 0, and every sample "
        "separates by the same rule."
    )
