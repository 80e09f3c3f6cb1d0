"""Files: what is refused, what opens read-only, and where a database may live."""

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qcore.base import LabError
from qcore.store import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    CommandReader,
    DamagedRunError,
    Event,
    Inbox,
    RunReader,
    RunWriter,
    StoreAccessError,
    StoreBusyError,
    StoreError,
    StoreFormatError,
)

Open = Callable[..., RunWriter]
OPENERS = [RunWriter, RunReader, Inbox, CommandReader]


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user may enter (pytest's own may not be)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("content", [b"", b"not a database at all " * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_untouched(
    path: Path, opener: Callable[[Path], object], content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreFormatError, match=r"run\.sqlite"):
        opener(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("opener", OPENERS)
def test_a_database_of_another_program_is_refused_untouched(path: Path, opener: Callable[[Path], object]) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (x); PRAGMA application_id = 252006675; PRAGMA user_version = 1;")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match="another program"):
        opener(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("opener", OPENERS)
def test_a_newer_schema_is_refused(path: Path, open_writer: Open, opener: Callable[[Path], object]) -> None:
    open_writer().close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreFormatError, match=f"schema version {SCHEMA_VERSION + 1}.*update"):
        opener(path)


@pytest.mark.parametrize("opener", [RunReader, Inbox, CommandReader])
def test_a_missing_run_is_named_and_not_created(path: Path, opener: Callable[[Path], object]) -> None:
    with pytest.raises(FileNotFoundError, match="no run database"):
        opener(path)
    assert not path.parent.exists()


def test_a_fresh_run_is_empty_everywhere(path: Path, open_writer: Open) -> None:
    open_writer().close()
    with RunReader(path) as reader:
        assert reader.names() == []
        assert reader.latest() == {}
        assert reader.events() == reader.findings() == reader.log() == reader.generations() == reader.commands() == []
        assert reader.status() is None
        assert reader.command(1) is None
        meta = reader.meta()
        assert meta["schema_version"] == SCHEMA_VERSION
        assert (meta["epoch"], meta["rewinds"]) == (0, [])


def test_a_half_made_database_does_not_stop_a_new_one(path: Path, open_writer: Open) -> None:
    path.parent.mkdir()
    path.with_name(path.name + ".new").write_bytes(b"left by a killed process")
    writer = open_writer()
    writer.log_scalars(1, {"x": 1.0})
    writer.close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a b", "q?mode=rw#x%41", "🚀 ü", "it's"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "run.sqlite"
    with RunWriter(path) as writer:
        writer.log_scalars(1, {"x": 1.0})
    with RunReader(path) as reader, Inbox(path) as inbox:
        assert reader.last("x") == (1, 1.0)
        inbox.submit("k", {}, "me")
        assert len(reader.commands()) == 1


def test_a_reader_cannot_write(path: Path, open_writer: Open) -> None:
    open_writer().close()
    with RunReader(path) as reader, pytest.raises(StoreAccessError, match="readonly"), reader._snapshot() as connection:
        connection.execute("DELETE FROM meta")


def test_a_finished_run_opens_in_a_read_only_folder(public_folder: Path) -> None:
    """No -wal, no -shm, and no right to create them: what a run on a read-only share or medium looks like."""
    run = public_folder / "run"
    with RunWriter(run / "run.sqlite") as writer:
        for step in range(1000):
            writer.log_scalars(step, {"x": float(step)})
    assert [entry.name for entry in run.iterdir()] == ["run.sqlite"]
    is_root = os.geteuid() == 0
    run.chmod(0o555)
    (run / "run.sqlite").chmod(0o444)
    if is_root:
        os.seteuid(65534)  # root may write anywhere: become nobody
    try:
        assert not os.access(run, os.W_OK, effective_ids=True)
        with RunReader(run / "run.sqlite") as reader:
            assert reader.scalars("x").values.tolist() == [float(step) for step in range(1000)]
            assert reader.tail(None)[1].reset
    finally:
        if is_root:
            os.seteuid(0)
        run.chmod(0o755)
    assert [entry.name for entry in run.iterdir()] == ["run.sqlite"]


def test_a_moment_holds_one_snapshot_and_blocks_nobody(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    writer.add_event(Event(1, 1, 1.0, "me", "k", {}))
    writer.flush()
    found: list[int] = []
    with RunReader(path) as reader:
        with reader.moment():
            assert len(reader.events()) == 1
            writer.add_event(Event(2, 2, 2.0, "me", "k", {}))
            writer.log_scalars(1, {"x": 1.0})
            writer.flush()
            with reader.moment():
                assert len(reader.events()) == 1
            assert reader.names() == []
            other = threading.Thread(target=lambda: found.append(len(reader.events())))
            other.start()
            other.join(30)
            assert found == [2]
        assert len(reader.events()) == 2
        assert reader.names() == ["x"]


def test_a_released_reader_still_answers_and_a_closed_one_says_so(path: Path, open_writer: Open) -> None:
    open_writer().close()
    before = descriptors()
    reader = RunReader(path)
    with reader.moment():
        reader.meta()
        reader.release()
        assert reader.meta()["epoch"] == 0
    assert reader.meta()["epoch"] == 0
    assert descriptors() == before
    reader.close()
    with pytest.raises(StoreAccessError, match="closed meanwhile"):
        reader.meta()


def test_what_sqlite_says_is_a_declared_error(path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcore.store.schema.BUSY_SECONDS", 0.02)
    open_writer().close()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with Inbox(path) as inbox, pytest.raises(StoreBusyError, match=r"run-a/run\.sqlite is locked"):
        inbox.submit("k", {}, "me")
    lock.close()
    data = bytearray(path.read_bytes())
    data[16384:] = b"\xff" * (len(data) - 16384)
    path.write_bytes(data)
    with pytest.raises(DamagedRunError, match="restore it from a copy"), RunReader(path) as reader:
        reader.meta()
    assert issubclass(StoreError, LabError)


def descriptors() -> list[str]:
    """What this process has open, as far as the system tells."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return sorted(name for name in found if "run.sqlite" in name)
