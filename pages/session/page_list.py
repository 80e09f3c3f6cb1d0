"""The pages of the app: the one list that navigation, links, docs and tests read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from qcore.config import Capability

APP = Path(__file__).parents[2]


@dataclass(frozen=True)
class Page:
    """A page of the app.

    Attributes:
        path: its script, from the app's folder.
        needs: what a run must have for the page to show anything of it; None for a page that shows every run. Where it
            has not, the navigation leaves the page out; by its address it opens all the same, and says why it is empty.
    """

    path: str
    title: str
    icon: str
    needs: Capability | None = None

    def entry(self, capabilities: frozenset[Capability] | None = None) -> StreamlitPage:
        """As the navigation takes it; the first page of the list opens where the URL names none.

        Args:
            capabilities: of the selected run; None where there is none, or it cannot be read, and every page is listed.
        """
        is_empty = self.needs is not None and capabilities is not None and self.needs not in capabilities
        return st.Page(
            APP / self.path,
            title=self.title,
            icon=self.icon,
            default=self is PAGES[0],
            visibility="hidden" if is_empty else "visible",
        )

    def link(self, label: str = "") -> None:
        """A link to the page, by its own icon."""
        st.page_link(self.path, label=label or f"Open {self.title}", icon=self.icon)


CONTROL_ROOM = Page("pages/control_room.py", "Control room", ":material/tune:")
PHASE = Page("pages/phase.py", "Phase", ":material/blur_circular:", "phases")
INTERFERENCE = Page("pages/interference.py", "Interference", ":material/waves:", "text")
VIDEO = Page("pages/video.py", "Video frames", ":material/movie:", "clips")
FLUX = Page("pages/flux.py", "Flux", ":material/hub:", "discs")
TOKENS = Page("pages/tokens.py", "Tokens", ":material/bar_chart:", "text")
GENERATIONS = Page("pages/generations.py", "Generations", ":material/notes:", "samples")
GRADIENTS = Page("pages/gradients.py", "Gradients", ":material/account_tree:", "gradients")
FINDINGS = Page("pages/findings.py", "Findings", ":material/fact_check:")
COMPARE = Page("pages/compare.py", "Compare and fork", ":material/call_split:")
AUTOMATION = Page("pages/automation.py", "Automation", ":material/smart_toy:", "trainer")
BENCHMARK = Page("pages/benchmark.py", "Benchmark", ":material/leaderboard:")

PAGES = (
    CONTROL_ROOM,
    PHASE,
    INTERFERENCE,
    VIDEO,
    FLUX,
    TOKENS,
    GENERATIONS,
    GRADIENTS,
    FINDINGS,
    COMPARE,
    AUTOMATION,
    BENCHMARK,
)
"""In the order of the navigation."""
