"""Shared test settings: one torch thread, so that every number is reproducible and two cores are not fought over; and
which process runs which file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

torch.set_num_threads(1)

BROWSER = "tests/browser/"
LONG = (BROWSER, "tests/test_documented_commands.py", "tests/lab/", "tests/attacks/", "tests/pages/", "tests/server/")
"""Begun first, so that no process is left alone with them at the end."""


class ByFile(LoadFileScheduling):
    """A file in one process, and all files with a browser in one: they share it and the app."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((place for place, at in enumerate(LONG) if item.nodeid.startswith(at)), len(LONG)))
