"""Share: every download holds what it says, nothing is packed before it is asked for, and an upload becomes a run."""

import io
import zipfile
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.widgets import share_dialog
from qcore.lab import Lab
from qcore.lab.export import export_run
from tests.pages.drive import texts
from tests.pages.inside import finding, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    write_run(folder, "seen", last=40, every=20, tokens=8, findings=(finding(title="Locked <b>phases</b>"),))
    return folder


def script() -> None:
    from pages.session import selection
    from pages.session.lab import open_lab
    from pages.widgets import message_list, share_dialog

    lab = open_lab()
    message_list.show_messages()
    share_dialog.show_share(lab, selection.selected_run(lab))


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, run: str | None) -> AppTest:
    monkeypatch.setenv("QCORE_RUNS", str(folder))
    at = AppTest.from_function(script, default_timeout=60)
    at.session_state["run"] = run
    return at.run()


def test_nothing_is_packed_until_it_is_asked_for(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("packed without being asked")

    for name in ("export_run", "export_table", "report_parts", "report_html"):
        monkeypatch.setattr(share_dialog, name, never)
    at = opened(runs, monkeypatch, "seen")
    assert not at.exception
    downloads = at.get("download_button")
    assert [one.proto.label for one in downloads] == ["Report (HTML)", "Run (zip)", "CSV", "Parquet"]
    offered = at.multiselect(key="share:series:seen").options
    assert "total loss, weighted sum of the terms" in offered
    assert not [one for one in offered if "/" in one and "÷" not in one]
    assert all(one.proto.help for one in [*downloads, *at.button, *at.get("file_uploader"), *at.text_input])


def test_each_download_holds_what_it_says(runs: Path):
    with Lab(runs) as lab:
        with zipfile.ZipFile(io.BytesIO(share_dialog._zip_run(lab, "seen", "newest", True))) as archive:
            assert {"run.sqlite", "config.yaml", "manifest.json"} <= set(archive.namelist())
        assert share_dialog._csv(lab, "seen", ["train/loss"]).startswith(b"step,train/loss\r\n0,6.0\r\n")
        assert share_dialog._csv(lab, "seen", []).count(b"\n") == 4
        assert share_dialog._parquet(lab, "seen", [])[:4] == b"PAR1"


def test_an_upload_becomes_a_run_that_is_shown(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packed = io.BytesIO()
    with Lab(runs) as lab:
        export_run(lab, "seen", packed)
    at = opened(tmp_path, monkeypatch, None)
    assert not at.exception
    assert at.get("download_button") == []
    assert at.button(key="share:import").disabled
    at.file_uploader[0].set_value(("seen.zip", packed.getvalue(), "application/zip")).run()
    at.button(key="share:import").click().run()
    assert not at.exception
    assert at.session_state["run"] == "seen"
    with Lab(tmp_path) as lab:
        assert [info.name for info in lab.runs()] == ["seen"]
    at.file_uploader[0].set_value(("seen.zip", packed.getvalue(), "application/zip")).run()
    at.button(key="share:import").click().run()
    assert "is taken" in texts(at)
