"""Shared test settings: one torch thread, so that every number is reproducible and two cores are not fought over; and
the files that take long come first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)

FIRST = (
    "tests/browser/test_moment.py",
    "tests/test_documented_commands.py",
    "tests/browser/",
    "tests/lab/",
    "tests/attacks/",
    "tests/pages/",
    "tests/server/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the files, none is left alone with a long one at the end."""
    items.sort(
        key=lambda item: next((place for place, at in enumerate(FIRST) if item.nodeid.startswith(at)), len(FIRST))
    )
