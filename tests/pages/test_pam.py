"""The memory of pam runs on the Phase page: a run that was looked into, a real one, and one that was not."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from qcore.config import default_run
from qcore.lab import Lab, shared_lab
from tests.pages.drive import charts, texts
from tests.support.configs import SMALL

TINY = {name: value for name, value in SMALL.items() if name != "phases"} | {"kind": "pam", "layers": 2, "steps": 4}
RUNS = {"complex": {}, "real": {"complex_state": False}, "blind": {"budget_percent": 0.0}}


def alone() -> None:
    """The views without the page around them."""
    import streamlit as st

    from pages.session.lab import open_lab
    from pages.views.memory import show_pam

    lab = open_lab()
    show_pam(lab, lab.info(st.query_params["run"]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of each kind."""
    folder = tmp_path_factory.mktemp("memories")
    with Lab(folder) as lab:
        for name, changes in RUNS.items():
            lab.start(default_run("pam").with_values({**TINY, "phase_every": 2, **changes}), name=name)
            assert lab.wait(name, 60).state == "finished"
    return folder


@pytest.fixture
def memories(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab of the app over these runs."""
    monkeypatch.setenv("QCORE_RUNS", str(trained))
    return shared_lab(trained)


def opened(run: str, **query: str) -> AppTest:
    at = AppTest.from_function(alone, default_timeout=60)
    for key, value in {"run": run, **query}.items():
        at.query_params[key] = value
    return at.run()


def test_a_complex_memory_shows_decays_state_and_channels(memories: Lab):
    at = opened("complex")
    assert not at.exception
    assert charts(at) == 8
    shown = texts(at)
    for label in ("Decay γ", "Memory", "State in use", "Im ÷ Re"):
        assert f"<span>{label}</span>" in shown
    assert "dead channel" in shown


def test_a_real_memory_has_one_channel_and_the_page_says_so(memories: Lab):
    at = opened("real")
    assert not at.exception
    assert charts(at) == 6
    assert "one channel" in at.info[0].value
    assert "Im ÷ Re" not in texts(at)


def test_the_link_keeps_the_step_and_the_layer(memories: Lab):
    at = opened("complex", step="2", decays="layer 2")
    assert not at.exception
    assert at.selectbox(key="decays").value == "layer 2"
    assert at.select_slider[0].value == 2
    assert memories.reader("complex").array_steps("internals") == [0, 2, 4]


def test_a_run_that_was_never_looked_into_says_what_to_do(memories: Lab, trained: Path):
    from qcore.store import DATABASE_NAME, RunWriter

    with RunWriter(trained / "blind" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
    at = opened("blind")
    assert not at.exception
    assert "before its memories were measured" in at.info[0].value
    assert charts(at) == 0
