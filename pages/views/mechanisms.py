"""What the phase model's switches do: concepts and translations, chosen widths, languages, load of the experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.session import looks, phrases
from pages.views.memory import show_pam
from pages.widgets import boxes, metric_row, step_slider
from pages.widgets.chart import chart
from qcore.base.words import number_words
from qcore.config import RunConfig
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.viz import SHARE, Line, Reference, XAxis, YAxis, curves, heading, series_words, with_cursor
from qcore.viz.concepts import WIDTHS, alignment_curve, common_steps, concept_tokens, expert_load, stacked_shares

CONCEPTS, INTERNALS = "concepts", "internals"
PHASES, MEMORY = "Phases", "Memory"
_NEEDS = {"widths": ("width/weights",), "languages": ("language/gate",), "experts": ("moe/load",)}
_MAX_POINTS = 600
_MOST_WORDS = 12
_ALIGNMENT = (catalog.CONCEPT_ALIGNMENT, catalog.CONCEPT_ALIGNMENT_CHANCE, catalog.CONCEPT_ALIGNMENT_ERROR)
_CONCEPT_NUMBERS = (
    catalog.CONCEPT_ALIGNMENT,
    catalog.CONCEPT_ALIGNMENT_CHANCE,
    catalog.CONCEPT_ALIGNMENT_Z,
    catalog.CONCEPT_COSINE,
    catalog.CONCEPT_COSINE_CHANCE,
    catalog.CONCEPT_USAGE,
    catalog.CONCEPT_SHARPNESS,
)


def views(lab: Lab, info: RunInfo) -> tuple[str, ...]:
    """Views of the Phase page that this run's family and switches open; the phases first, if there are any."""
    config = lab.description(info.name)
    values = config.model.model_dump() if isinstance(config, RunConfig) else {}
    if "memory" in info.capabilities:
        return (PHASES, MEMORY) if values["complex_state"] else (MEMORY,)
    concepts, experts = values.get("concepts", 0) > 0, values.get("experts", 0) > 0
    switches = {
        "Concepts": concepts,
        "Widths": values.get("dynamic_width"),
        "Languages": concepts or values.get("language_phases"),
        "Experts": experts,
    }
    return (PHASES, *(name for name, on in switches.items() if on))


def pick_view(lab: Lab, info: RunInfo) -> str:
    """The view that was chosen; nothing to choose without switches."""
    names = views(lab, info)
    if len(names) == 1:
        return names[0]
    return st.segmented_control(
        "Show",
        names,
        key="show",
        default=names[0],
        required=True,
        bind="query-params",
        label_visibility="collapsed",
        help="What to look at: the phases, or one of the mechanisms that this run has switched on.",
    )


def page(lab: Lab, info: RunInfo, view: str) -> None:
    """One of these views, but for the phases."""
    if view == MEMORY:
        show_pam(lab, info)
        return
    if view == "Concepts":
        _mechanism_page(lab, info, CONCEPTS, "checks_every", "concepts", _concepts, _concepts_over_steps)
        return
    pictures, over_steps, what = {
        "Widths": (_widths, _widths_over_steps, "widths"),
        "Languages": (_languages, _languages_over_steps, "languages"),
        "Experts": (_experts, _experts_over_steps, "experts"),
    }[view]
    _mechanism_page(lab, info, INTERNALS, "phase_every", what, pictures, over_steps)


def _mechanism_page(
    lab: Lab,
    info: RunInfo,
    arrays: str,
    control: str,
    what: str,
    pictures: Callable[[Lab, str, int, dict[str, Any]], None],
    over_steps: Callable[[Lab, str, dict[str, Any]], list[tuple[Any, str, str]]],
) -> None:
    """A scrubber over the steps that have these arrays, the pictures of one, and curves over all."""
    reader = lab.reader(info.name)
    steps = reader.array_steps(arrays)
    if not steps:
        step_slider.explain_waiting(lab, info, (arrays,), control, what)
        return
    position = step_slider.draw_slider(info, steps, what)
    log_x = step_slider.log_steps()

    def draw_step(step: int) -> None:
        found = lab.reader(info.name).arrays(arrays, step, needs=_NEEDS.get(what, ()))
        if found is not None:
            pictures(lab, info.name, *found)

    def curves_of(step: int | None) -> None:
        marks = phrases.marks(lab.reader(info.name).events())
        look = {"uirevision": info.name, "marks": marks, "x": XAxis(log=log_x), "height": 280}
        drawn = over_steps(lab, info.name, look)
        for column, (figure, key, about) in zip(st.columns(max(1, len(drawn)), gap="large"), drawn, strict=False):
            with column:
                alt = f"{heading(figure)} over steps"
                chart(with_cursor(figure, step), f"chart:{key}", alt, info.step)
                st.caption(about)

    step_slider.show(lab, info, position, draw_step, curves_of)


def _series(lab: Lab, run: str, names: tuple[str, ...]) -> dict[str, Any]:
    return lab.reader(run).scalars_of(list(names), max_points=_MAX_POINTS)


def _lines(lab: Lab, run: str, names: dict[str, str]) -> list[Line]:
    series = _series(lab, run, tuple(names.values()))
    return [Line.of(shown, series[name]) for shown, name in names.items()]


# concepts


def _concepts(lab: Lab, run: str, step: int, arrays: dict[str, Any]) -> None:
    metric_row.series_row(lab, run, step, _CONCEPT_NUMBERS)
    labels = lab.token_labels(run)
    left, right = st.columns(2, gap="large")
    with left:
        boxes.heading("pairs", f"Translations, step {step:,}")
        _translation_table(arrays, labels)
    with right:
        boxes.heading("holdings", f"What each concept holds, step {step:,}")
        _concept_table(arrays, labels)


def _translation_table(arrays: dict[str, Any], labels: list[str]) -> None:
    pairs, top, share = arrays["pairs"], arrays["top"], arrays["share"]
    if not len(pairs):
        st.info(
            "This text has no known translations. Choose the data source `bilingual` with the tokenizer `word` to see "
            "whether words of two languages that mean the same share a concept."
        )
        return
    order = (-arrays["cosine"]).argsort(kind="stable")
    first, second = pairs[order, 0], pairs[order, 1]
    looks.table(
        {
            "word": [_word(labels, token) for token in first],
            "translation": [_word(labels, token) for token in second],
            "concept": top[first],
            "its concept": top[second],
            "same": top[first] == top[second],
            "cosine": arrays["cosine"][order],
            "share": share[first],
            "its share": share[second],
        },
        height=420,
        column_config={
            "same": st.column_config.CheckboxColumn(help="Both words have the same most likely concept."),
            "cosine": st.column_config.NumberColumn(format="%.2f", help="Of the two concept distributions."),
            "share": st.column_config.NumberColumn(format="percent", help="Share of the word's first concept."),
            "its share": st.column_config.NumberColumn(format="percent", help="Share of the translation's."),
        },
    )
    st.caption("Pairs of the two languages, the most alike first. They were never shown side by side in training.")


def _concept_table(arrays: dict[str, Any], labels: list[str]) -> None:
    """Words of each concept, the surest first; the fullest concepts on top."""
    found = concept_tokens(arrays["top"], arrays["share"])
    looks.table(
        {
            "concept": [one.concept for one in found],
            "words": [len(one.tokens) for one in found],
            "the surest": [
                ", ".join(_word(labels, token) for token in one.tokens[:_MOST_WORDS])
                + (" …" if len(one.tokens) > _MOST_WORDS else "")
                for one in found
            ],
        },
        height=420,
        column_config={"the surest": st.column_config.TextColumn(width="large")},
    )
    st.caption(f"{len(found)} concepts are the first of some word; every word of the training text counts once.")


def _word(labels: list[str], token: int) -> str:
    return labels[token].lstrip("␣") or labels[token]


def _concepts_over_steps(lab: Lab, run: str, look: dict[str, Any]) -> list[tuple[Any, str, str]]:
    series = _series(lab, run, _ALIGNMENT)
    steps, *values = common_steps(*((series[name].steps, series[name].values) for name in _ALIGNMENT))
    lines = {
        "of a pair": catalog.CONCEPT_COSINE,
        "of any two words": catalog.CONCEPT_COSINE_CHANCE,
        "concepts in use": catalog.CONCEPT_USAGE,
        "sharpness": catalog.CONCEPT_SHARPNESS,
    }
    return [
        (
            alignment_curve(steps, *values, **look),
            "alignment",
            "A share above the grey band is more than chance: the two languages have come to share concepts. A band "
            "that rises to the curve means that a few concepts hold everything.",
        ),
        (
            curves(_lines(lab, run, lines), title="Concept distributions", y_title="0 to 1", **look),
            "concepts",
            "Translations whose cosine rises above that of any two words have like concepts, even where the first one "
            "differs. Useful concepts are sharp, and all in use.",
        ),
    ]


# widths, languages, experts


def _widths(lab: Lab, run: str, step: int, arrays: dict[str, Any]) -> None:
    figure = stacked_shares(arrays["width/weights"], WIDTHS, uirevision=run, title=f"Chosen widths, step {step:,}")
    chart(figure, "chart:widths", f"Share of each width at every position of a text at step {step}")
    st.caption(
        "Each token mixes three widths of its layer, softly, by how much its neighbourhood varies; the mean over the "
        "layers is shown. The same share everywhere means that the choice has learned nothing."
    )


def _widths_over_steps(lab: Lab, run: str, look: dict[str, Any]) -> list[tuple[Any, str, str]]:
    shares = {"D": catalog.WIDTH_SHARE_1, "1.5 D": catalog.WIDTH_SHARE_1_5, "2.25 D": catalog.WIDTH_SHARE_2_25}
    work = {"operations": catalog.WIDTH_MFLOP}
    return [
        (
            curves(
                _lines(lab, run, shares),
                title="Mean share of each width",
                y_title="share",
                y=YAxis(limits=(0, 1)),
                **look,
            ),
            "width_shares",
            "Means over the tokens of a batch and all layers; they sum to 1.",
        ),
        (
            curves(_lines(lab, run, work), **series_words(catalog.WIDTH_MFLOP).titles, **look),
            "width_flops",
            "What the chosen widths stand for, counted for one token's forward pass through all layers. The soft "
            "mixture itself computes the widest.",
        ),
    ]


def _languages(lab: Lab, run: str, step: int, arrays: dict[str, Any]) -> None:
    gate = arrays["language/gate"]
    names = [f"language {index + 1}" for index in range(gate.shape[1])]
    figure = stacked_shares(gate, names, uirevision=run, title=f"Language gate, step {step:,}")
    chart(figure, "chart:languages", f"Share of each language at every position of a text at step {step}")
    st.caption(
        "Which language the gate believes the text to be in, from the words so far. It is never given labels: which "
        "number stands for which language is up to the model."
    )


def _languages_over_steps(lab: Lab, run: str, look: dict[str, Any]) -> list[tuple[Any, str, str]]:
    even = 1 / lab.config(run).value("languages")
    references = [Reference("uninformed", even, f"all languages equally likely: {number_words(even, places=2)}")]
    lines = _lines(lab, run, {"certainty": catalog.LANGUAGE_CERTAINTY})
    figure = curves(lines, **series_words(catalog.LANGUAGE_CERTAINTY).titles, references=references, **look)
    return [(figure, "certainty", series_words(catalog.LANGUAGE_CERTAINTY).meaning)]


def _experts(lab: Lab, run: str, step: int, arrays: dict[str, Any]) -> None:
    figure = expert_load(arrays["moe/load"], uirevision=run, title=f"Load of the experts, step {step:,}")
    chart(figure, "chart:experts", f"Share of the tokens' choices that each expert takes, by layer, at step {step}")
    st.caption(
        "An expert without load learns nothing, one with all of it makes the others idle. `balance weight` pulls the "
        "load towards even."
    )


def _experts_over_steps(lab: Lab, run: str, look: dict[str, Any]) -> list[tuple[Any, str, str]]:
    return [
        (
            curves(
                _lines(lab, run, {"largest load": catalog.MOE_LOAD_MAX}),
                **series_words(catalog.MOE_LOAD_MAX).titles,
                references=[Reference("even", 1.0, "all experts take the same share")],
                **look,
            ),
            "load_max",
            series_words(catalog.MOE_LOAD_MAX).meaning,
        ),
        (
            curves(
                _lines(lab, run, {"entropy": catalog.MOE_ENTROPY}),
                **series_words(catalog.MOE_ENTROPY).titles,
                y=SHARE,
                **look,
            ),
            "load_entropy",
            series_words(catalog.MOE_ENTROPY).meaning,
        ),
    ]
