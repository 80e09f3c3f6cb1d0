"""Curves of several runs, a chart a metric, on the same steps or aligned at their forks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.session import family_words, looks, phrases, selection
from pages.session.markdown_escape import escape_markdown
from pages.views import external_run
from pages.widgets import metric_row, run_picker
from pages.widgets.chart import chart
from pages.widgets.live_fragment import rerun_when_changed
from qcore.lab import Lab, LabError, RunInfo, RunNode
from qcore.probes import catalog
from qcore.viz import Mark, YAxis, changes_words, distinct_words, series_words, side_by_side

MAX_POINTS = 800
DEFAULT_TEXT = (catalog.EVAL_CE, catalog.TRAIN_LOSS, catalog.TOKENS_MUTUAL_INFORMATION, catalog.TRAIN_GRAD_NORM)
DEFAULT_VIDEO = (
    catalog.EVAL_FLOW,
    catalog.TRAIN_LOSS,
    catalog.frames("generated", "divergence"),
    catalog.frames("generated", "coherence"),
)
_MARKS = 24
_WARNING = " ⚠"


def page(lab: Lab, info: RunInfo) -> None:
    """Choose runs and metrics; the charts redraw while one of the runs is alive."""
    names = run_picker.pick_runs(lab, info)
    if not names:
        return
    offered = sorted({series for name in names for series in lab.reader(name).names()})
    usual: Sequence[str] = DEFAULT_VIDEO if family_words.is_video(info) else DEFAULT_TEXT
    if not set(usual).intersection(offered):
        usual = external_run.usual(offered)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        align = st.segmented_control(
            "Steps",
            ("as trained", "since the fork"),
            key="align",
            default="as trained",
            required=True,
            bind="query-params",
            help="Since the fork: every run's own fork is step 0, its parent's is the first fork among them.",
        )
        smooth = metric_row.smoothing_slider()
        extremes = looks.axis_choices()
        log_y = st.toggle("Logarithmic", key="log_y", bind="query-params", help="A logarithmic scale of the values.")
    metrics = st.multiselect(
        "Metrics",
        offered,
        [name for name in usual if name in offered],
        key=f"metrics:{family_words.is_video(info) if family_words.has_trainer(info) else info.name}",
        bind="query-params",
        format_func=distinct_words(offered).__getitem__,
        help="One chart per metric. Every series that any of the runs has is listed.",
    )
    if not metrics:
        st.info("Choose a metric: each gets a chart with a line for every run.")
        return
    alive = next((now for name in names if (now := selection.listed_run(lab, name)).alive), info)
    _draw(lab, names, metrics, align == "since the fork", log_y, {"span": smooth, "extremes": extremes})
    rerun_when_changed(lab, alive, runs=lambda: [selection.listed_run(lab, name) for name in names])


def _draw(lab: Lab, names: list[str], metrics: list[str], aligned: bool, log_y: bool, look: dict[str, Any]) -> None:
    try:
        found = {name: lab.history(name, metrics, max_points=MAX_POINTS) for name in names}
    except LabError as error:
        st.error(escape_markdown(str(error)))
        return
    steps = run_picker.fork_steps(lab, names)
    shift = steps if aligned else None
    marks = _marks(lab, names, shift)
    shown = {name: _legend_name(lab, name) for name in names}
    nodes = lab.run_tree()
    own = {name: first_own_step(nodes, name, names) for name in names}
    # What another program wrote keeps its names.
    foreign = any(not family_words.has_trainer(selection.listed_run(lab, name)) for name in names)
    named = catalog.declared_as_named if foreign else series_words
    columns = st.columns(2)
    for index, metric in enumerate(metrics):
        series = {
            shown[name]: (line.steps[line.steps >= own[name]], line.values[line.steps >= own[name]])
            for name in names
            if len(line := found[name][metric])
        }
        words = named(metric)
        with columns[index % 2]:
            figure = side_by_side(
                series,
                **words.titles,
                y=YAxis(log=log_y, least=catalog.least_height(words.unit)),
                shift={shown[name]: step for name, step in shift.items()} if shift else None,
                marks=marks,
                uirevision=f"compare:{metric}:{aligned}",
                **look,
            )
            chart(figure, f"compare:{metric}", f"{words.heading} of {len(series)} runs over steps")
    if any(name.endswith(_WARNING) for name in shown.values()):
        st.caption("⚠: this run has findings. Its curves may look good because of the problem.")


def _legend_name(lab: Lab, name: str) -> str:
    """A run in a legend, with a warning when something is wrong with it."""
    return phrases.short_name(name) + (_WARNING if selection.has_findings(lab, name) else "")


def first_own_step(nodes: list[RunNode], name: str, names: list[str]) -> int:
    """The first step to draw of a run: a fork's past is the line of the nearest run that it comes from, where one of
    them is drawn, up to the first fork on the way.
    """
    forks = {node.name: node for node in nodes if node.depth and not node.branch}
    step, at = math.inf, name
    while (node := forks.get(at)) is not None:
        step, at = min(step, node.step), node.parent
        if at in names:
            return int(step)
    return 0


def _marks(lab: Lab, names: list[str], shift: dict[str, int] | None) -> list[Mark]:
    """Forks and the newest changes of all runs."""
    found = []
    for name in names:
        moved = (shift or {}).get(name, 0)
        lineage = lab.lineage(name)
        if lineage is not None and lineage.forked:
            changes = changes_words(lineage.all_changes)
            text = f"{name} is forked from {lineage.parent}" + (f": {changes}" if changes else "")
            found.append(Mark(lineage.step - moved, text))
        found += [Mark(mark.step - moved, f"{name}: {mark.text}") for mark in phrases.marks(lab.reader(name).events())]
    return sorted(found, key=lambda mark: mark.step)[-_MARKS:]
