"""The Flux page: a run that was looked into, the published form, one that was not, and other families."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qcore.config import default_run
from qcore.lab import Lab, shared_lab
from tests.pages.drive import charts, texts
from tests.support.configs import SMALL

TINY = {name: value for name, value in SMALL.items() if name != "phases"}
FLUX = {**TINY, "kind": "flux_lm", "layers": 2, "planes": 4, "values": 4, "steps": 4, "phase_every": 2}
PUBLISHED = {"planes": 1, "heads": 1, "values": 0, "read_out": "linear", "gate": "hard", "step_size": "sampled"}
RUNS = {
    "planes": FLUX,
    "published": {**FLUX, **PUBLISHED},
    "blind": {**FLUX, "budget_percent": 0.0},
    "other": {**TINY, "kind": "transformer", "steps": 2},
}
PAGE = Path(__file__).resolve().parents[2] / "pages" / "flux.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of each kind."""
    folder = tmp_path_factory.mktemp("flux")
    with Lab(folder) as lab:
        for name, values in RUNS.items():
            lab.start(default_run(values["kind"]).with_values(values), name=name)
            assert lab.wait(name, 60).state == "finished"
    return folder


@pytest.fixture
def flux(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab of the app over these runs."""
    monkeypatch.setenv("QCORE_RUNS", str(trained))
    return shared_lab(trained)


def alone() -> None:
    """The views without the page around them."""
    import streamlit as st

    from pages.session.lab import open_lab
    from pages.views.discs import page

    lab = open_lab()
    page(lab, lab.info(st.query_params["run"]))


def opened(run: str, **query: str) -> AppTest:
    at = AppTest.from_function(alone, default_timeout=60)
    for key, value in {"run": run, **query}.items():
        at.query_params[key] = value
    return at.run()


def test_a_finished_run_shows_discs_thresholds_and_connections(flux: Lab):
    at = opened("planes")
    assert not at.exception
    assert charts(at) == 8
    shown = texts(at)
    for label in ("Kept", "Threshold", "Strength", "Radius", "dt", "Skip"):
        assert f"<span>{label}</span>" in shown
    assert "equal tokens start at one place" in shown


def test_the_published_form_has_one_plane_and_the_same_views(flux: Lab):
    at = opened("published")
    assert not at.exception
    assert charts(at) == 8


def test_a_link_keeps_every_choice(flux: Lab):
    query = {"step": "2", "layer": "1", "head": "2", "plane": "4"}
    at = opened("planes", **query)
    assert not at.exception
    for name in ("layer", "head", "plane"):
        assert at.session_state[name] == query[name]
    assert at.select_slider[0].value == 2
    token = at.selectbox(key="token").options[3]
    assert opened("planes", token=token).selectbox(key="token").value == token


def test_a_run_that_was_never_looked_into_says_what_to_do(flux: Lab, trained: Path):
    from qcore.store import DATABASE_NAME, RunWriter

    with RunWriter(trained / "blind" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
    at = opened("blind")
    assert not at.exception
    assert charts(at) == 0
    assert "ended before its discs were measured" in at.info[0].value


@pytest.mark.parametrize(("run", "words"), [("planes", ""), ("other", "Only Quantum Flux models")])
def test_the_page_itself(run: str, words: str, flux: Lab):
    at = AppTest.from_file(str(PAGE), default_timeout=60)
    at.session_state["run"] = run
    at.run()
    shown = texts(at)
    if words:
        assert words in shown
        assert charts(at) == 0
    else:
        assert not at.exception
        assert charts(at) == 8


def test_every_widget_of_the_page_has_help(flux: Lab):
    at = opened("planes")
    own = ("layer", "head", "plane", "token", "log_steps")
    widgets = [*at.get("button_group"), *at.selectbox, *at.toggle]
    named = {widget.key: widget.proto.help for widget in widgets if widget.key in own}
    assert set(named) == set(own)
    assert all(named.values())
