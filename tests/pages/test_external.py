"""Runs that another program wrote, on every page: what they hold is shown, what they lack is said, and no control is
shown that does not act.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.session.page_list import PAGES
from qcore.lab import Lab, shared_lab
from tests.pages.drive import CONTROL_ROOM, GENERATIONS, charts, errors, texts
from tests.pages.sent import charts_of
from tests.pages.test_damaged import open_page
from tests.support import foreign

ALLOWED = {
    "Import",  # of another run, into the lab
    "Play",
    "Newest",
    "Acknowledge",
    "Mute",
    "Start the benchmark",
    "Delete for good",
}
"""Buttons that act without a trainer of this run."""


@pytest.fixture(scope="module")
def foreign_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    for content in foreign.CONTENTS:
        with foreign.foreign_run(folder, content.__name__) as writer:
            content(writer)
    return folder


@pytest.fixture
def foreign_lab(foreign_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("QCORE_RUNS", str(foreign_dir))
    return shared_lab(foreign_dir)


@pytest.mark.parametrize("page", [page.path for page in PAGES])
@pytest.mark.parametrize("run", ["everything", "scalars"])
def test_every_page_opens_and_shows_nothing_that_does_not_act(
    page: str, run: str, foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page(monkeypatch, page, run)
    assert not at.exception
    assert errors(at) == []
    assert {button.label for button in at.button} <= ALLOWED
    assert not any(button.disabled for button in at.button if button.label not in ("Play", "Newest", "Import"))
    assert not at.slider
    assert page == "pages/benchmark.py" or not at.number_input  # which is about no run


@pytest.mark.parametrize("run", [content.__name__ for content in foreign.CONTENTS])
def test_whatever_a_run_holds_the_pages_that_show_every_run_open(
    run: str, foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in (CONTROL_ROOM, GENERATIONS, "pages/findings.py", "pages/compare.py"):
        at = open_page(monkeypatch, page, run)
        assert not at.exception
        assert {button.label for button in at.button} <= ALLOWED


def test_the_control_room_draws_each_series_by_its_own_name(foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page(monkeypatch, CONTROL_ROOM, "scalars")
    assert charts(at) == 3
    shown = texts(at)
    assert "Another program" in shown
    assert "<b>recorded</b>" in shown
    assert re.search(r"<span>loss</span><b>1\.05</b>", shown)
    odd = open_page(monkeypatch, CONTROL_ROOM, "odd_names")
    titles = [figure["layout"]["title"]["text"] for figure in charts_of(odd).values()]
    assert any("&lt;b&gt;acc&lt;/b&gt; @1" in title for title in titles), titles
    assert foreign.ODD not in "".join(titles)


def test_declared_controls_settings_and_findings_of_its_own_are_shown(
    foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = open_page(monkeypatch, CONTROL_ROOM, "everything")
    table = next(one.value for one in at.dataframe if "control" in one.value)
    assert table.iloc[0].tolist() == ["kl_weight", "0.2", "0.1", "0 to 1", "step 5 by me"]
    assert "kl weight 0.1 → 0.2" in texts(at)
    found = open_page(monkeypatch, "pages/findings.py", "everything")
    assert "To be done in the program that trains it." in texts(found)
    nothing = open_page(monkeypatch, "pages/findings.py", "scalars")
    assert "whether anything is wrong with it is not known" in texts(nothing)
    assert "Nothing wrong" not in texts(nothing)


def test_a_finding_of_another_program_can_be_muted(foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page(monkeypatch, "pages/findings.py", "everything")
    next(button for button in at.button if button.label == "Mute").click().run()
    assert [found.muted for found in foreign_lab.findings("everything")] == [True]
    foreign_lab.mute("everything", "own", muted=False)


def test_samples_without_tokens_are_shown_as_text(foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page(monkeypatch, GENERATIONS, "texts")
    at.selectbox(key="own_prompt:texts").set_value("Once a").run()
    assert "cat *3*" in texts(at)


def test_the_navigation_leaves_out_pages_that_the_run_has_nothing_for(
    foreign_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []

    def navigation(pages: list, **_: object) -> object:
        listed[:] = [page.title for page in pages if page.visibility == "visible"]
        return SimpleNamespace(run=lambda: None)

    monkeypatch.setattr(st, "navigation", navigation)

    def shown(run: str) -> set[str]:
        at = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=120)
        at.query_params["run"] = run
        assert not at.run().exception
        return set(listed)

    always = {"Control room", "Findings", "Compare and fork", "Benchmark"}
    assert shown("scalars") == always
    assert shown("everything") == always | {"Interference", "Tokens", "Generations", "Gradients"}
