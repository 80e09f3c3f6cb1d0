"""What a database may hold at most, what a writer looks at before it takes a run over, and whose fault an error is."""

import contextlib
import errno
import io
import json
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qcore.store import (
    DATABASE_NAME,
    DamagedRunError,
    Inbox,
    RunReader,
    RunWriter,
    StoreAccessError,
    checks,
    copies,
    copy_database,
    tables,
)
from qcore.store.declared import MAX_NAMES, check_names
from qcore.store.records import MAX_META
from qcore.store.shapes import LARGEST_STEP, ShapeError

Open = Callable[..., RunWriter]


def execute(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def owner(path: Path) -> object:
    return execute(path, "SELECT value FROM meta WHERE key = 'writer'")


def written(path: Path, steps: int = 300) -> Path:
    """A run with a sealed block of names a and b, and an open one."""
    with RunWriter(path) as writer:
        for step in range(1, steps + 1):
            writer.log_scalars(step, {"a": float(step), "b": -float(step)})
            if step == 256:
                writer.flush()
    return path


DAMAGES = {
    "another width": 'UPDATE layouts SET names = \'["a", "b", "c"]\'',
    "names of numbers": "UPDATE layouts SET names = '[1, 2]'",
    "names no JSON": "UPDATE layouts SET names = '[\"a\"'",
    "half a block": "UPDATE blocks SET data = substr(data, 1, 80) WHERE sealed = 0",
    "no layout": "UPDATE blocks SET layout = 7 WHERE sealed = 0",
    "drops": "INSERT INTO status VALUES (1, 'running', 1, 2, 3.0, 4, 'h', '', 'x', '{}')",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_writer_looks_before_it_takes_a_run_over(path: Path, damage: str) -> None:
    before = owner(written(path))
    execute(path, DAMAGES[damage])
    with pytest.raises(DamagedRunError, match="what another writer left"):
        RunWriter(path)
    assert owner(path) == before
    assert not [thread for thread in threading.enumerate() if thread.name == f"store-{path.parent.name}"]


def test_who_gets_no_thread_leaves_the_run_to_its_writer(
    path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_writer()

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(OSError, match="can't start new thread") as error:
        RunWriter(path)
    assert error.value.errno == errno.EAGAIN
    monkeypatch.undo()
    first.log_scalars(1, {"a": 1.0})
    first.flush()
    with RunReader(path) as reader:
        assert reader.last("a") == (1, 1.0)


def test_a_rewind_meets_a_damaged_block_before_it_cuts_anything(path: Path) -> None:
    written(path)
    execute(path, "UPDATE blocks SET data = substr(data, 1, 80) WHERE sealed = 1")
    with RunReader(path) as reader:
        reader.check_blocks(256)
        with pytest.raises(DamagedRunError, match="another length"):
            reader.check_blocks(255)
    writer = RunWriter(path)
    writer.truncate_after(10, event_seq=0)
    with pytest.raises(DamagedRunError, match="another length"):
        writer.flush()
    with pytest.raises(DamagedRunError):
        writer.close()
    assert execute(path, "SELECT total(rows) FROM blocks") == [(300.0,)]


def test_steps_names_and_meta_values_are_bounded(path: Path, open_writer: Open) -> None:
    for step, fine in ((LARGEST_STEP, True), (LARGEST_STEP + 1, False), (2**52, False)):
        (look := contextlib.nullcontext() if fine else pytest.raises(ShapeError))
        with look:
            checks.check_points(np.array([step]), np.array([5.0]))
        with look:
            assert checks.check_step(step) == step
    names = [f"{number:05}" for number in range(MAX_NAMES + 1)]
    assert check_names(names[1:]) == names[1:]
    with pytest.raises(ShapeError, match="10,001 names"):
        check_names(names)
    writer = open_writer()
    with pytest.raises(ValueError, match="10,001 scalars at one step"):
        writer.log_scalars(1, dict.fromkeys(names, 1.0))
    with Inbox(path) as inbox:
        for store in (writer, inbox):
            store.set_meta("note", "x" * (MAX_META - 2))
            with pytest.raises(ValueError, match=r"'note' takes .* bytes"):
                store.set_meta("note", "x" * MAX_META)
    writer.flush()
    with RunReader(path) as reader:
        assert len(reader.meta()["note"]) == MAX_META - 2


def test_long_lists_of_names_are_not_kept_in_memory() -> None:
    def text(length: int) -> str:
        return json.dumps([f"{number:0{length}}" for number in range(100)])

    before = checks._kept_names.cache_info().currsize
    assert len(checks.read_names(text(1000))) == 100
    assert checks._kept_names.cache_info().currsize == before
    assert checks.read_names(text(99)) is checks.read_names(text(99))


# tables


def test_a_table_made_in_parts_is_the_same(path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer()
    for step in range(1, 2001):
        writer.log_scalars(step, {"every": step / 7})
        if step % 3 == 0:
            writer.log_scalars(step, {"third": np.nan if step == 1500 else -float(step)})
    writer.log_scalars(3000, {"third": 1.0})
    writer.flush()
    with RunReader(path) as reader:
        table = tables.series_table(reader)
        whole, parts, binary = io.StringIO(), io.StringIO(), io.BytesIO()
        assert tables.write_csv(table, whole) == 2001
        monkeypatch.setattr(tables, "_OF_TEXT", 1)
        monkeypatch.setattr(tables, "_OF_NUMBERS", 1)
        tables.write_csv(table, parts)
        assert parts.getvalue() == whole.getvalue()
        lines = whole.getvalue().splitlines()
        assert [lines[place] for place in (0, 1, 3, 1500, 2001)] == [
            "step,every,third", f"1,{1 / 7!r},", f"3,{3 / 7!r},-3.0", f"1500,{1500 / 7!r},nan", "3000,,1.0"
        ]  # fmt: skip
        import pyarrow.parquet as parquet

        assert tables.write_parquet(table, binary) == 2001
        read = parquet.read_table(io.BytesIO(binary.getvalue()))
        assert read.column("step").to_pylist() == [*range(1, 2001), 3000]
        assert read.column("third").null_count == 2001 - 667
        monkeypatch.setattr(tables, "MAX_CELLS", 4001)
        with pytest.raises(ValueError, match="2,001 steps and 2 series has more than 4,001 cells: choose some"):
            tables.series_table(reader)
        assert len(tables.series_table(reader, ["every"])) == 2000


# whose fault


@contextlib.contextmanager
def files_up_to(most: int) -> Iterator[None]:
    """No file may become larger meanwhile: what a full disk is to SQLite."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("copy", [copy_database, copies.rebuild_database])
def test_a_copy_that_finds_no_room_is_the_fault_of_no_source(
    tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    source = written(tmp_path / "good" / DATABASE_NAME, 20_000)
    (tmp_path / "full").mkdir()
    target = tmp_path / "full" / DATABASE_NAME
    with files_up_to(600_000), pytest.raises(StoreAccessError, match=r"full/run\.sqlite cannot be used .*: the disk"):
        copy(source, target)
    target.unlink(missing_ok=True)
    copy(source, target)
    data = bytearray(source.read_bytes())
    data[40_000:60_000] = bytes(20_000)
    source.write_bytes(data)
    target.unlink()
    with pytest.raises(DamagedRunError, match=r"good/run\.sqlite"):
        copies.rebuild_database(source, target)
