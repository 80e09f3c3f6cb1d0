"""Collapse Lab in the browser: opens the lab, registers the pages, the channels by which they follow runs, and
the door before it all.

`streamlit run app.py`; the runs folder is QCORE_RUNS, else ./checkpoints.
"""

import contextlib
from pathlib import Path

import streamlit as st
from streamlit.watcher import polling_path_watcher

from pages.session import doors, moment
from pages.session.lab import open_lab
from pages.session.page_list import PAGES
from pages.widgets import browser_history, error_boundary, live_fragment, run_heading, sidebar
from qcore.server.live import route

# A file of our own: icons by name are fetched from a server outside.
ICON = Path(__file__).parent / ".streamlit" / "icon.svg"
CONFIG_SECONDS = 2.0


def draw() -> None:
    """The page that the URL names, with navigation and sidebar."""
    st.set_page_config(page_title="Collapse Lab", page_icon=str(ICON), layout="wide")
    with contextlib.ExitStack() as unless_opened:
        # Where a login ends the script: without a navigation Streamlit lists what it finds in the folder of pages.
        unless_opened.callback(lambda: st.navigation([one.entry() for one in PAGES]))
        lab = open_lab()
        unless_opened.pop_all()
    browser_history.forget_on_navigation()
    with error_boundary.show_errors(), moment.consistent_reads(lab):
        to_show = run_heading.to_show(lab)
        page = st.navigation([one.entry(to_show) for one in PAGES])
        sidebar.sidebar(lab)
        live_fragment.begin_page(lab)
        with error_boundary.show_errors():
            page.run()
        live_fragment.end_page(lab)


if __name__ == "__main__":  # Streamlit runs this file as the script of every page,
    draw()
else:  # and imports it for what it serves beside them.
    # Left alone it looks for another config.toml ten times a second; each look holds up a thread that trains.
    setattr(polling_path_watcher, "_POLLING_PERIOD_SECS", CONFIG_SECONDS)  # noqa: B010 - a constant, to the type check
    entry = doors.open_door()
    app = st.App(__file__, routes=[route(entry.base)], middleware=[entry.middleware], lifespan=doors.app_lifespan)
