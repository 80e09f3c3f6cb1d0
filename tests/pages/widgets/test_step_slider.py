"""The slider over the history: which steps it offers, what a link selects, and how the film plays and ends."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.session import selection
from pages.widgets import step_slider
from pages.widgets.step_slider import Position, nearest_step, slider_steps, step_after
from qcore.lab import Lab
from qcore.store import DATABASE_NAME, RunReader, RunWriter
from tests.pages.drive import GRADIENTS, INTERFERENCE, PHASE, charts, open_app, press
from tests.pages.inside import write_run
from tests.pages.sent import charts_of


def test_a_short_history_is_offered_whole():
    assert slider_steps([0, 20, 40]) == [0, 20, 40]
    assert slider_steps([7]) == [7]


def test_a_long_history_is_thinned_and_keeps_its_ends_and_the_chosen_step():
    steps = list(range(0, 100_001, 20))
    shown = slider_steps(steps, chosen=61_460)
    assert len(shown) <= step_slider.MOST + 2
    assert {0, 61_460, 100_000} <= set(shown) <= set(steps)
    assert shown == sorted(shown)
    assert 61_450 not in slider_steps(steps, chosen=61_450)


def test_what_is_offered_stays_while_the_history_grows_until_it_doubles():
    steps = list(range(0, 20_000, 20))
    before, after = slider_steps(steps[:900]), slider_steps(steps[:1000])
    assert set(before[:-1]) <= set(after)


def test_the_step_of_a_link_is_the_newest_at_or_before_it():
    steps = [10, 20, 30]
    assert [nearest_step(steps, wanted) for wanted in (5, 10, 29, 30, 10**9)] == [10, 10, 20, 30, 30]
    assert [step_after(steps, step) for step in (10, 15, 30, 99)] == [20, 20, 30, 30]


class _Rerun(Exception):
    """What `st.rerun` does to the script."""


@pytest.fixture
def film(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for Streamlit: `ticks` are the functions given to `st.fragment`, with their intervals."""

    def rerun() -> None:
        raise _Rerun

    stage = SimpleNamespace(session_state={}, query_params={}, ticks=[], rerun=rerun)

    def fragment(function: Any, run_every: float) -> Any:
        stage.ticks.append((partial(function, None), run_every))
        return function

    monkeypatch.setattr(step_slider, "fragment", fragment)
    monkeypatch.setattr(step_slider, "html_element", lambda *_: None)
    monkeypatch.setattr(step_slider, "st", stage)
    monkeypatch.setattr(selection, "st", stage)
    return stage


def test_the_film_shows_each_picture_once_and_stops_at_the_last(film: SimpleNamespace, tmp_path: Path):
    steps = [0, 20, 40, 60]
    step_slider._start("phase", "run", steps, None)
    drawn: list[int] = []
    step_slider._play(Lab(tmp_path), Position(film.session_state["step"], tuple(steps), True, 0.25), drawn.append)
    [(tick, seconds)] = film.ticks
    assert (drawn, seconds) == ([0], 0.25)
    tick()
    tick()
    assert film.session_state["playing"] == ("phase", "run")
    with pytest.raises(_Rerun):
        tick()
    assert drawn == steps
    assert film.session_state["playing"] is None
    assert film.session_state["step"] == 60
    assert set(film.session_state) == {"playing", "step", "step:nonce"}


def test_the_film_starts_at_the_chosen_step_and_again_from_the_start_at_the_end(film: SimpleNamespace):
    for step, expected in ((20, 20), (60, 0), (None, 0)):
        step_slider._start("phase", "run", [0, 20, 60], step)
        assert film.session_state["step"] == expected


def test_a_still_picture_needs_no_fragment(film: SimpleNamespace, tmp_path: Path):
    drawn: list[int] = []
    step_slider._play(Lab(tmp_path), Position(20, (0, 20, 40)), drawn.append)
    assert (drawn, film.ticks) == ([20], [])


def test_pause_keeps_the_picture(film: SimpleNamespace):
    film.session_state |= {"playing": ("phase", "run"), "step": 40}
    step_slider._pause()
    assert film.session_state["step"] == 40
    assert film.session_state["playing"] is None


def test_a_step_in_the_link_is_shown_and_kept_from_page_to_page(inside: Lab):
    at = open_app(PHASE, run="seen", step="70")
    assert not at.exception
    assert at.query_params["step"] == "60"
    assert at.select_slider(key="step:0").value == 60
    at.switch_page(INTERFERENCE).run()
    assert at.select_slider(key="step:0").value == 60
    at.switch_page(GRADIENTS).run()
    assert at.query_params["step"] == "60"


@pytest.mark.parametrize("text", ["", "abc", "-5", "1e3", "9" * 40, "²"])
def test_a_senseless_step_in_the_link_shows_the_newest(text: str, inside: Lab):
    at = open_app(PHASE, run="seen", step=text)
    assert not at.exception
    assert "step" not in at.query_params
    assert at.button(key="play:newest").disabled


def lines_at(at: AppTest) -> list[float]:
    """Steps at which the curves have a line."""
    shapes = [shape for chart in charts_of(at).values() for shape in chart["layout"].get("shapes", [])]
    return [shape["x0"] for shape in shapes if shape["type"] == "line" and shape["x0"] == shape["x1"]]


def test_the_slider_newest_play_and_pause(inside: Lab):
    at = open_app(PHASE, run="seen")
    at.select_slider[0].set_value(40).run()
    assert at.query_params["step"] == "40"
    assert lines_at(at) == [40] * 4
    press(at, "Newest")
    assert "step" not in at.query_params
    press(at, "Play")
    assert not at.exception
    assert at.session_state["step"] == 0
    assert charts(at) == 8
    assert lines_at(at) == [], "the pictures move on, and a line would stay at the first of them"
    assert not at.select_slider
    press(at, "Pause")
    assert at.query_params["step"] == "0"
    assert at.select_slider(key=f"step:{at.session_state['step:nonce']}").value == 0


def test_a_slider_that_follows_the_newest_moves_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path))
    run = write_run(tmp_path, "growing", last=60, every=20, tokens=12)
    at = open_app(PHASE, run="growing")
    assert at.select_slider[0].value == 60
    found = RunReader(run / DATABASE_NAME).arrays("phase")
    assert found is not None
    with RunWriter(run / DATABASE_NAME) as writer:
        writer.log_arrays(80, "phase", found[1])
    at.run()
    assert not at.exception
    assert at.select_slider[0].value == 80
    assert "step" not in at.query_params


def test_a_film_does_not_go_on_on_another_page_or_run(inside: Lab):
    at = press(open_app(PHASE, run="seen"), "Play")
    assert at.session_state["playing"] == ("phase", "seen")
    at.switch_page(INTERFERENCE).run()
    assert at.session_state["playing"] is None
    assert not at.exception
