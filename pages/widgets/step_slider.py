"""A slider over the history of a run, with buttons that play it like a film; pages share the chosen step.

The step lives in the session and in the URL (`?step=`); without one, a page shows the newest. Slider and pictures are
drawn in the same run of the script, from the same moment; at its newest place the slider says `newest`, and the
pictures' titles say which step that is. While it plays, the slider gives way to a bar inside the fragment that draws
the pictures: a slider that moves by itself cannot be held. The fragment steps on by itself and stops at the end; the
session keeps the step alone, never a list of what was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

from pages.session import advice, selection
from pages.session.moment import fragment
from pages.widgets import error_boundary
from pages.widgets.live_fragment import rerun_when_changed
from pages.widgets.live_panel import html_element, progress_html
from qcore.lab import Lab, RunInfo

MOST = 200
SPEEDS = (1, 2, 4, 8)
_STEP, _PLAYING = "step", "playing"
T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """What a page shows.

    Attributes:
        step: one of `steps`; None follows the newest.
        seconds: time a picture while it plays.
    """

    step: int | None
    steps: tuple[int, ...]
    playing: bool = False
    seconds: float = 0.5

    @property
    def shown(self) -> int:
        """The step to draw now."""
        return self.steps[-1] if self.step is None else self.step


def slider_steps(steps: Sequence[int], chosen: int | None = None, most: int = MOST) -> list[int]:
    """About `most` of the steps, every 2ⁿ-th, with the last one and the chosen one, if it is among them.

    A growing history keeps its choices until there are twice as many, so that a slider does not jump.
    """
    stride = 1
    while len(steps) > most * stride:
        stride *= 2
    kept = {*steps[::stride], *steps[-1:]}
    if chosen is not None and chosen in steps:
        kept.add(chosen)
    return sorted(kept)


def nearest_step(steps: Sequence[int], wanted: int) -> int:
    """The newest step at or before `wanted`, else the first one."""
    return max((step for step in steps if step <= wanted), default=steps[0])


def step_after(steps: Sequence[int], step: int) -> int:
    """The step after `step`; the last one follows itself."""
    return next((later for later in steps if later > step), steps[-1])


def draw_slider(info: RunInfo, steps: Sequence[int], page: str) -> Position:
    """Draw the controls over the steps that have arrays; at least one.

    Args:
        page: only the page that was asked plays.
    """
    wanted = _wanted_step()
    step = None if wanted is None else nearest_step(steps, wanted)
    playing = st.session_state.get(_PLAYING) == (page, info.name) and step is not None
    if not playing:
        st.session_state[_PLAYING] = None
    if step is None:
        st.query_params.pop(_STEP, None)
    else:
        st.query_params[_STEP] = str(step)
    choices = slider_steps(steps, step)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if playing:
            st.button("Pause", icon=":material/pause:", type="primary", key="play:pause", on_click=_pause)
        else:
            st.button(
                "Play",
                icon=":material/play_arrow:",
                key="play:play",
                disabled=len(choices) < 2,
                help="Show the run's history from the chosen step, or from the start, to its end.",
                on_click=_start,
                args=(page, info.name, choices, step),
            )
        st.button(
            "Newest",
            icon=":material/last_page:",
            key="play:newest",
            disabled=step is None,
            help="Follow the newest measurement.",
            on_click=_follow,
        )
        speed = st.segmented_control(
            "Pictures a second", SPEEDS, key="speed", default=4, required=True, bind="query-params"
        )
        if not playing:
            _slider(choices, step)
    return Position(step, tuple(choices), playing, 1 / speed)


def show(
    lab: Lab,
    info: RunInfo,
    position: Position,
    pictures: Callable[[int], None],
    over_steps: Callable[[int | None], None],
) -> None:
    """Draw the pictures of a step, and below them what spans all steps.

    The pictures get the step that the slider shows; those of another step say so in their titles. What spans all steps
    gets the chosen step, None for the newest. A film that plays is not interrupted by news; what spans all steps is not
    drawn again for each of its pictures, and so marks none of them.
    """
    _play(lab, position, pictures)
    over_steps(None if position.playing else position.step)
    if not position.playing:
        rerun_when_changed(lab, info, "records")


def log_steps() -> bool:
    """Whether the axis of the steps is logarithmic; one choice for all views."""
    return st.toggle("Logarithmic steps", key="log_steps", bind="query-params", help="Show early steps in detail.")


def step_page(
    lab: Lab,
    info: RunInfo,
    steps: Sequence[int],
    arrays: Sequence[str],
    control: str,
    what: str,
    options: Callable[[], T],
    pictures: Callable[[int, T], None],
    over_steps: Callable[[int | None, Position, T], None],
) -> None:
    """A view of one step: the scrubber, the view's own options, the pictures of the step and what spans all steps.

    Args:
        steps: those that have arrays; without any, the view says what it waits for.
        arrays: their names, the first of which names the view's film.
        control: the cadence that brings them.
        what: they are, in words.
        options: draws the view's choices and returns them.
    """
    if not steps:
        explain_waiting(lab, info, arrays, control, what)
        return
    position = draw_slider(info, steps, arrays[0])
    chosen = options()
    show(
        lab,
        info,
        position,
        lambda step: pictures(step, chosen),
        lambda step: over_steps(step, position, chosen),
    )


def explain_waiting(lab: Lab, info: RunInfo, names: Sequence[str], control: str, what: str) -> None:
    """Say why there is nothing to show yet; the page is drawn anew when the first arrays arrive."""
    st.info(advice.why_nothing_to_show(lab, info, what, control, budgeted=True))
    if info.alive:
        rerun_when_changed(lab, info, lambda: any(lab.reader(info.name).array_steps(name) for name in names))


def _play(lab: Lab, position: Position, draw: Callable[[int], None]) -> None:
    """Call `draw(step)` for the shown step now, and while it plays for the steps after it, one at a time."""
    first = [True]

    def picture(_: Lab) -> None:
        at = nearest_step(position.steps, st.session_state[_STEP])
        if not first[0]:
            at = st.session_state[_STEP] = step_after(position.steps, at)
        first[0] = False
        place = position.steps.index(at) + 1
        html_element(
            "film",
            progress_html(place / len(position.steps), f"Step {at:,} · picture {place} of {len(position.steps)}"),
        )
        draw(at)
        if at == position.steps[-1]:
            _pause()
            st.rerun()

    if position.playing:
        fragment(error_boundary.with_errors_shown(picture), position.seconds)(lab)
    else:
        draw(position.shown)


def _wanted_step() -> int | None:
    """The step of the session, else of the URL; None when there is none or it is no whole number."""
    if _STEP not in st.session_state:
        text = st.query_params.get(_STEP, "")
        st.session_state[_STEP] = int(text) if text.isdecimal() and len(text) < 16 else None
    return st.session_state[_STEP]


def _slider(choices: list[int], step: int | None) -> None:
    if len(choices) < 2:
        st.caption("One measurement so far.")
        return
    key = selection.widget_key(_STEP)
    newest = choices[-1] if step is None else None
    if step is None:  # a new one for every newest step: a slider that is kept would stay where it was
        step = choices[-1]
        key = f"{key}:{step}"
    # The browser finds it by this name, and says beside it where the page is going until the pictures are there.
    with st.container(key="step-slider"):
        st.select_slider(
            "Step",
            choices,
            step,
            key=key,
            # It changes by itself while a run trains, and cannot do so together with the pictures: they name the step.
            format_func=lambda shown: "newest" if shown == newest else f"{shown:,}",
            on_change=selection.store_choice,
            args=(_STEP, key),
        )


def _follow() -> None:
    selection.remember_choice(_STEP, None)


def _pause() -> None:
    st.session_state[_PLAYING] = None
    selection.remember_choice(_STEP, st.session_state[_STEP])


def _start(page: str, run: str, choices: list[int], step: int | None) -> None:
    st.session_state[_PLAYING] = (page, run)
    selection.remember_choice(_STEP, choices[0] if step is None or step == choices[-1] else step)
