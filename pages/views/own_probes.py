"""Your probes: every series that a probe from outside has declared, in the words that it was declared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st

from pages.widgets import metric_row
from pages.widgets.chart import charts_over_steps
from pages.widgets.healthy_lines import range_lines
from qcore.lab import RunInfo
from qcore.probes.catalog import Declared, stored_series
from qcore.viz import Line, curves

_MAX_POINTS = 600


def draw(info: RunInfo, reader: Any, step: int | None, shared: dict[str, Any]) -> None:
    """A number and a chart for each series; nothing for a run without.

    Args:
        shared: how all charts of the page look.
    """
    declared = stored_series(reader.meta())
    if not declared:
        return
    names = [one.name for one in declared]
    series = reader.scalars_of(names, max_points=_MAX_POINTS)
    until = reader.scalars_of(names, stop=None if step is None else step + 1)
    st.header("Your probes", anchor=False)
    metric_row.metric_row(_newest_numbers(until, declared, step), key="own_numbers")
    figures = {
        f"own:{one.name}": (
            curves(
                [Line.of(one.title, series[one.name])],
                **one.titles,
                references=range_lines(one.healthy),
                message="Not measured so far.",
                **shared,
            ),
            one.meaning,
        )
        for one in declared
    }
    charts_over_steps(figures, step, info.step)


def _newest_numbers(
    series: Mapping[str, Any], declared: list[Declared], step: int | None
) -> Iterator[tuple[str, str, str]]:
    """The newest number of each up to the step; it names its own step where that is another one."""
    for one, (label, value, about) in zip(declared, metric_row.newest_values(series, declared), strict=True):
        steps = series[one.name].steps
        other = len(steps) and step is not None and int(steps[-1]) != step
        yield f"{label}, step {int(steps[-1]):,}" if other else label, value, about
