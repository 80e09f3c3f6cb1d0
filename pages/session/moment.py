"""A page of one moment: how everything that a person sees together comes to be of one instant of the run.

Read. `within(lab)` opens a moment (`qcore.lab.Moment`) for this thread; every read through the lab that pages hand
around then comes from it, whichever view asks. One moment spans a run of the page's script: `app.py` opens it before
the sidebar is drawn and closes it after the page. One spans each answer of a channel, so that the words and the charts
of a live update are of one snapshot; and one each rerun of a fragment (`fragment`). An action ends the moment, so its
outcome can be read.

News. What makes a page look different is asked of a moment, too (`pages.widgets.live_fragment`): state, alarm, and what
the page says it shows. When it has changed, the script of the whole page runs again; no part of it goes on alone.

Show. Streamlit hands elements to the browser one by one, and a page between two moments would be seen for as long as
its script takes. Elements of our own therefore wait, in the browser, until the script has ended, and then change in one
task (`pages/assets/hub.js`); what names a state or a step is drawn by them (`pages.widgets.live_panel.html_element`),
and native widgets name none that the run's progress changes: a slider at its newest place says `newest`, and at any
other an arrow before its step says that the pictures are on their way to it. In a live update words and charts change
in one task, too. A chart that cannot be drawn then (out of sight, or in a person's hand) says to which step it goes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import isgenerator
from typing import Any, ParamSpec, cast

import streamlit as st

from qcore.lab import Lab, Moment
from qcore.runs.reader_set import RunReaderSet

_READS = frozenset({name for name in vars(RunReaderSet) if not name.startswith("_")} | {"outcome", "runs_dir"})
_PLAIN = frozenset({"wait", "close"})
P = ParamSpec("P")


class _Here(threading.local):
    moment: Moment | None = None


_here = _Here()


class PageLab:
    """A lab as pages use it: reads are of this thread's moment, where one is open; all else is the person's lab's."""

    def __init__(self, lab: Lab, persons: Lab) -> None:
        self._lab, self._persons = lab, persons

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._persons, name)
        if not callable(found) or name in _PLAIN:
            return found
        return partial(self._read, name, found) if name in _READS else _renew_before(found)

    def _read(self, name: str, plain: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Ask the moment of the thread that asks now: what was looked up in one may be called in another."""
        moment = _here.moment
        is_here = moment is not None and moment.lab is self._lab
        return (getattr(moment, name) if is_here else plain)(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PageLab) and self._lab is other._lab

    def __hash__(self) -> int:
        return hash(self._lab)


def page_lab(lab: Lab, persons: Lab) -> Lab:
    """The lab that pages hand around.

    Args:
        lab: read from.
        persons: the same, as the person may use it.
    """
    return cast(Lab, PageLab(lab, persons))


@contextmanager
def consistent_reads(lab: Lab) -> Iterator[None]:
    """What this thread reads inside, through a lab of `seen`, is of one moment. Inside another moment: of that one."""
    base = lab._lab if isinstance(lab, PageLab) else lab
    if _here.moment is not None and _here.moment.lab is base:
        yield
        return
    before, _here.moment = _here.moment, Moment(base)
    try:
        yield
    finally:
        _here.moment.close()
        _here.moment = before


def fragment(draw: Callable[P, None], run_every: float | None = None) -> Callable[P, None]:
    """`st.fragment` for a function whose first argument is the lab: each of its reruns, too, is of one moment."""

    @wraps(draw)
    def of_one_moment(*args: P.args, **kwargs: P.kwargs) -> None:
        with consistent_reads(cast(Lab, args[0])):
            draw(*args, **kwargs)

    return st.fragment(of_one_moment, run_every=run_every)


def _renew_before(act: Callable[..., Any]) -> Callable[..., Any]:
    """An action that ends the moment of this thread, as does every further piece of what it yields."""

    @wraps(act)
    def act_on_new_moment(*args: Any, **kwargs: Any) -> Any:
        renew()
        found = act(*args, **kwargs)
        return _renew_before_each(found) if isgenerator(found) else found

    return act_on_new_moment


def _renew_before_each(found: Iterator[Any]) -> Iterator[Any]:
    while True:
        renew()
        try:
            piece = next(found)
        except StopIteration:
            return
        yield piece


def renew() -> None:
    """End this thread's moment: what is read from now on is of another. For work that takes long."""
    if _here.moment is not None:
        _here.moment.renew()
