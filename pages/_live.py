"""A part of a page that redraws itself while its run is alive, and asks for a new page when something else changed.

Only displays belong inside: a control would lose what is being typed. The refresh stops with the run, becomes four
times slower when eight refreshes in a row saw nothing new, and returns to its pace when two in a row did.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import streamlit as st

from pages import _parts
from pages._panel import QUIET_LIMIT, SLOWER, SLOWEST
from qcore.lab import Lab, RunInfo


def live(lab: Lab, info: RunInfo, draw: Callable[[RunInfo], Hashable]) -> None:
    """Call `draw(info)` now and at the refresh interval.

    It returns what the rest of the page depends on, besides the run's state: a new value asks for a new page.
    """
    pace = _Pace(info.name)
    seconds = _parts.follow_seconds(info)
    asked: list[Hashable] = []

    def refresh() -> None:
        now = _parts.info_of(lab, info.name)
        depends = draw(now)
        if not asked:
            asked.append(depends)
        elif (now.state, now.alive, depends) != (info.state, info.alive, asked[0]) or pace.changes(now.step):
            st.rerun()

    st.fragment(refresh, run_every=min(SLOWEST, seconds * SLOWER) if pace.slow and seconds else seconds or None)()
    _parts.refresh_button(info)


class _Pace:
    """Counts refreshes with and without news in the session; two small numbers a run."""

    def __init__(self, run: str) -> None:
        self._key = f"pace:{run}"
        self.slow = bool(st.session_state.get(self._key, {}).get("slow"))

    def changes(self, step: int) -> bool:
        """Note one refresh that saw `step`; True when the pace has just changed."""
        kept = st.session_state.setdefault(self._key, {"slow": False, "step": step, "streak": 0})
        news = step != kept["step"]
        kept["streak"] = kept["streak"] + 1 if news == kept["slow"] else 0
        kept["step"] = step
        if kept["streak"] < (2 if kept["slow"] else QUIET_LIMIT):
            return False
        kept["slow"], kept["streak"] = not kept["slow"], 0
        return True
