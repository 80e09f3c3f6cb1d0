"""Figures of the Interference page: the verdict on causality, kernels of one step, breadth over steps, the map of cuts.

Interference has two signs and takes two colours; a transformer's attention is never negative and takes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.session import advice, phrases
from pages.widgets import boxes, step_slider
from pages.widgets.chart import chart
from qcore.config import RunConfig
from qcore.lab import Causality, Lab, RunInfo, causality_of
from qcore.viz import (
    SHARE,
    Line,
    XAxis,
    all_heads,
    causality_map,
    curves,
    kernel,
    kernel_difference,
    number_words,
    with_cursor,
)

KERNELS, CUTS = "interference", "causality"
MAX_POINTS = 600
MEAN = "mean"
SIZES = (16, 32, 48)
_ALL = "off"


@dataclass(frozen=True)
class KernelChoice:
    """What is picked.

    Attributes:
        head: None is the mean over heads.
        before: step to compare with, None for none.
    """

    layer: int
    head: int | None
    size: int
    each_row: bool
    before: int | None
    log_x: bool
    signed: bool

    @property
    def name(self) -> str:
        return f"layer {self.layer + 1}, {'mean over heads' if self.head is None else f'head {self.head + 1}'}"


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the heading."""
    reader = lab.reader(info.name)
    steps = reader.array_steps(KERNELS)
    if not steps and not reader.array_steps(CUTS):
        step_slider.explain_waiting(lab, info, (KERNELS, CUTS), "kernels_every", "kernels")
        return
    if not steps:
        step_slider.explain_waiting(lab, info, (KERNELS,), "kernels_every", "kernels")
        _causality(lab, info, info.step)
        return

    def over_steps(step: int | None, position: step_slider.Position, choice: KernelChoice) -> None:
        _draw_curves(lab, info, step, choice)
        _causality(lab, info, position.shown)

    step_slider.step_page(
        lab,
        info,
        steps,
        (KERNELS,),
        "kernels_every",
        "kernels",
        lambda: _choice(lab, info, steps),
        lambda step, choice: _kernels(lab, info.name, step, choice),
        over_steps,
    )


def _choice(lab: Lab, info: RunInfo, steps: list[int]) -> KernelChoice:
    """The pickers; every choice is in the URL."""
    layer_count, head_count = _sizes(lab, info.name)
    layers = [str(layer + 1) for layer in range(layer_count)]
    heads = [MEAN, *(str(head + 1) for head in range(head_count))]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = _pick("Layer", layers, len(layers) - 1, "layer")
        head = _pick("Head", heads, 0, "head")
        size = st.segmented_control(
            "Tokens",
            SIZES,
            key="tokens",
            default=32,
            required=True,
            bind="query-params",
            help="How many of the text's first tokens the kernel shows. On a phone take 16, or zoom by dragging.",
        )
        before = st.selectbox(
            "Compare with step",
            [_ALL, *(f"{step:,}" for step in step_slider.slider_steps(steps))],
            key="against",
            bind="query-params",
            width=160,
            help="Shows what has changed since then in the place of the overview.",
        )
        with st.container(width="content", gap=None):
            each_row = st.toggle(
                "Each row to its largest",
                key="rows",
                bind="query-params",
                help="Late positions spread their weight over many tokens; this shows their pattern as strongly as "
                "that of the first ones.",
            )
            log_x = step_slider.log_steps()
    return KernelChoice(
        layers.index(layer),
        None if head == MEAN else int(head) - 1,
        size,
        each_row,
        None if before == _ALL else int(before.replace(",", "")),
        log_x,
        "phases" in info.capabilities,
    )


def _sizes(lab: Lab, run: str) -> tuple[int, int]:
    """Layers and heads; of a run without our configuration, as many as the newest kernels have."""
    if isinstance(config := lab.description(run), RunConfig):
        return config.value("layers"), config.value("heads")
    found = lab.reader(run).arrays(KERNELS)
    layers, heads = (1, 1) if found is None else found[1]["kernels"].shape[:2]
    return max(1, layers), heads


def _pick(label: str, options: list[str], index: int, key: str) -> str:
    if len(options) <= 9:
        return st.segmented_control(label, options, key=key, default=options[index], required=True, bind="query-params")
    return st.selectbox(label, options, index, key=key, bind="query-params", width=120)


def _kernels(lab: Lab, run: str, step: int, choice: KernelChoice) -> None:
    """The kernel of the chosen layer and head, beside all heads or the change since another step."""
    reader = lab.reader(run)
    found = reader.arrays(KERNELS, step)
    if found is None:
        return
    at, arrays = found
    weights, tokens = arrays["kernels"].astype("float32"), arrays["tokens"]
    texts = _texts(lab, run, tokens)
    shown = _chosen_weights(weights, choice)
    left, right = st.columns(2, gap="large")
    with left:
        chart(
            kernel(
                shown,
                texts,
                signed=choice.signed,
                uirevision=f"{run}:{choice.size}",
                title=f"{choice.name[0].upper()}{choice.name[1:]}, {phrases.step_words(at, step)}",
                each_row=choice.each_row,
            ),
            "chart:kernel",
            f"Weights with which each token reads the others, {choice.name}, step {at}",
        )
        st.caption(_describe_picture(choice, len(shown), len(tokens)))
    with right:
        earlier = None if choice.before is None else reader.arrays(KERNELS, choice.before)
        if earlier is None:
            chart(
                all_heads(
                    weights, signed=choice.signed, uirevision=run, title=f"All heads, {phrases.step_words(at, step)}"
                ),
                "chart:second",
                f"Kernels of all layers and heads at step {at}",
            )
            st.caption("One colour scale for all: heads that look alike do the same work, empty ones do none.")
        elif earlier[1]["kernels"].shape != weights.shape or (earlier[1]["tokens"] != tokens).any():
            st.info("The two steps were measured on different texts, so their difference would mean nothing.")
        else:
            chart(
                kernel_difference(
                    shown,
                    _chosen_weights(earlier[1]["kernels"].astype("float32"), choice),
                    texts,
                    uirevision=f"{run}:{choice.size}",
                    title=f"Change from {phrases.step_words(earlier[0], choice.before)} to "
                    f"{phrases.step_words(at, step)}",
                ),
                "chart:second",
                f"Change of the weights from step {earlier[0]} to step {at}, {choice.name}",
            )
            st.caption("Blue: the weight has grown since then; vermillion: it has fallen.")


def _chosen_weights(weights: Any, choice: KernelChoice) -> Any:
    layer = weights[min(choice.layer, len(weights) - 1)]
    one = layer.mean(0) if choice.head is None else layer[min(choice.head, len(layer) - 1)]
    return one[: choice.size, : choice.size]


def _describe_picture(choice: KernelChoice, shown: int, count: int) -> str:
    part = f" The first {shown} of {count} tokens of the text are shown." if shown < count else ""
    if choice.signed:
        return (
            "A row is a token that reads, a column a token that it reads. Blue weights add to what it sees "
            "(constructive), vermillion ones cancel (destructive). What lies beyond the grey line is the "
            "future and must be empty." + part
        )
    return (
        "A row is a token that reads, a column a token that it reads; a row's weights sum to 1. What lies beyond the "
        "grey line is the future and must be empty." + part
    )


def _texts(lab: Lab, run: str, tokens: Any) -> list[str]:
    known = lab.token_labels(run)
    return [known[token] if token < len(known) else str(token) for token in tokens.tolist()]


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, choice: KernelChoice) -> None:
    run = info.name
    reader = lab.reader(run)
    names = [f"{KERNELS}/{name}" for name in ("constructive", "destructive", "participation", "entropy")]
    series = reader.scalars_of(names, max_points=MAX_POINTS)
    shared: dict[str, Any] = {
        "uirevision": run,
        "marks": phrases.marks(reader.events()),
        "x": XAxis(log=choice.log_x),
        "height": 280,
        "y": SHARE,
    }

    def line(shown: str, name: str) -> Line:
        found = series[f"{KERNELS}/{name}"]
        return Line.of(shown, found)

    left, right = st.columns(2, gap="large")
    with left:
        figure = curves(
            [line("constructive", "constructive"), line("destructive", "destructive")],
            title="Constructive and destructive share",
            y_title="share of all weight",
            **shared,
        )
        chart(
            with_cursor(figure, step),
            "chart:signs",
            "Share of constructive and destructive weight over steps",
            info.step,
        )
        st.caption(
            "Mean over layers, heads and positions. Both signs at work is interference; destructive at 0 for good "
            "means that waves only ever add up."
            if choice.signed
            else "An attention's weights are never negative, so all of them are constructive."
        )
    with right:
        figure = curves(
            [line("participation", "participation"), line("entropy", "entropy")],
            title="How broadly a token reads",
            y_title="share of what it could see",
            **shared,
        )
        chart(
            with_cursor(figure, step), "chart:breadth", "Participation and entropy of the weights over steps", info.step
        )
        st.caption(
            "1: all earlier tokens count alike; near 0: one of them alone. A value that stays at 1 exactly means that "
            "the text is averaged, not read."
        )


def _causality(lab: Lab, info: RunInfo, step: int) -> None:
    """The verdict of the probe at or before the step in words, then its map."""
    run = info.name
    found = lab.reader(run).arrays(CUTS, step)
    st.header("Does anything see the future?", anchor=False)
    if found is None:
        st.caption(advice.why_nothing_to_show(lab, info, "checks", "checks_every", done="made", budgeted=True))
        return
    at, arrays = found
    judged = causality_of(arrays["cuts"], arrays["change"])
    _verdict(judged, len(arrays["cuts"]), phrases.step_words(at, step))
    chart(
        causality_map(
            arrays["cuts"],
            arrays["change"],
            uirevision=run,
            early="sees the future" if judged.verdict == "leak" else "moved by rounding",
            title=f"What a cut changes, {phrases.step_words(at, step)}",
        ),
        "chart:causality",
        f"Change of the outputs by position when everything after a cut was replaced, step {at}",
    )
    st.caption(
        "Each row replaces all tokens after one cut by others and compares the model's outputs with those of the whole "
        "text. Up to the cut, left of the grey line, nothing may move, not by one bit; after it, the more moves the "
        "more the context counts."
    )


def _verdict(found: Causality, cuts: int, step: str) -> None:
    tried = f"At {step}, the tokens after {cuts} cut{'' if cuts == 1 else 's'} were replaced"
    match found.verdict:
        case "causal":
            kind: boxes.Kind = "success"
            moved = f"later ones moved by up to {number_words(found.later, 3)}"
            says = f"**Causal.** {tried}: no earlier output moved; {moved}."
        case "ignored":
            kind = "warning"
            says = f"**Causal, but the context is ignored.** {tried}, and no output moved at all, not even later ones."
        case "rounding":
            kind = "info"
            says = (
                f"**Causal up to rounding.** {tried}: {found.early_cells:,} earlier outputs moved by "
                f"{number_words(found.leak, 2)} of what later ones did, which is less than the precision of 32 bits."
            )
        case _:
            kind = "error"
            says = (
                f"**Sees the future.** {tried}: {found.early_cells:,} outputs before a cut moved, by up to "
                f"{number_words(found.early, 3)}, where nothing may move. The loss of this run means nothing: the "
                "model reads what it should predict."
            )
    boxes.message_box("causality", kind, says)
