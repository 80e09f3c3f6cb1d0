"""Collapse Lab in the browser: opens the lab, registers the pages, the channels by which they follow runs, and
the door before it all.

`streamlit run app.py`; the runs folder is QCORE_RUNS, else ./checkpoints.
"""

from pathlib import Path

import streamlit as st
from streamlit.watcher import polling_path_watcher

from pages.session import doors, moment
from pages.session.lab import open_lab
from pages.widgets import browser_history, edge, live_fragment, sidebar
from qcore.server.live import route

# A file of our own: icons by name are fetched from a server outside.
ICON = Path(__file__).parent / ".streamlit" / "icon.svg"
CONFIG_SECONDS = 2.0


def draw() -> None:
    """The page that the URL names, with navigation and sidebar."""
    st.set_page_config(page_title="Collapse Lab", page_icon=str(ICON), layout="wide")
    page = st.navigation(
        [
            st.Page("pages/control_room.py", title="Control room", icon=":material/tune:", default=True),
            st.Page("pages/phase.py", title="Phase", icon=":material/blur_circular:"),
            st.Page("pages/interference.py", title="Interference", icon=":material/waves:"),
            st.Page("pages/video.py", title="Video frames", icon=":material/movie:"),
            st.Page("pages/flux.py", title="Flux", icon=":material/hub:"),
            st.Page("pages/tokens.py", title="Tokens", icon=":material/bar_chart:"),
            st.Page("pages/generations.py", title="Generations", icon=":material/notes:"),
            st.Page("pages/gradients.py", title="Gradients", icon=":material/account_tree:"),
            st.Page("pages/findings.py", title="Findings", icon=":material/fact_check:"),
            st.Page("pages/compare.py", title="Compare and fork", icon=":material/call_split:"),
            st.Page("pages/automation.py", title="Automation", icon=":material/smart_toy:"),
            st.Page("pages/benchmark.py", title="Benchmark", icon=":material/leaderboard:"),
        ]
    )
    lab = open_lab()
    browser_history.follow()
    with edge.in_words(), moment.within(lab):
        sidebar.sidebar(lab)
        live_fragment.begin(lab)
        with edge.in_words():
            page.run()
        live_fragment.end(lab)


if __name__ == "__main__":  # Streamlit runs this file as the script of every page,
    draw()
else:  # and imports it for what it serves beside them.
    # Left alone it looks for another config.toml ten times a second; each look holds up a thread that trains.
    setattr(polling_path_watcher, "_POLLING_PERIOD_SECS", CONFIG_SECONDS)  # noqa: B010 - a constant, to the type check
    entry = doors.opened()
    app = st.App(__file__, routes=[route(entry.base)], middleware=[entry.middleware], lifespan=doors.serving)
