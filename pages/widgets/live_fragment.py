"""What makes a page look different by now: asked for while its run lives, and answered by running its script again.

A page has one channel (`pages.widgets.live_panel`): a panel that it follows, or `live` for what it says it shows, or
else the sidebar's alone. Each of them watches what the sidebar shows, too. Nothing runs here while there is no news,
and no part of a page is drawn again without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from threading import local
from typing import Literal

from pages.session import selection
from pages.widgets import run_heading
from pages.widgets.live_panel import rerun_when_stale
from qcore.lab import Lab, RunInfo

News = Callable[[], Hashable]


class _Page(local):
    """What this thread has drawn of its page.

    Attributes:
        info, around: the run that the sidebar shows and what it says of it, as of `selection.shared_state`.
    """

    followed = False
    info: RunInfo | None = None
    around: Hashable = None


_page = _Page()


def rerun_when_changed(
    lab: Lab,
    info: RunInfo,
    news: Literal["steps", "records"] | News = "steps",
    *,
    runs: Callable[[], Iterable[RunInfo]] | None = None,
) -> None:
    """Run the page anew when there is news of its run while it is alive. Once a page.

    Args:
        news: `steps`: any step, and all that is recorded; `records`: what is recorded beside the steps' own scalars,
            such as arrays; or what the page shows, asked in other threads, too.
        runs: those whose news count, asked anew each time; this run alone when it is left out.
    """
    if callable(news):
        asked: News = news
    else:
        asked = partial(_recorded_state, lab, runs or (lambda: [selection.listed_run(lab, info.name)]), news == "steps")
    _follow(lab, info, asked, selection.follow_seconds(info))
    run_heading.refresh_button(info)


def mark_followed() -> None:
    """Say that a panel of the page watches what the sidebar shows."""
    _page.followed = True


def begin_page(lab: Lab) -> None:
    """A page is about to be drawn; its sidebar has been. What a long answer reads later is no longer of that moment, so
    what the sidebar shows is noted now.
    """
    _page.followed = False
    _page.info = info = selection.selected_run(lab)
    _page.around = None if info is None else selection.shared_state(lab, info.name)


def end_page(lab: Lab) -> None:
    """The page has been drawn: the sidebar is followed, if nothing else of the page does that."""
    info = _page.info
    if info is not None and not _page.followed and (seconds := selection.follow_seconds(info)):
        _follow(lab, info, tuple, max(seconds, selection.ALARM_SECONDS))


def _follow(lab: Lab, info: RunInfo, news: News, seconds: float) -> None:
    shown = _sidebar_run(lab, info)
    sent = selection.pending_commands(shown)

    def current_state() -> Hashable:
        return selection.shared_state(lab, shown), news(), selection.command_statuses(lab, shown, sent)

    if seconds:
        drawn = (
            _page.around if _page.info is not None and _page.info.name == shown else selection.shared_state(lab, shown)
        )
        rerun_when_stale(
            "page", lab, current_state, (drawn, news(), selection.command_statuses(lab, shown, sent)), seconds
        )
    mark_followed()


def _sidebar_run(lab: Lab, info: RunInfo) -> str:
    """Name of the run that the sidebar shows; a page may follow another one."""
    selected = selection.selected_run(lab)
    return info.name if selected is None else selected.name


def _recorded_state(lab: Lab, runs: Callable[[], Iterable[RunInfo]], every_step: bool) -> Hashable:
    return tuple((one.name, one.state, one.alive, one.step if every_step else 0, _version(lab, one)) for one in runs())


def _version(lab: Lab, info: RunInfo) -> Hashable:
    return lab.reader(info.name).version() if info.alive else None
