"""What differs between language runs and video runs on the pages that show both, said once."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from pages.session.markdown_escape import escape_markdown
from pages.session.page_list import CONTROL_ROOM, TOKENS
from pages.session.page_list import VIDEO as VIDEO_PAGE
from qcore.base.run_states import RunState
from qcore.lab import RunInfo
from qcore.probes import catalog


@dataclass(frozen=True)
class Words:
    """How pages speak of a family.

    Attributes:
        main, main_words: its first loss term, and in words.
        loss: unit of the weighted total.
        held: series of the loss on held-out data.
        units: what a step consumes.
        watched: what the detectors look for.
        terms_help, no_terms: when terms are measured, and what to say while none is.
    """

    main: str
    main_words: str
    held: str
    units: str
    held_data: str
    watched: str
    terms_help: str
    no_terms: str

    @property
    def held_unit(self) -> str:
        """Unit of the held-out loss."""
        return catalog.series_words(self.held).unit


TEXT = Words(
    main="ce",
    main_words="cross-entropy",
    held=catalog.EVAL_CE,
    units=catalog.TRAIN_TOKENS_PER_SECOND,
    held_data="held-out text",
    watched="leaks, dead gradients, locked or half-used phases, collapsing tokens, harmful terms",
    terms_help="A term of weight 0 is measured too, every few steps: `tokens every` sets how often.",
    no_terms="Not measured so far.",
)
VIDEO = Words(
    main="flow",
    main_words="flow loss",
    held=catalog.EVAL_FLOW,
    units=catalog.TRAIN_FRAMES_PER_SECOND,
    held_data="held-out clips",
    watched="frames that average into one, flicker, velocities that do not follow the path, noise that differs between "
    "training and sampling, dead gradients",
    terms_help="A term of weight 0 is measured too, every few steps: `frames every` sets how often.",
    no_terms="Not measured so far.",
)


def has_trainer(info: RunInfo) -> bool:
    """Whether a trainer of this lab can act on a run: resume, change, fork, sample it. One that cannot be read
    counts: what is wrong with it is said in its own words.
    """
    return "trainer" in info.capabilities or info.state == RunState.UNREADABLE


def is_video(info: RunInfo) -> bool:
    """Whether a run trains on clips."""
    return "clips" in info.capabilities


def words(info: RunInfo) -> Words:
    """How pages speak of this run."""
    return VIDEO if is_video(info) else TEXT


def has_text(info: RunInfo, what: str) -> bool:
    """Whether a page about language has something to show; otherwise it says where to look.

    Args:
        what: `phases`.
    """
    if "text" in info.capabilities:
        return True
    if not has_trainer(info):
        _without(info, what)
        return False
    st.info(
        f"This run trains on video: it has no {what}. See its clips and how alike their frames are under *Video "
        "frames*, or choose a language run on the left."
    )
    VIDEO_PAGE.link()
    _pages_for_every_run()
    return False


def has_clips(info: RunInfo) -> bool:
    """Whether the page about clips has something to show; otherwise it says where to look."""
    if is_video(info):
        return True
    if not has_trainer(info):
        _without(info, "clips")
        return False
    st.info(
        "This run trains on text: it has no clips. See what it predicts under *Tokens*, choose a video run on the "
        "left, or start one in the control room from a preset that begins with *Video*."
    )
    TOKENS.link()
    CONTROL_ROOM.link("Open the control room")
    _pages_for_every_run()
    return False


def elsewhere(info: RunInfo, what: str) -> None:
    """Say of a run that another program wrote that this cannot be done or shown here, and where to look.

    Args:
        what: one or two sentences in Markdown.
    """
    st.info(f"{what} Another program wrote this run{_source(info)}; see what it holds in the *Control room*.")
    CONTROL_ROOM.link("Open the control room")


def _without(info: RunInfo, what: str) -> None:
    elsewhere(info, f"This run has recorded no {what}.")


def _source(info: RunInfo) -> str:
    return f" ({escape_markdown(info.source)})" if info.source else ""


def held_out(info: RunInfo) -> float | None:
    """The newest loss on held-out data, in the family's unit."""
    return info.eval_flow if is_video(info) else info.eval_ce


def speed(info: RunInfo) -> float | None:
    """Tokens or frames a second, running mean."""
    return info.frames_per_second if is_video(info) else info.tokens_per_second


def _pages_for_every_run() -> None:
    st.caption("Control room, Findings and Compare show every run.")
