"""A part of a page that redraws itself when its run has news, and asks for a new page when something else changed.

Only displays belong inside: a control would lose what is being typed. The browser asks for news at the refresh interval
by a channel (`pages._panel`), so nothing runs here while there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import streamlit as st

from pages import _edge, _parts
from pages._panel import pulse
from qcore.lab import Lab, RunInfo


def live(
    lab: Lab,
    info: RunInfo,
    draw: Callable[[RunInfo], Hashable],
    *,
    every_step: bool = True,
    runs: Callable[[], Iterable[RunInfo]] | None = None,
) -> None:
    """Call `draw(info)` now, and again when there is news.

    draw: returns what the rest of the page depends on, besides the run's state: a new value asks for a new page.
    every_step: a step is news; else only what is recorded beside the steps' own scalars, such as arrays.
    runs: those whose news count, asked anew each time; this run alone when it is left out.
    """
    asked: list[Hashable] = []

    def news() -> Hashable:
        return tuple(
            (one.name, one.state, one.alive, one.step if every_step else 0, _version(lab, one))
            for one in (runs() if runs else [_parts.info_of(lab, info.name)])
        )

    def refresh() -> None:
        shown = news() if info.alive else None  # before drawing: what comes in between is not missed
        now = _parts.info_of(lab, info.name)
        depends: Hashable = None
        with _edge.in_words():
            depends = draw(now)
        pulse("live", news, shown, _parts.follow_seconds(info))
        if not asked:
            asked.append(depends)
        elif (now.state, now.alive, depends) != (info.state, info.alive, asked[0]):
            st.rerun()

    st.fragment(refresh)()
    _parts.refresh_button(info)


def _version(lab: Lab, info: RunInfo) -> Hashable:
    return lab.reader(info.name).version() if info.alive else None
