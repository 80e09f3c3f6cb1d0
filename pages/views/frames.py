"""The Frames view of the Video page: clips that play, their frames side by side, how alike frames are, and the measures
over all steps.

Numbers of the data, of denoised clips and of generated clips are never mixed: three curves, and the data's own value
over held-out clips as a dashed line. Measures come in two groups, told apart in words: those that flicker can fake, and
those that it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.session import phrases
from pages.session.markdown_escape import escape_markdown
from pages.widgets import boxes, clip_player, metric_row, step_slider
from pages.widgets.chart import chart
from pages.widgets.frame_measures import MEASURES, MOTION, PICTURES, cells, guide_limits, measure_figure
from qcore.base.words import number_words
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import SOURCES, ClipRow, XAxis, lag_changes, similarity_map, with_cursor

FRAMES, GENERATED = "frames", "generated"
MAX_POINTS = 600
_SKIPPED = 5
_DENOISED = "denoised x̂₀"


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the choice of the view."""
    reader = lab.reader(info.name)
    meta = reader.meta()
    skipped_files(meta.get("skipped_files") or [], meta.get("skipped_count"))
    newest = reader.arrays(FRAMES)
    step_slider.step_page(
        lab,
        info,
        reader.array_steps(FRAMES) if newest is not None else (),
        (FRAMES,),
        "frames_every",
        "frames",
        lambda: _options(0 if newest is None else len(newest[1]["data"])),
        lambda step, chosen: _pictures(lab, info.name, step, chosen[0]),
        lambda step, position, chosen: _draw_curves(lab, info, step, position.shown, *chosen[1:]),
    )


def _options(clips: int) -> tuple[int, bool, bool]:
    """Which clip, whether steps are logarithmic, and whether the guide's bands are drawn."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        clip = pick_clip(clips)
        log_x = step_slider.log_steps()
        bands = st.toggle(
            "The guide's bands",
            key="bands",
            bind="query-params",
            help="Draw the limits that the published guide calls healthy. What was measured about them is in the view "
            "*The guide's numbers*.",
        )
    return clip, log_x, bands


def pick_clip(count: int) -> int:
    """Which of the measured clips the strips show, counted from 0; in the URL."""
    if count < 2:
        return 0
    options = [str(number + 1) for number in range(count)]
    chosen = st.segmented_control(
        "Clip",
        options,
        key="clip",
        default=options[0],
        required=True,
        bind="query-params",
        help="The clip whose frames are laid out side by side.",
    )
    return options.index(chosen)


def skipped_files(skipped: Sequence[Any], count: int | None) -> None:
    """Name files of a folder that could not be read.

    Args:
        count: of all of them; None in a run that kept each by name.
    """
    if not skipped:
        return
    total = count or len(skipped)
    lines = [f"{one['path']}: {one['reason']}" if isinstance(one, dict) else str(one) for one in skipped[:_SKIPPED]]
    more = total - len(lines)
    st.warning(
        f"{total:,} file{'s' if total > 1 else ''} of the folder could not be read and "
        f"{'are' if total > 1 else 'is'} left out.  \n"
        + "  \n".join(escape_markdown(line) for line in lines)
        + (f"  \nand {more:,} more" if more > 0 else ""),
        icon=":material/movie_off:",
    )


def _pictures(lab: Lab, run: str, step: int, clip: int) -> None:
    """Clips, strips, numbers and similarity of one step."""
    reader = lab.reader(run)
    found = reader.arrays(FRAMES, step)
    if found is None:
        return
    at, arrays = found
    generated = reader.arrays(GENERATED, step)
    times = [f"t = {number_words(time, places=2)}" for time in arrays["t"].tolist()]
    when = phrases.step_words(at, step)
    rows = [
        ClipRow(f"data, {when}", arrays["data"], hint="clips of the newest batch"),
        ClipRow(f"noised z, {when}", arrays["noised"], times, "the model's input"),
        ClipRow(f"{_DENOISED}, {when}", arrays["denoised"], times, "the model's estimate of the clean clip"),
    ]
    if generated is not None:
        made, clips = generated[0], generated[1]["clips"]
        count = len(arrays["data"])
        rows.append(ClipRow(f"generated, {phrases.step_words(made, step)}", clips[:count], hint="from noise alone"))
    left, right = st.columns([5, 6], gap="large")
    with left:
        clip_player.film(rows, "chart:film", f"Clips of the data, noised, denoised and generated, at step {at}")
    with right:
        _numbers(reader, step)
        one = [
            ClipRow(f"{row.label}, clip {clip + 1}", row.clips_NFHWC[clip : clip + 1])
            for row in rows
            if clip < len(row.clips_NFHWC)
        ]
        clip_player.film_strip(one, "chart:strip", f"All frames of clip {clip + 1} side by side, at step {at}")
    st.caption(
        "Data, noised and denoised clips in a column belong together; the generated ones come from "
        "noise. A ghost is a clip whose frames are all the same blur; in flicker, frames are unrelated to each "
        "other."
    )
    _similarity(run, step, found, generated)


def _numbers(reader: Any, step: int) -> None:
    """Generated clips against the data, of the newest measurement up to the step: what that one lacks is a dash, as the
    coherence of clips that stand still.
    """
    series = reader.scalars_of([catalog.frames("generated", name) for name in MEASURES], stop=step + 1)
    known = {name: found for name, found in zip(MEASURES, series.values(), strict=True) if len(found)}
    if known:
        made = max(int(found.steps[-1]) for found in known.values())
        of_then = {name: float(found.values[-1]) for name, found in known.items() if int(found.steps[-1]) == made}
        boxes.heading("numbers_about", f"Generated clips · the data, {phrases.step_words(made, step)}")
        metric_row.metric_row(
            cells({name: of_then.get(name) for name in MEASURES}, reader.meta().get("data_frames") or {})
        )


def _similarity(
    run: str, step: int, found: tuple[int, dict[str, Any]], generated: tuple[int, dict[str, Any]] | None
) -> None:
    at, arrays = found
    made, of_generated = generated or (None, {})
    maps = {
        "data": (arrays, f"Data, {phrases.step_words(at, step)}"),
        "denoised": (arrays, f"Denoised, {phrases.step_words(at, step)}"),
        "generated": (of_generated, f"Generated, {phrases.step_words(made, step)}"),
    }
    for column, (source, (kept, title)) in zip(st.columns(3, gap="medium"), maps.items(), strict=True):
        with column:
            figure = similarity_map(of_source(kept, "similarity", source), uirevision=run, title=title)
            chart(figure, f"chart:similarity_{source}", f"Cosine of every pair of frames, {title}")
    st.caption(
        "How alike every two frames of a clip are, mean over clips, all three on one scale. In moving pictures the "
        "likeness fades with the distance from the diagonal; one even blue is a ghost, an empty map with a diagonal is "
        "flicker or noise."
    )


def of_source(arrays: dict[str, Any], name: str, source: str) -> Any:
    """An array of one source; empty where there is none, as when a path says nothing of the data at any drawn time."""
    return arrays.get(f"{name}_{source}", arrays.get(name, ()))


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, shown: int, log_x: bool, bands: bool) -> None:
    """The measures over steps, in their two groups.

    Args:
        step: chosen, None for the newest.
        shown: that of the pictures.
    """
    run = info.name
    reader = lab.reader(run)
    series = reader.scalars_of(
        [catalog.frames(source, name) for source in SOURCES for name in MEASURES], max_points=MAX_POINTS
    )
    data = reader.meta().get("data_frames") or {}
    limits = guide_limits() if bands else {}
    shared: dict[str, Any] = {"uirevision": run, "marks": phrases.marks(reader.events()), "x": XAxis(log=log_x)}
    groups = (
        (
            "Motion, which flicker cannot fake",
            "All three must be right at once. A ghost changes too little, or all clips move in the same way; flicker "
            "has a negative coherence and too large a change, however good the numbers below it look.",
            MOTION,
        ),
        (
            "Single frames, which flicker can fake",
            "Frames that jump about at random reach any value here: they count only beside the curves above.",
            PICTURES,
        ),
    )
    for title, about, measures in groups:
        st.header(title, anchor=False)
        st.caption(about)
        for index, (name, measure) in enumerate(measures.items()):
            if index % 2 == 0:
                columns = st.columns(2, gap="large")
            with columns[index % 2]:
                figure = measure_figure(name, measure, series, data, limits.get(name, ()), **shared)
                chart(with_cursor(figure, step), f"chart:{name}", f"{measure.words.heading} over steps", info.step)
                st.caption(measure.words.meaning)
        if measures is MOTION:
            with columns[1]:
                _lags(reader, run, shown)


def _lags(reader: Any, run: str, step: int) -> None:
    """Change against the distance of frames at one step: the fourth of the charts of motion."""
    kept = {source: reader.arrays(GENERATED if source == "generated" else FRAMES, step) for source in SOURCES}
    changes = {source: of_source(found[1], "lag_change", source) for source, found in kept.items() if found is not None}
    when = phrases.steps_words({source: found[0] for source, found in kept.items() if found is not None}, step)
    chart(
        lag_changes(changes, uirevision=run, title=f"Change over several frames, {when}"),
        "chart:lags",
        f"Change between frames over their distance, {when}",
    )
    st.caption("Motion adds up from frame to frame; flicker is as large over one frame as over many, a ghost is flat.")
