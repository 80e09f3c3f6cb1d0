"""Shared test settings: one torch thread, so that every number is reproducible and two cores are not fought over; the
files that take long come first; and a lab with a run that is written by hand.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from qcore.lab import Lab
from tests.growing import Growing

torch.set_num_threads(1)


@pytest.fixture
def bare_lab(tmp_path: Path):
    """A lab over an empty folder."""
    with Lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def growing(bare_lab: Lab):
    """A run in it, `run`, that has made a step."""
    found = Growing(bare_lab)
    yield found
    found.writer.close()


FIRST = (
    "tests/browser/",
    "tests/lab/test_kill.py",
    "tests/test_documented_commands.py",
    "tests/pages/test_pages.py",
    "tests/pages/session/test_roles.py",
    "tests/lab/test_forks.py",
    "tests/pages/",
    "tests/lab/",
    "tests/attacks/",
    "tests/server/",
    "tests/train/",
    "tests/experiments/",
)
"""The files that take long, the longest first, then their rooms."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Files go to processes whole, and those with a browser all to one: that saves an app and a browser, and two live
    pages at a time cost the cores more than one after the other.
    """
    return _OneBrowser(config, log)


class _OneBrowser(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _BROWSER if nodeid.startswith(_BROWSER) else super()._split_scope(nodeid)


_BROWSER = "tests/browser/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the files, none is left alone with a long one at the end."""
    items.sort(
        key=lambda item: next((place for place, at in enumerate(FIRST) if item.nodeid.startswith(at)), len(FIRST))
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """While modules and thousands of cases come there is no look for garbage, nor later among them: they all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def lab(tmp_path):
    """A lab in a temporary folder, closed after the test."""
    with Lab(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture(autouse=True)
def own_event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Between two calls of Playwright its loop counts as running in this thread; a test without a browser may run one
    of its own there.
    """
    if request.node.get_closest_marker("browser") is not None:
        yield
        return
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)
