"""One app and one browser for the browser tests; skipped where no Chromium is, but never in CI."""

import contextlib
import os

import pytest
from playwright.sync_api import expect

from qcore.config import Stop
from qcore.lab import Lab, LabError
from tests.browser.actions import PATIENCE_MS
from tests.browser.driver import chromium, chromium_path, running_app
from tests.helpers import eventually

expect.set_options(timeout=PATIENCE_MS)  # a busy machine is slow, not wrong


@pytest.fixture(scope="session")
def browser():
    if chromium_path() is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium for the browser tests; `make test` installs it")
        pytest.skip("no Chromium here; `make test` installs it where it may")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def app(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder / "runs", folder / "app.log") as started:
        yield started
    assert "Traceback" not in (log := (folder / "app.log").read_text()), log


@pytest.fixture(scope="session")
def lab(app):
    """Another process's view of the app's runs: the tests'."""
    with Lab(app.runs) as opened:
        yield opened


@pytest.fixture(autouse=True, scope="module")
def alone(lab):
    """The app's one place for training is free: no run of another file holds it, or those of this one would queue."""
    for info in lab.runs():
        if info.alive:
            with contextlib.suppress(LabError):  # it has ended since
                lab.command(info.name, Stop())
    eventually(lambda: not any(info.alive for info in lab.runs()), 60)


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
