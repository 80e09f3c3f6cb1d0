"""A run that is told to stop while its data are opened ends in moments, whatever the library is waiting for."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from qcore.base.stopping import StopAskedError, check_stop, stoppable
from qcore.config import DataError
from qcore.data.text import hub_download
from qcore.lab import Lab, shared_lab
from qcore.runs.layout import is_held
from tests.pages.drive import open_app
from tests.support.configs import eventually, small_config

HUB = small_config(source="huggingface", hub_name="somebody/something", steps=2)


class SilentHub:
    """A server that takes every connection and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, name="silent-hub", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)

    def asked(self) -> bool:
        """Whether anybody waits for an answer: a request was read, not only the question whether the hub is there."""
        return any(_has_bytes(connection) for connection in list(self._open))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in self._open:
            connection.close()


def _has_bytes(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SilentHub]:
    server = SilentHub()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "600")
    yield server
    server.close()


def children() -> set[int]:
    """Processes that this one has started and that have not ended."""
    found = set()
    for tasks in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        found |= {int(pid) for pid in tasks.read_text().split()}
    return found


def test_the_stop_button_ends_a_download_that_nobody_answers(
    silent: SilentHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path / "runs"))
    lab = shared_lab(tmp_path / "runs")
    lab.start(HUB, name="run")
    eventually(silent.asked, 120)
    assert lab.info("run").state == "queued"
    assert children() - before
    page = open_app(run="run")
    page.button(key="do:Stop").click().run()
    assert not page.exception
    info = lab.wait("run", 30)
    assert (info.state, info.step, info.message) == ("stopped", 0, "stopped while the data was being opened")
    [row] = lab.reader("run").commands()
    assert (row.kind, row.status, row.message) == ("stop", "applied", info.message)
    assert not is_held(lab.folder("run"))
    assert children() <= before
    page.run()
    assert not page.exception
    assert not next(button for button in page.button if button.label == "Resume now").disabled
    lab.close()


def test_a_lab_that_closes_ends_it_too_and_the_run_is_resumed_later(
    silent: SilentHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    with Lab(tmp_path / "runs") as lab:
        lab.start(HUB, name="run")
        eventually(silent.asked, 120)
    assert not is_held(tmp_path / "runs" / "run")
    assert children() <= before
    rows = [{"text": f"The row number {number} of a small table."} for number in range(80)]
    monkeypatch.setattr("qcore.data.text.hub.download", lambda *_: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    with Lab(tmp_path / "runs") as lab:
        assert lab.info("run").state == "stopped"
        lab.resume("run")
        assert lab.wait("run", 60).state == "finished", lab.info("run").message


def test_the_process_opens_what_it_is_asked_for_and_says_why_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n')
    with stoppable(lambda: False):
        hub_download.download("json", "", "train", str(tmp_path / "rows.jsonl"))
        assert list((tmp_path / "cache").rglob("*.arrow"))
        with pytest.raises(hub_download.DownloadError, match="Unknown split"):
            hub_download.download("json", "", "test", str(tmp_path / "rows.jsonl"))
        monkeypatch.setenv("QCORE_DATA_ROOT", str(tmp_path / "cache"))
        with pytest.raises(DataError, match="is refused"):
            hub_download.download("json", "", "train", str(tmp_path / "rows.jsonl"))


def test_a_stop_belongs_to_the_thread_that_asks() -> None:
    check_stop()
    found: list[bool] = []
    with stoppable(lambda: True):
        other = threading.Thread(target=lambda: (check_stop(), found.append(True)))
        other.start()
        other.join()
        with pytest.raises(StopAskedError):
            check_stop()
    check_stop()
    assert found == [True]
