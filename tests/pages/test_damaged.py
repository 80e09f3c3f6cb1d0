"""Pages of runs that are damaged: the reason in words, never a traceback, and the other runs as they are."""

from __future__ import annotations

import runpy
import shutil
import sqlite3
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from qcore.lab import Lab
from qcore.store import DATABASE_NAME
from tests.attacks.planted import whole_run
from tests.pages.drive import APP, PAGES, errors

EVERY_PAGE = (*PAGES, "pages/flux.py", "pages/benchmark.py")
IN_PART = {
    "events": "UPDATE events SET payload = '[]'",
    "generations": "UPDATE generations SET kind = 'prompt', tokens = '[5]'",
    "findings": "UPDATE findings SET evidence = '[5]', remedies = '5'",
    "scalars": "UPDATE blocks SET data = x''",
    "arrays": "UPDATE arrays SET data = x'00'",
    "commands": "UPDATE commands SET payload = '['",
    "log": "UPDATE log SET message = x'FF'",
}
OF_OTHERS = ("pages/benchmark.py", "pages/flux.py", "pages/video.py")
"""Pages that read nothing of a phase model's run."""
WHOLE = {
    "created": "UPDATE meta SET value = 'null' WHERE key = 'created'",
    "status": 'UPDATE status SET extra = \'{"seconds_trained": "x"}\'',
    "trigger": "CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM log; END",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory.mktemp("whole") / "good")


def planted(lab: Lab, source: Path, statements: list[str]) -> None:
    for name in ("good", "bad"):
        shutil.copytree(source, lab.runs_dir / name, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    with sqlite3.connect(lab.runs_dir / "bad" / DATABASE_NAME) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


class Chosen:
    """A page as `st.navigation` returns it. AppTest runs a page without `app.py`, and there is the edge."""

    def __init__(self, page: str) -> None:
        self._page = page

    def run(self) -> None:
        runpy.run_path(str(APP.parent / self._page), run_name="__main__")


def open_page(monkeypatch: pytest.MonkeyPatch, page: str, run: str) -> AppTest:
    """The app, as it draws one page about one run."""
    monkeypatch.setattr(st, "navigation", lambda *_, **__: Chosen(page))
    at = AppTest.from_file(str(APP), default_timeout=120)
    at.query_params["run"] = run
    return at.run()


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_a_run_whose_records_are_all_damaged_takes_no_page_down(
    page: str, empty: Lab, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(empty, source, list(IN_PART.values()))
    at = open_page(monkeypatch, page, "bad")
    assert not at.exception
    told = errors(at)
    if page not in OF_OTHERS:
        assert any("bad/run.sqlite is damaged" in text for text in told), told
    at = open_page(monkeypatch, page, "good")
    assert not at.exception
    assert not at.error


@pytest.mark.parametrize("what", WHOLE)
def test_an_unreadable_run_says_so_on_every_page(
    what: str, empty: Lab, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(empty, source, [WHOLE[what]])
    for page in EVERY_PAGE:
        at = open_page(monkeypatch, page, "bad")
        assert not at.exception
        told = errors(at)
        if page != "pages/benchmark.py":
            assert any("cannot be read" in text and "Restore its folder" in text for text in told), (page, told)


def test_a_folder_with_a_refused_name_is_offered_another_on_its_page(
    empty: Lab, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, empty.runs_dir / "what?")
    at = open_page(monkeypatch, PAGES[0], "what?")
    assert not at.exception
    told = errors(at)[0]
    assert "Its data are intact" in told
    assert "'what" in told
    assert "Restore its folder" not in told
