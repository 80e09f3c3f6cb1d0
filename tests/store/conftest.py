"""A run folder and a writer that is always closed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qcore.store import DATABASE_NAME, RunWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run-a" / DATABASE_NAME


@pytest.fixture
def open_writer(path: Path) -> Iterator[Callable[..., RunWriter]]:
    """Opens writers of the run at `path` that commit only when told (flush, events, close); closes them afterwards."""
    writers: list[RunWriter] = []

    def open_one(**settings: float) -> RunWriter:
        writers.append(RunWriter(path, **{"commit_interval": 60.0, **settings}))
        return writers[-1]

    yield open_one
    for writer in writers:
        writer.close()
