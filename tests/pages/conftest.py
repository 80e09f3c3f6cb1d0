"""Labs of the app: over a folder with a finished run, over an empty one, with a paused run in it, and with video
runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.views import exact_flow
from qcore.config import Continue, Pause
from qcore.lab import Lab, shared_lab
from tests.pages.drive import ENDLESS, TINY
from tests.pages.filmed import exact_flow as drawn_flow
from tests.pages.filmed import write_video_run
from tests.pages.inside import finding, write_run
from tests.support.configs import eventually


@pytest.fixture(scope="module")
def finished_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run, `done`."""
    folder = tmp_path_factory.mktemp("finished")
    with Lab(folder) as lab:
        lab.start(TINY, name="done", preset="tiny")
        assert lab.wait("done", 60).state == "finished"
    return folder


@pytest.fixture
def finished(finished_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab of the app over the folder with the finished run."""
    monkeypatch.setenv("QCORE_RUNS", str(finished_dir))
    return shared_lab(finished_dir)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab of the app over an empty folder; closed at the end, with all that trains in it."""
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path))
    lab = shared_lab(tmp_path)
    yield lab
    lab.close()


def pause(lab: Lab) -> None:
    lab.command("alive", Pause())
    eventually(lambda: lab.info("alive").state == "paused")


def start_paused(lab: Lab) -> Lab:
    """A run `alive` in it, which has made a few steps and is paused."""
    lab.start(ENDLESS, name="alive")
    eventually(lambda: lab.info("alive").step >= 4)
    pause(lab)
    return lab


@pytest.fixture
def paused(empty: Lab) -> Lab:
    """A lab whose run `alive` has made a few steps and is paused; for tests that change it."""
    return start_paused(empty)


@pytest.fixture(scope="module")
def standing_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder whose run `alive` is paused."""
    folder = tmp_path_factory.mktemp("standing")
    lab = start_paused(shared_lab(folder))
    yield folder
    lab.close()


@pytest.fixture
def standing(standing_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """As `paused`, one for all tests of a file that leave it as it is."""
    monkeypatch.setenv("QCORE_RUNS", str(standing_dir))
    return shared_lab(standing_dir)


@pytest.fixture
def running(standing: Lab) -> Iterator[Lab]:
    """As `standing`, with a run that trains until the test ends."""
    standing.command("alive", Continue())
    eventually(lambda: standing.info("alive").state == "running")
    yield standing
    pause(standing)


@pytest.fixture(scope="module")
def inside_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with finished runs that were looked into: `seen`, `attention`, and `ill` with three findings."""
    folder = tmp_path_factory.mktemp("inside")
    write_run(folder, "seen", last=200, every=20, tokens=24)
    write_run(folder, "attention", kind="transformer", last=40, every=20, tokens=12)
    ill = (
        finding(),
        finding("future_leak", id="future_leak", since_step=0, title="Earlier <b>outputs</b> *change*"),
        finding("half_circle", id="half_circle", state="resolved", remedies=[], title="Half a circle"),
    )
    write_run(folder, "ill", last=40, every=20, tokens=12, leak=True, findings=ill)
    return folder


@pytest.fixture
def inside(inside_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab of the app over these runs."""
    monkeypatch.setenv("QCORE_RUNS", str(inside_dir))
    return shared_lab(inside_dir)


@pytest.fixture(scope="module")
def video_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with finished video runs, `ghost` with an anchor and a finding, `plain` without, and a text run."""
    folder = tmp_path_factory.mktemp("video")
    skipped = ({"path": "b/<i>broken</i>.mp4", "reason": "no video stream"},)
    write_video_run(folder, "ghost", last=200, every=20, findings=(finding(),), skipped=skipped)
    write_video_run(folder, "plain", last=40, every=20, channels=3, anchor=False)
    write_run(folder, "language", last=20, every=20, tokens=8)
    return folder


@pytest.fixture
def films(video_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab of the app over these runs; the exact flow answers at once."""
    monkeypatch.setenv("QCORE_RUNS", str(video_dir))
    monkeypatch.setattr(exact_flow, "exact_flow", drawn_flow)
    exact_flow._compute.cache_clear()
    return shared_lab(video_dir)
