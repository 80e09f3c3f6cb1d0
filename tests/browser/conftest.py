"""One app and one browser for the browser tests; skipped where no Chromium is, but never in CI."""

import contextlib
import os

import pytest
from playwright.sync_api import expect

from qcore.lab import Lab
from tests.browser.actions import PATIENCE_MS, start_from_yaml, stop
from tests.browser.driver import chromium, chromium_path, running_app

expect.set_options(timeout=PATIENCE_MS)  # a busy machine is slow, not wrong


@pytest.fixture(scope="package")
def browser():
    if chromium_path() is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium for the browser tests; `make test` installs it")
        pytest.skip("no Chromium here; `make test` installs it where it may")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="package")
def app(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("app")
    with running_app(folder / "runs", folder / "app.log", rest=0.02) as started:
        yield started
    assert "Traceback" not in (log := (folder / "app.log").read_text()), log


@pytest.fixture(scope="package")
def lab(app):
    """Another process's view of the app's runs: the tests'."""
    with Lab(app.runs) as opened:
        yield opened


@pytest.fixture(autouse=True, scope="module")
def alone(lab):
    """The app's one place for training is free: no run of another file holds it, or those of this one would queue."""
    for info in lab.runs():
        stop(lab, info.name)


@contextlib.contextmanager
def new_page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    with contextlib.closing(context):
        yield context.new_page()


@pytest.fixture
def page(browser):
    with new_page(browser) as made:
        yield made


@pytest.fixture(scope="module")
def start(app, lab, browser):
    """`start(config)` starts a run in the browser and returns its name; at the end of the file it is stopped."""
    names = []

    def begin(config):
        with new_page(browser) as page:
            names.append(start_from_yaml(page, app.url, config.to_yaml(), lab))
        return names[-1]

    yield begin
    for name in names:
        stop(lab, name)
