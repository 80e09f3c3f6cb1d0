"""Figures of the Gradients page: terms against each other, weights without gradient, updates, rank, and the probes'
cost.

Terms keep their colour in every chart. Charts show what was measured at or before the chosen step, each with its own
step. A place whose picture would be empty is a sentence instead: a run with one term has nothing that pulls against it,
and one whose weights all get gradient has nothing to point at.
"""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from pages.session import family_words, looks, phrases
from pages.session.family_words import Words
from pages.views import layers, own_probes
from pages.widgets import boxes, step_slider
from pages.widgets.chart import chart
from pages.widgets.live_fragment import rerun_when_changed
from qcore.lab import Lab, RunInfo
from qcore.probes import catalog
from qcore.probes.catalog import stored_series
from qcore.viz import (
    Line,
    XAxis,
    YAxis,
    cosine_matrix,
    curves,
    eigenvalues,
    module_tree,
    name_words,
    number_words,
    percent_words,
    term_bars,
    term_style,
    update_bars,
    value_words,
    with_cursor,
)

MAX_POINTS = 600
TERMS, HIDDEN, MODULES, SPECTRUM = KINDS = ("gradients", "hidden", "modules", "spectrum")
PLACES = {"all weights": (TERMS, "grad"), "last hidden state": (HIDDEN, "hidden")}
_NOTHING: tuple[None, dict[str, Any]] = (None, {"parameters": [], "dead_share": [], "update_ratio": []})
_LOOKS = (catalog.COST_BEFORE_TRAINING_MS, catalog.COST_AFTER_TRAINING_MS)
_SOURCES = {"grad": "", "hidden": ", at the last layer"}


def page(lab: Lab, info: RunInfo) -> None:
    """Everything below the heading."""
    reader = lab.reader(info.name)
    steps = sorted({step for kind in KINDS for step in reader.array_steps(kind)})
    words = family_words.words(info)
    if not steps and not family_words.has_trainer(info):
        _own_alone(lab, info)
        return
    step_slider.step_page(
        lab,
        info,
        steps,
        KINDS,
        "gradients_every",
        "gradients",
        lambda: _options(list(PLACES) if family_words.has_trainer(info) else _measured_places(reader)),
        lambda step, chosen: _pictures(lab, info.name, step, step == steps[-1], chosen[0], words),
        lambda step, position, chosen: _draw_curves(lab, info, step, position.shown, chosen[1], words),
    )


def _own_alone(lab: Lab, info: RunInfo) -> None:
    """Of a run that another program wrote, without gradients: the series that it has declared, if there are any."""
    reader = lab.reader(info.name)
    if stored_series(reader.meta()):
        own_probes.draw(info, reader, None, {"uirevision": info.name, "marks": phrases.marks(reader.events())})
    else:
        family_words.elsewhere(
            info, "This run has recorded no gradients, no weights and no measurements of its own probes."
        )
    rerun_when_changed(lab, info, "records")


def _measured_places(reader: Any) -> list[str]:
    there = reader.arrays_among([kind for kind, _ in PLACES.values()])
    return [name for name, (kind, _) in PLACES.items() if kind in there]


def _options(places: list[str]) -> tuple[str, bool]:
    """Where the terms are compared, of the places that are measured, and whether steps are logarithmic."""
    if len(places) < 2:
        return places[0] if places else next(iter(PLACES)), step_slider.log_steps()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        place = st.segmented_control(
            "Terms compared at",
            places,
            key="compared",
            default=places[0],
            required=True,
            bind="query-params",
            help="Over all weights every term is seen. At the last hidden state measuring costs a tenth and is done "
            "more often, but terms that do not act there (on phases, on the anchor) are not seen.",
        )
        return place, step_slider.log_steps()


def _pictures(lab: Lab, run: str, step: int, is_newest: bool, place: str, words: Words) -> None:
    """Terms and modules at one step, in pictures or, where there is nothing to see, in words."""
    reader = lab.reader(run)
    meta = reader.meta()
    found = {kind: reader.arrays(kind, step) for kind in KINDS}
    moved = reader.arrays(layers.MOVEMENT, step)
    kind, prefix = PLACES[place]
    terms, modules = found[kind], found[MODULES]
    # Over all weights every term is seen; at the last hidden state one that acts elsewhere is not.
    is_alone = all(_is_main_alone(one, meta, words) for one in (terms, found[TERMS]))
    all_learn = modules is not None and _all_learn(modules[1])
    if is_alone or all_learn:
        measured = modules if all_learn else found[TERMS]
        is_well = (
            is_alone
            and all_learn
            and is_newest
            and measured is not None
            and measured[0] > 0  # before the first update nothing was learned yet
            and not any(finding.needs_attention for finding in lab.findings(run))
        )
        _say_facts(phrases.step_words(measured and measured[0], step), is_alone, all_learn, is_well, words)
    if not is_alone:
        left, right = st.columns(2, gap="large")
        _terms(reader, run, terms, step, prefix, list(meta.get("term_names") or []), words, left, right)
    at, arrays = modules or _NOTHING
    names, when = _module_names(meta, arrays), phrases.step_words(at, step)
    # what was measured on the weights; runs from before that have what their optimizer's moments gave
    ratio = arrays["update_ratio"] if moved is None else moved[1]["update_ratio"]
    moved_when = when if moved is None else phrases.step_words(moved[0], step)
    moved_names = names if moved is None else _module_names(meta, {"parameters": ratio})
    if all_learn:
        _updates(run, moved_names, ratio, moved_when)
        return
    left, right = st.columns(2, gap="large")
    with left:
        _without_gradient(run, names, arrays, when)
    with right:
        _updates(run, moved_names, ratio, moved_when)


def _is_main_alone(found: tuple[int, dict[str, Any]] | None, meta: dict[str, Any], words: Words) -> bool:
    """Whether terms were compared, and the main one was the only one with a weight."""
    names = list(meta.get("term_names") or [])
    indices = [] if found is None else [int(index) for index in found[1]["terms"]]
    return [names[index] for index in indices if index < len(names)] == [words.main] and len(indices) == 1


def _all_learn(arrays: dict[str, Any]) -> bool:
    """Whether modules were looked at, and each weight of each of them got gradient."""
    return len(arrays["dead_share"]) > 0 and all(float(share) == 0 for share in arrays["dead_share"])


def _say_facts(when: str, is_alone: bool, all_learn: bool, is_well: bool, words: Words) -> None:
    """What the pictures that are left out would show.

    Args:
        is_well: the rules, too, find nothing in this run.
    """
    facts = []
    if all_learn:
        facts.append("every weight gets gradient")
    if is_alone:
        facts.append(f"no term but the {words.main_words} has a weight, so nothing pulls against it")
    said = f"{' and '.join(facts)}."
    if is_well:
        boxes.message_box(
            "gradients", "success", f"**Nothing wrong at {when}:** {said} No rule has found anything wrong in this run."
        )
    else:
        boxes.caption("gradients", f"At {when} {said}")
    if is_alone:
        st.caption("Give another term a weight in the control room, and its pull shows here.")


def _terms(
    reader: Any,
    run: str,
    found: tuple[int, dict[str, Any]] | None,
    step: int,
    prefix: str,
    names: list[str],
    words: Words,
    left: Any,
    right: Any,
) -> None:
    at, arrays = found or (None, {"norm": [], "cosine": [], "terms": []})
    when = phrases.step_words(at, step)
    indices = [int(index) for index in arrays["terms"]]
    shown = [names[index] if index < len(names) else f"term {index}" for index in indices]
    ratios = reader.scalars_of([f"{prefix}/ratio/{name}" for name in shown], start=at, stop=(at or 0) + 1)
    pulls = [float(series.values[-1]) if len(series) else math.nan for series in ratios.values()]
    with left:
        figure = term_bars(
            shown,
            arrays["norm"],
            pulls,
            indices,
            uirevision=run,
            title=f"Pull of each term, {when}",
            main=words.main_words,
        )
        chart(
            figure,
            "chart:terms",
            f"Weighted gradient norm of each term relative to the {words.main_words}, {when}",
        )
        st.caption(
            f"How hard each term pulls at the weights, the {words.main_words} being 1. A term far above 1 dominates "
            "training; one without gradient only looks like a loss."
        )
    with right:
        chart(
            cosine_matrix(shown, arrays["cosine"], uirevision=run, title=f"Gradient agreement, {when}"),
            "chart:cosine",
            f"Cosine between the gradients of each pair of terms, {when}",
        )
        st.caption("+1: the same direction; 0: unrelated; −1: what one learns the other undoes.")


def _module_names(meta: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
    names, count = list(meta.get("module_names") or []), len(arrays["parameters"])
    return names[:count] if len(names) >= count else [f"module {index}" for index in range(count)]


def _without_gradient(run: str, names: list[str], arrays: dict[str, Any], when: str) -> None:
    chart(
        module_tree(
            names,
            arrays["parameters"],
            arrays["dead_share"],
            uirevision=run,
            title=f"Weights without gradient, {when}",
        ),
        "chart:dead",
        f"Modules as areas by their number of weights, coloured by the share without gradient, {when}",
    )
    st.caption(
        "Area: number of weights. Grey: all of them learn; the more vermillion, the larger the share that got no "
        "gradient at all. Press a part to look inside, the path on top to come back."
    )


def _updates(run: str, names: list[str], ratio: Any, when: str) -> None:
    chart(
        update_bars(names, ratio, uirevision=run, title=f"Size of a step, {when}"),
        "chart:updates",
        f"Length of one update relative to the weights for each module, {when}",
    )
    st.caption(
        "Bars start at 1/1000, a common size of a step: to the left a module moves less, to the right more. "
        "Vermillion ones do not move at all."
    )


def _draw_curves(lab: Lab, info: RunInfo, step: int | None, shown: int, log_x: bool, words: Words) -> None:
    """Curves of terms and rank, the eigenvalues of the step, and what the probes cost.

    Args:
        step: chosen, None for the newest.
        shown: the step that the pictures show.
    """
    run = info.name
    reader = lab.reader(run)
    known = set(reader.names())
    names: list[str] = list(reader.meta().get("term_names") or [])
    others = [name for name in names if name != words.main]
    ratio = {
        key: key.rpartition("/")[2]
        for source in _SOURCES
        for name in others
        if (key := f"{source}/ratio/{name}") in known
    }
    cosine = {key.replace("/ratio/", "/cos/"): name for key, name in ratio.items()}
    rank = {catalog.GEOMETRY_EFFECTIVE_RANK: "effective rank", catalog.GEOMETRY_MEAN_COSINE: "mean cosine"}
    series = reader.scalars_of([*ratio, *cosine, *rank], max_points=MAX_POINTS)
    shared: dict[str, Any] = {
        "uirevision": run,
        "marks": phrases.marks(reader.events()),
        "x": XAxis(log=log_x),
        "height": 280,
    }

    def lines(chosen: dict[str, str]) -> list[Line]:
        return [
            Line(
                name_words(name) + _SOURCES[key.split("/")[0]],
                series[key].steps,
                series[key].values,
                term_style(names.index(name)) | ({} if catalog.in_group(key, catalog.GRAD) else {"dash": "dot"}),
            )
            for key, name in chosen.items()
        ]

    if ratio:
        _relative_to_main(lines(ratio), lines(cosine), shared, step, info.step, words.main_words)
    left, right = st.columns(2, gap="large")
    with left:
        figure = curves(
            [Line.of(shown, series[key]) for key, shown in rank.items()],
            title="Rank of the hidden states",
            y_title="share, −1 to 1",
            **shared,
        )
        chart(
            with_cursor(figure, step),
            "chart:rank",
            "Effective rank and mean cosine of the hidden states over steps",
            info.step,
        )
        st.caption(
            "Effective rank: share of the width that the hidden states really use. Mean cosine: how alike they all "
            "are; at 1 every position looks the same."
        )
    with right:
        found = reader.arrays(SPECTRUM, shown)
        values: Any = found[1].get("eigenvalues", []) if found else []
        when = phrases.step_words(found[0] if found else None, shown)
        chart(
            eigenvalues(values, uirevision=run, title=f"Principal directions, {when}", height=280),
            "chart:eigenvalues",
            f"Share of the variance of the hidden states along each principal direction, {when}",
        )
        st.caption(
            "Of the hidden states. A line that drops steeply after a few directions is a model that uses few "
            "dimensions."
        )
    layers.draw(info, reader, shown)
    own_probes.draw(info, reader, step, shared)
    if family_words.has_trainer(info):
        _probes(lab, run, reader, words)


def _relative_to_main(
    ratio: list[Line], cosine: list[Line], shared: dict[str, Any], step: int | None, newest: int, main: str
) -> None:
    """Pull and direction of the other terms over steps."""
    left, right = st.columns(2, gap="large")
    with left:
        figure = curves(
            ratio,
            title=f"Pull relative to the {main}",
            y_title="ratio of weighted norms",
            y=YAxis(log=True),
            **shared,
        )
        chart(
            with_cursor(figure, step),
            "chart:ratio",
            f"Weighted gradient norm relative to the {main} over steps",
            newest,
        )
        st.caption(
            "A curve that climbs towards 1 is a term that takes over. Over all weights, and dotted, measured more "
            "often, at the last hidden state."
        )
    with right:
        figure = curves(
            cosine,
            title=f"Direction relative to the {main}",
            y_title="cosine",
            y=YAxis(limits=(-1.05, 1.05)),
            **shared,
        )
        chart(
            with_cursor(figure, step),
            "chart:direction",
            f"Cosine with the gradient of the {main} over steps",
            newest,
        )
        st.caption("Below −0.5 with a pull above 0.5 for long, a term undoes what the data teach.")


def _probes(lab: Lab, run: str, reader: Any, words: Words) -> None:
    """A table of what each measurement costs, how often it is taken, and whether it still is."""
    latest = {name: value for name, (_, value) in reader.latest().items() if catalog.in_group(name, catalog.COST)}
    disabled: dict[str, str] = reader.meta().get("disabled_probes") or {}
    step_ms = reader.last(catalog.TRAIN_STEP_MS)
    controls = lab.controls(run)
    found = {probe for name in latest if (probe := catalog.probe_of(name)) and name not in _LOOKS}
    probes = sorted(found | {*disabled})
    st.header("What the measurements cost", anchor=False)
    if not probes:
        st.caption("No measurement has been taken.")
        return
    cost = {probe: latest.get(catalog.cost_ms(probe)) for probe in probes}
    every = {probe: latest.get(catalog.cost_every(probe)) for probe in probes}
    if "eval" in every and "eval_every" in controls:
        every["eval"] = float(controls["eval_every"].value)
    table: dict[str, Any] = {
        "probe": [name_words(probe) for probe in probes],
        "cost (ms)": [cost[probe] for probe in probes],
        "every (steps)": [every[probe] for probe in probes],
        "share of step time": [_share(cost[probe], every[probe], step_ms) for probe in probes],
        "state": ["off" if probe in disabled else "measures" for probe in probes],
    }
    if disabled:
        table["why"] = [disabled.get(probe, "") for probe in probes]
    _total(latest, controls, words)
    looks.table(
        table,
        key="probes_table",
        height="content",
        column_config={
            "cost (ms)": st.column_config.NumberColumn(format="%.2f", help="Running mean of one measurement."),
            "every (steps)": st.column_config.NumberColumn(format="localized", help="Current cadence."),
            "share of step time": st.column_config.NumberColumn(
                format="percent", help="Cost ÷ cadence ÷ time of a step without measurements."
            ),
            "state": st.column_config.TextColumn(help="off: it failed once and is not tried again in this run."),
            "why": st.column_config.TextColumn(width="large"),
        },
    )


def _total(latest: dict[str, float], controls: dict[str, Any], words: Words) -> None:
    """What all probes take together, against the budget."""
    parts = []
    if catalog.COST_TOTAL_PERCENT in latest and "budget_percent" in controls:
        planned = percent_words(latest[catalog.COST_TOTAL_PERCENT] / 100)
        budget = value_words(controls["budget_percent"].value)
        parts.append(f"Planned in total: {planned} of the step time, of a budget of {budget} %.")
    if catalog.COST_SPENT_PERCENT in latest:
        parts.append(f"Actually spent so far: {percent_words(latest[catalog.COST_SPENT_PERCENT] / 100)}.")
    if (spent_ms := latest.get(catalog.COST_BEFORE_TRAINING_MS)) is not None:
        seconds = number_words(spent_ms / 1e3, places=1)
        parts.append(f"Everything was measured once before the first step, in {seconds} s.")
    if (spent_ms := latest.get(catalog.COST_AFTER_TRAINING_MS)) is not None:
        seconds = number_words(spent_ms / 1e3, places=1)
        parts.append(f"So it was once after the last step, in {seconds} s.")
    parts.append(f"Evaluation on {words.held_data} always runs and is not part of the budget.")
    st.caption(" ".join(parts))


def _share(cost_ms: float | None, every: float | None, step_ms: tuple[int, float] | None) -> float | None:
    if cost_ms is None or not every or step_ms is None or not step_ms[1] > 0:
        return None
    return cost_ms / every / step_ms[1]
