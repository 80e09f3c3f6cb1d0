"""The head of a page about the selected run: title, views, what is wrong with it, what to do when there is none."""

from __future__ import annotations

import streamlit as st

from pages.session import advice, family_words, phrases, selection
from pages.session.markdown_escape import escape_markdown
from pages.session.page_list import CONTROL_ROOM, PAGES
from pages.widgets import boxes
from qcore.base.run_states import RunState
from qcore.config import Capability
from qcore.lab import Lab, LabError, RunInfo


def view_picker(views: tuple[str, ...]) -> str:
    """Choose a view of a page; remembered over page switches, and in the URL unless it is the first one."""
    wanted = st.session_state.get("view", st.query_params.get("view"))
    st.session_state["view"] = wanted if wanted in views else views[0]
    key = selection.widget_key("view")
    st.segmented_control(
        "View",
        views,
        key=key,
        default=st.session_state["view"],
        required=True,
        label_visibility="collapsed",
        on_change=selection.store_choice,
        args=("view", key),
    )
    if st.session_state["view"] == views[0]:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = st.session_state["view"]
    return st.session_state["view"]


def refresh_button(info: RunInfo) -> None:
    """Refresh by hand, where nothing else does."""
    if info.alive and not selection.refresh_interval():
        st.button("Refresh now", icon=":material/refresh:", key="refresh_now")


def hand_over_to_app() -> None:
    """A link to a page was the first visit since the server has started: Streamlit found the page by its folder and
    runs it alone. Any navigation ends that; the next run is app.py's, which opens the same link.
    """
    if "run" not in st.session_state and not st.session_state.get("handed_over"):
        st.session_state["handed_over"] = True
        st.navigation([one.entry() for one in PAGES], position="hidden")
        st.rerun()


def to_show(lab: Lab) -> frozenset[Capability] | None:
    """What the selected run has to show; None where no run can be read, so that nothing is left out."""
    try:
        info = selection.wanted(lab)
    except (LabError, OSError):  # the page says so
        return None
    return None if info is None or info.state == RunState.UNREADABLE else info.capabilities


def open_run(lab: Lab, title: str) -> RunInfo | None:
    """Heading of a page about the selected run; None, after saying what to do, when there is nothing to show."""
    hand_over_to_app()
    info = selection.selected_run(lab)
    if info is None:
        st.title(title)
        st.info("There is no run yet. Start one in the **Control room**: choose a preset and press *Start*.")
        CONTROL_ROOM.link("Open the control room")
        return None
    heading(title, info)
    show_trouble(lab, info)
    return None if info.state == RunState.UNREADABLE else info


def heading(title: str, info: RunInfo) -> None:
    """Page title with the run's name beside it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.title(title, anchor=False, width="content")
        st.text(phrases.short_name(info.name), width="content", help=escape_markdown(info.name))


def _trouble_elsewhere(info: RunInfo) -> None:
    """Of a run that another program wrote: whose it is, and how it ended."""
    if info.state == RunState.FAILED:
        boxes.message_box(
            "trouble", "error", f"**The run failed at step {info.step:,}.** {escape_markdown(info.message)}"
        )
    elif info.state == RunState.INTERRUPTED:
        boxes.message_box("trouble", "warning", f"At step {info.step:,}: {escape_markdown(info.message)}.")


def show_trouble(lab: Lab, info: RunInfo) -> None:
    """Say prominently what is wrong with a run, and what to do."""
    if not family_words.has_trainer(info):
        _trouble_elsewhere(info)
    elif info.state == RunState.FAILED:
        remedy = advice.remedy(info, lab.stranded_steps(info.name))
        boxes.message_box(
            "trouble", "error", f"**The run failed at step {info.step:,}.** {escape_markdown(info.message)}\n\n{remedy}"
        )
    elif info.state == RunState.UNREADABLE:
        boxes.message_box(
            "trouble",
            "error",
            f"**This run cannot be read.** {escape_markdown(info.message)}\n\n{escape_markdown(info.remedy)} The "
            "other runs are not "
            "affected.",
        )
    elif info.state == RunState.INTERRUPTED:
        boxes.message_box(
            "trouble",
            "warning",
            f"The process of this run exited unexpectedly at step {info.step:,}. "
            + advice.how_to_continue(lab.stranded_steps(info.name)),
        )
    if info.drops:
        st.warning(f"{info.drops:,} measurements were dropped because the disk was too slow; the curves have gaps.")
