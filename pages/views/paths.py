"""The view of the Video page about the flow itself: what the path mixes at every time, the anchor, how the frames of a
sample part on their way from noise to data, and the flow's own curves over steps.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import phrases
from pages.views import frames
from pages.widgets import clip_player, step_slider
from pages.widgets.chart import chart, charts_over_steps
from pages.widgets.frame_measures import PICTURES, measure_figure
from pages.widgets.healthy_lines import healthy_lines
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import (
    SHARE,
    SOURCES,
    ClipRow,
    Line,
    Reference,
    XAxis,
    anchor_spread,
    curves,
    frame_spectrum,
    path_weights,
    series_words,
    source_style,
    tomography,
)

PATH, ANCHOR = "path", "anchor"
MAX_POINTS = 600
_KINDS = (PATH, ANCHOR, frames.GENERATED)
_WEIGHTS = ("alpha", "beta", "gamma")
_NOISE = {
    catalog.FLOW_NOISE_CORRELATION: "in training",
    catalog.FLOW_SAMPLE_NOISE_CORRELATION: "when sampling",
}
_CHECKS = (catalog.FLOW_POSITION_RESPONSE, catalog.FLOW_VELOCITY_ERROR)


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the choice of the view."""
    reader = lab.reader(info.name)
    steps = sorted({step for kind in _KINDS for step in reader.array_steps(kind)})

    def options() -> tuple[int, bool]:
        anchor = reader.arrays(ANCHOR)
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            return (frames.pick_clip(len(anchor[1]["mean"])) if anchor else 0), step_slider.log_steps()

    step_slider.step_page(
        lab,
        info,
        steps,
        _KINDS,
        "frames_every",
        "times of the path",
        options,
        lambda step, chosen: _pictures(lab, info.name, step, chosen[0]),
        lambda step, _, chosen: _draw_curves(lab, info, step, chosen[1]),
    )


def _pictures(lab: Lab, run: str, step: int, clip: int) -> None:
    reader = lab.reader(run)
    left, right = st.columns(2, gap="large")
    with left:
        _path(reader.arrays(PATH, step), run, step)
    with right:
        _anchor(reader.arrays(ANCHOR, step), run, step, clip)
    left, right = st.columns(2, gap="large")
    made = reader.arrays(frames.GENERATED, step)
    with left:
        _tomography(made, run, step)
    with right:
        _spectra(reader.arrays(frames.FRAMES, step), made, run, step)


def _path(found: tuple[int, dict[str, Any]] | None, run: str, step: int) -> None:
    at, arrays = found or (None, {})
    when = phrases.step_words(at, step)
    figure = path_weights(
        arrays.get("t", ()),
        {name: arrays[name] for name in _WEIGHTS if name in arrays},
        sampled=arrays.get("sampled", ()),
        jumps=arrays["jumps"].tolist() if "jumps" in arrays else (),
        uirevision=run,
        title=f"What z is made of, {when}",
    )
    chart(figure, "chart:path", f"Weights of noise, anchor and data over time, {when}")
    st.caption(
        "z = α · noise + β · anchor + γ · frame. Grey bars and ticks: the times that the newest batch was trained at. "
        "With the same noise in every frame, the difference of two frames is γ times that of the data: these weights "
        "alone cannot separate frames that the noise does not separate."
    )


def _anchor(found: tuple[int, dict[str, Any]] | None, run: str, step: int, clip: int) -> None:
    if found is None:
        st.markdown("**Anchor**")
        st.info(
            "This path has no anchor: choose the `rab`, `quantum` or `ring` path under *Flow* in the control room to "
            "see one."
        )
        return
    at, arrays = found
    when = phrases.step_words(at, step)
    mean = arrays["mean"]
    names = [f"clip {number + 1}" for number in range(len(mean))]
    pictures = ClipRow(f"Anchor, mean, {when}", mean[:, None], names)
    clip_player.film([pictures], "chart:anchor", f"Mean pictures of the anchors, {when}")
    spread = arrays["spread"]
    which = f"of the anchor of clip {clip + 1}" if len(spread) > 1 else "of the anchors across clips"
    figure = anchor_spread(
        spread[min(clip, len(spread) - 1)], uirevision=run, title=f"Spread {which}, {when}", height=260
    )
    chart(figure, "chart:anchor_spread", f"Spread {which}, {when}")
    st.caption(
        "The one picture that all frames of a clip are pulled to, and its spread: from clip to clip, or as the anchor "
        "network learned it for a clip. Where the spread is 0, the anchor is the same for all."
    )


def _tomography(found: tuple[int, dict[str, Any]] | None, run: str, step: int) -> None:
    at, arrays = found or (None, {})
    when = phrases.step_words(at, step)
    figure = tomography(
        arrays.get("tomography_t", ()),
        arrays.get("tomography", ()),
        uirevision=run,
        title=f"State tomography of the samples, {when}",
    )
    chart(figure, "chart:tomography", f"Singular spectrum of the frames over the time of sampling, {when}")
    st.caption(
        "In how many independent pictures the frames of z lie, from noise to data. Independent noise starts spread "
        "over all rows, shared noise starts in the first alone; what ends in the first row is a ghost."
    )


def _spectra(
    measured: tuple[int, dict[str, Any]] | None, made: tuple[int, dict[str, Any]] | None, run: str, step: int
) -> None:
    kept = {"data": measured, "denoised": measured, "generated": made}
    spectra = {
        source: frames.of_source(found[1], "singular", source) for source, found in kept.items() if found is not None
    }
    when = phrases.steps_words({source: found[0] for source, found in kept.items() if found is not None}, step)
    figure = frame_spectrum(spectra, uirevision=run, title=f"Independent pictures in a clip, {when}")
    chart(figure, "chart:spectrum", f"Singular spectrum of the frames of data, denoised and generated, {when}")
    st.caption(
        "The same at the end of sampling. A curve that falls faster than the data's has too few pictures; one that "
        "stays level has as many as noise."
    )


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, log_x: bool) -> None:
    run = info.name
    reader = lab.reader(run)
    names = [catalog.frames(source, name) for source in SOURCES for name in ("energy", "entanglement")]
    anchor = {catalog.ANCHOR_ENTROPY: "entropy"}
    size = {catalog.ANCHOR_MEAN: "mean", catalog.ANCHOR_SPREAD: "spread"}
    series = reader.scalars_of([*names, *anchor, *size, *_NOISE, *_CHECKS, catalog.FLOW_T_STAR], max_points=MAX_POINTS)
    data: dict[str, float] = reader.meta().get("data_frames") or {}
    shared: dict[str, Any] = {"uirevision": run, "marks": phrases.marks(reader.events()), "x": XAxis(log=log_x)}

    def lines(chosen: dict[str, str]) -> list[Line]:
        return [Line.of(shown, series[name]) for name, shown in chosen.items()]

    entanglement = catalog.frame_measure("entanglement")
    of_data = [Reference("data", data["entanglement"])] if "entanglement" in data else []
    figures = {
        "energy": (
            measure_figure("energy", PICTURES["energy"], series, data, **shared),
            PICTURES["energy"].words.meaning,
        ),
        "entanglement": (
            curves(
                [
                    Line.of(source, found, source_style(source))
                    for source in SOURCES
                    for found in [series[catalog.frames(source, "entanglement")]]
                ],
                title=entanglement.heading,
                y_title=entanglement.unit,
                references=of_data,
                height=290,
                message="Not measured so far.",
                **shared,
            ),
            entanglement.meaning,
        ),
        "noise": (
            curves(
                lines(_NOISE),
                title="Noise that frames share",
                y_title="share ρ",
                y=SHARE,
                height=290,
                message="Not measured so far.",
                **shared,
            ),
            "Training and sampling must use the same share: a model that never saw shared noise makes something else "
            "of it.",
        ),
        "t_star": (
            curves(
                lines({catalog.FLOW_T_STAR: "t*"}),
                **series_words(catalog.FLOW_T_STAR).titles,
                y=SHARE,
                height=290,
                message="Not measured so far.",
                **shared,
            ),
            series_words(catalog.FLOW_T_STAR).meaning,
        ),
    }
    if any(len(series[name]) for name in (*anchor, *size)):
        figures["anchor_entropy"] = (
            curves(lines(anchor), **series_words(catalog.ANCHOR_ENTROPY).titles, height=290, **shared),
            series_words(catalog.ANCHOR_ENTROPY).meaning,
        )
        figures["anchor_size"] = (
            curves(lines(size), title="Anchor, mean and spread", y_title="standardised pixels", height=290, **shared),
            "Mean of the anchor, and how far frames lie from it.",
        )
    for name in _CHECKS:
        if len(series[name]):
            said = series_words(name)
            check = curves(
                lines({name: said.title}), **said.titles, references=healthy_lines(name), height=290, **shared
            )
            check.layout["yaxis"] |= {"rangemode": "tozero", "exponentformat": "power"}
            figures[name.rpartition("/")[2]] = (check, said.meaning)
    charts_over_steps(figures, step, info.step)
