"""One app and one browser for the browser tests; skipped where no Chromium is, but never in CI."""

import contextlib
import os

import pytest
from playwright.sync_api import expect

from qcore.lab import Lab
from tests.browser.actions import PATIENCE_MS, start_from_yaml, stop
from tests.browser.driver import chromium, chromium_path, running_app

expect.set_options(timeout=PATIENCE_MS)  # a busy machine is slow, not wrong
VIEWPORT = {"width": 1440, "height": 1000}


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
def new_page(browser, **options):
    """A page of a context of its own. Nothing fades in or turns unless a test asks for it: a loaded page costs a third
    less so.
    """
    context = browser.new_context(**{"viewport": VIEWPORT, "reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE_MS)
    with contextlib.closing(context):
        yield context.new_page()


@pytest.fixture(scope="package")
def shared(browser):
    """`shared()` is one page for all tests, which loads the app's own scripts once: a page of a new context takes twice
    the time, a new page of the same one half as much again.
    """
    with new_page(browser) as first:
        pages = [first]

        def page():
            if pages[-1].is_closed():
                pages.append(first.context.new_page())
            return pages[-1]

        yield page


@pytest.fixture
def page(shared):
    """An empty page, which another test has had before; who hangs a script or an answer of its own into one takes
    `own_page`.
    """
    shared().set_viewport_size(VIEWPORT)
    yield shared()
    shared().emulate_media(reduced_motion="reduce", color_scheme="light")
    shared().goto("about:blank")


@pytest.fixture
def own_page(shared):
    with contextlib.closing(shared().context.new_page()) as made:
        yield made


@pytest.fixture(scope="module")
def start(app, lab, shared):
    """`start(config)` starts a run in the browser and returns its name; at the end of the file it is stopped."""
    names = []

    def begin(config):
        names.append(start_from_yaml(shared(), app.url, config.to_yaml(), lab))
        shared().goto("about:blank")
        return names[-1]

    yield begin
    for name in names:
        stop(lab, name)
