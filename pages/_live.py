"""What makes a page look different by now: asked for while its run lives, and answered by running its script again.

A page registers, while it is drawn, what it shows besides the sidebar; at its end `follow` opens one channel for all of
it (`pages._panel`). Nothing runs here while there is no news, and no part of a page is drawn again without the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from threading import local
from typing import Literal

from pages import _parts
from pages._panel import pulse
from qcore.lab import Lab, RunInfo

News = Callable[[], Hashable]


class _Page(local):
    def __init__(self) -> None:
        self.news: list[tuple[News, Hashable, float]] = []
        self.by_itself = False


_page = _Page()


def live(
    lab: Lab,
    info: RunInfo,
    news: Literal["steps", "records"] | News = "steps",
    *,
    runs: Callable[[], Iterable[RunInfo]] | None = None,
) -> None:
    """Run the page anew when there is news of its run while it is alive.

    news: `steps`: any step, and all that is recorded; `records`: what is recorded beside the steps' own scalars, such
    as arrays; or what the page shows, asked in other threads, too · runs: those whose news count, asked anew each
    time; this run alone when it is left out.
    """
    if callable(news):
        asked: News = news
    else:
        asked = partial(_news, lab, runs or (lambda: [lab.info(info.name)]), news == "steps")
    if seconds := _parts.follow_seconds(info):
        _page.news.append((asked, asked(), seconds))
    _parts.refresh_button(info)


def follows_itself() -> None:
    """Say that a panel of the page watches the sidebar, too."""
    _page.by_itself = True


def begin() -> None:
    """Forget what an earlier page has registered."""
    _page.news.clear()
    _page.by_itself = False


def follow(lab: Lab) -> None:
    """The page's channel: for what it has registered, and for what the sidebar shows."""
    info = _parts.selected(lab)
    if info is None or _page.by_itself:
        return
    around = partial(_parts.around, lab, info.name, _parts.on_their_way(info.name))
    wanted = [*_page.news]
    if seconds := _parts.follow_seconds(info):
        wanted.append((around, around(), max(seconds, _parts.ALARM_SECONDS)))
    if wanted:
        asked = tuple(one for one, _, _ in wanted)
        shown = tuple(value for _, value, _ in wanted)
        pulse("page", lab, lambda: tuple(one() for one in asked), shown, min(every for _, _, every in wanted))


def _news(lab: Lab, runs: Callable[[], Iterable[RunInfo]], every_step: bool) -> Hashable:
    return tuple((one.name, one.state, one.alive, one.step if every_step else 0, _version(lab, one)) for one in runs())


def _version(lab: Lab, info: RunInfo) -> Hashable:
    return lab.reader(info.name).version() if info.alive else None
