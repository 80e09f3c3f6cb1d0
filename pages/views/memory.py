"""The memory of a `pam` run, on the Phase page: decays, state and channels of one step above, curves over all below."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.session import phrases
from pages.widgets import metric_row, step_slider
from pages.widgets.chart import chart, charts_over_steps
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import SHARE, Line, Reference, XAxis, curves, layer_name, series_words
from qcore.viz.pam import channel_balance, decay_course, decay_spectrum, state_spectrum

INTERNALS = "internals"
_MAX_POINTS = 600
_NUMBERS = (
    catalog.PAM_DECAY_MEAN,
    catalog.PAM_DECAY_HIGH,
    catalog.PAM_DECAY_LOW,
    catalog.PAM_MEMORY,
    catalog.PAM_STATE_RANK,
    catalog.PAM_IM_RE_RATIO,
)


def show_pam(lab: Lab, info: RunInfo) -> None:
    """Everything below the page's heading for a run of kind `pam`."""

    def options() -> tuple[int, bool]:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            return _layer(lab.config(info.name).value("layers")), step_slider.log_steps()

    step_slider.step_page(
        lab,
        info,
        lab.reader(info.name).array_steps(INTERNALS),
        (INTERNALS,),
        "phase_every",
        "memories",
        options,
        lambda step, chosen: _pictures(lab, info.name, step, chosen[0]),
        lambda step, _, chosen: _draw_curves(lab, info, step, chosen[1]),
    )


def _layer(count: int) -> int:
    """Whose decays are drawn along the text, from 0; the first layer unless another is chosen."""
    names = [layer_name(layer + 1) for layer in range(count)]
    about = "Whose decays are drawn along the text."
    chosen = st.selectbox("Decays of", names, index=0, key="decays", bind="query-params", help=about)
    return names.index(chosen)


def _pictures(lab: Lab, run: str, step: int, layer: int) -> None:
    """The four figures of one step."""
    found = lab.reader(run).arrays(INTERNALS, step, needs=("decay", "singular", "energy"))
    if found is None or "decay" not in found[1]:
        return
    at, arrays = found
    metric_row.series_row(lab, run, at, _NUMBERS)
    layer = min(layer, len(arrays["decay"]) - 1)
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            decay_spectrum(
                arrays["decay"], uirevision=run, title=f"Memory of each head, {phrases.step_words(at, step)}"
            ),
            "chart:decays",
            f"How often each head has which memory, in tokens, along a text at step {at}",
        )
        st.caption(
            "A narrow band is a head that forgets at the same pace whatever it reads; a wide one keeps some tokens and "
            "drops others. Heads on the left see the last few tokens only, heads on the right the whole text."
        )
    with right:
        chart(
            decay_course(
                arrays["decay"][layer],
                uirevision=run,
                title=f"Decays of {layer_name(layer + 1)}, {phrases.step_words(at, step)}",
            ),
            "chart:course",
            f"Decay of each head of {layer_name(layer + 1)} at every token of a text at step {at}",
        )
        st.caption("A dip towards 0 is a token at which a head clears its memory, such as the end of a sentence.")
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            state_spectrum(
                arrays["singular"],
                uirevision=run,
                title=f"Singular values of the state, {phrases.step_words(at, step)}",
            ),
            "chart:state",
            f"Singular values of the state after the last token, by layer, at step {at}",
        )
        st.caption(
            "A flat line is a memory full of different associations; a steep one repeats a few. The state cannot hold "
            "more associations than it has directions."
        )
    with right:
        if lab.config(run).value("complex_state"):
            chart(
                channel_balance(
                    arrays["energy"], uirevision=run, title=f"Real and imaginary part, {phrases.step_words(at, step)}"
                ),
                "chart:channels",
                f"Shares of the real and the imaginary part in the energy of what each layer reads at step {at}",
            )
            st.caption(
                "Healthy layers read about as much of both. An imaginary part near 0 is a dead channel: the memory is "
                "real, at twice the cost."
            )
        else:
            st.info(
                "This run's memory is real: it has one channel. Start one with `complex state` on to compare the two."
            )


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, log_x: bool) -> None:
    """Curves with a line at the step that the pictures show."""
    run = info.name
    reader = lab.reader(run)
    series = reader.scalars_of(_NUMBERS, max_points=_MAX_POINTS)
    shared: dict[str, Any] = {
        "uirevision": run,
        "marks": phrases.marks(reader.events()),
        "x": XAxis(log=log_x),
        "height": 280,
    }

    def line(shown: str, name: str) -> Line:
        return Line.of(shown, series[catalog.member(catalog.PAM, name)])

    figures = {
        "decay_steps": (
            curves(
                [line("slowest 5 %", "decay_high"), line("mean", "decay_mean"), line("fastest 5 %", "decay_low")],
                title="Decays",
                y_title="γ, 0 to 1",
                y=SHARE,
                **shared,
            ),
            "Spread decays are short and long memories side by side. All near 0 is a model without a past; all at 1 a "
            "memory that nothing leaves.",
        ),
        "memory_steps": (
            curves([line("memory", "memory")], **series_words(catalog.PAM_MEMORY).titles, **shared),
            "Mean of 1/(1−γ) over heads, layers and tokens; a few heads that keep everything can carry it.",
        ),
        "rank_steps": (
            curves(
                [line("directions in use", "state_rank")],
                **series_words(catalog.PAM_STATE_RANK).titles,
                y=SHARE,
                **shared,
            ),
            series_words(catalog.PAM_STATE_RANK).meaning,
        ),
    }
    if lab.config(run).value("complex_state"):
        figures["ratio_steps"] = (
            curves(
                [line("Var(Im) ÷ Var(Re)", "im_re_ratio")],
                **series_words(catalog.PAM_IM_RE_RATIO).titles,
                references=[Reference("1: equal", 1.0, "Both channels carry the same variance.")],
                **shared,
            ),
            "Of what all layers read. A curve that falls to 0 is an imaginary channel that dies.",
        )
    charts_over_steps(figures, step, info.step)
