"""The writer: what it stores, what it drops when the disk cannot follow, how it fails, and how it ends."""

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcore.store import (
    Event,
    Finding,
    Generation,
    Inbox,
    RunReader,
    RunWriter,
    Status,
    StoreAccessError,
    StoreBusyError,
    WriterReplacedError,
)
from qcore.store.backlog import ARRAY_BYTES, Arrays, Backlog, LogWrite, Scalars, Write
from qcore.store.blocks import MAX_ROWS

Open = Callable[..., RunWriter]


def event(seq: int, step: int = 0) -> Event:
    return Event(seq, step, 100.0 + seq, "a person", "control", {"name": "lr", "old": 0.1, "new": [1, None, "ü"]}, None)


def status(step: int, **changes: object) -> Status:
    values = {"state": "running", "step": step, "total_steps": 100, "heartbeat": 5.5, "pid": 7, "host": "here"}
    return Status(**{**values, **changes})  # type: ignore[arg-type]


def poll(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"


def hold_lock(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_records_come_back_as_they_were(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    generation = Generation(
        "g1", 3, 9.5, "timeline", "Once\x00 “upon”", {"temperature": 0.7}, "a", [{"p": 0.5}], {"d": 1.0}
    )
    finding = Finding("f1", "eos", 5, 9, "open", {"share": 0.9}, "EOS collapse", "why", [{"control": "eos_weight"}])
    writer.add_event(event(0))
    writer.add_event(event(1))
    writer.put_generation(generation)
    writer.put_finding(finding)
    writer.add_log(4, "warning", "slow 🐌")
    writer.set_status(status(4, extra={"rate": 3.5}, message="so far"))
    writer.set_meta("references", {"unigram": 5.5})
    writer.flush()
    with RunReader(path) as reader:
        assert reader.events() == [event(0), event(1)]
        assert reader.events(since_seq=0) == [event(1)]
        assert reader.generations() == [generation]
        assert reader.generation("g1") == generation
        assert reader.generation("none") is None
        assert reader.findings() == [finding]
        assert [(line.step, line.level, line.message) for line in reader.log()] == [(4, "warning", "slow 🐌")]
        assert reader.log(since_id=1) == []
        assert reader.status() == status(4, extra={"rate": 3.5}, message="so far")
        assert reader.meta()["references"] == {"unigram": 5.5}


def test_a_generation_grows_in_place_and_limits_count_from_the_newest(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for index in range(5):
        kind = "prompt" if index % 2 else "timeline"
        writer.put_generation(Generation(f"g{index}", index, 1.0, kind, "p", text=""))
    writer.put_generation(Generation("g1", 1, 1.0, "prompt", "p", text="grown", tokens=[{"id": 3}], status="done"))
    for index in range(5):
        writer.add_log(index, "info", str(index))
    writer.flush()
    with RunReader(path) as reader:
        assert [g.id for g in reader.generations()] == ["g0", "g1", "g2", "g3", "g4"]
        assert [g.id for g in reader.generations("timeline", limit=2)] == ["g2", "g4"]
        assert reader.generation("g1") == Generation(
            "g1", 1, 1.0, "prompt", "p", text="grown", tokens=[{"id": 3}], status="done"
        )
        assert [line.message for line in reader.log(limit=2)] == ["3", "4"]


def test_arrays_of_every_kind_come_back_exactly(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    rng = np.random.default_rng(0)
    base = rng.normal(size=(4, 6)) * 100
    kinds = ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64", "complex64"]
    arrays = {kind: np.abs(base).astype(kind) for kind in kinds}
    arrays |= {
        "empty": np.zeros((0, 3)),
        "scalar": np.array(2.5),
        "nan": np.array([np.nan, -np.inf]),
        "cut": base.T[::2],
    }
    writer.log_arrays(10, "hist", {**arrays, "big_endian": base.astype(">f4")})
    base_copy = base.copy()
    base[:] = 0.0
    for step in (20, 30, 30):
        writer.log_arrays(step, "hist", {"x": np.array([step])})
    writer.log_arrays(25, "other", {"x": np.zeros(1)})
    writer.flush()
    with RunReader(path) as reader:
        found = reader.arrays("hist", 19)
        assert found is not None
        assert found[0] == 10
        for name, array in {**arrays, "cut": base_copy.T[::2], "big_endian": base_copy.astype("f4")}.items():
            assert found[1][name].dtype == array.dtype
            assert found[1][name].shape == array.shape
            assert found[1][name].tobytes() == array.tobytes()
        newest = reader.arrays("hist")
        assert newest is not None
        assert newest[0] == 30
        assert reader.array_steps("hist") == [10, 20, 30]
        assert reader.arrays("hist", 9) is None
        assert reader.arrays("none") is None
    for bad in (np.zeros(2, complex), np.array(["a"]), np.array([object()])):
        with pytest.raises(ValueError, match="dtype"):
            writer.log_arrays(0, "bad", {"x": bad})


def test_what_cannot_be_stored_is_refused_to_the_caller(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    loop: list[object] = []
    loop.append(loop)
    refused: list[tuple[Callable[[], None], str]] = [
        (lambda: writer.add_event(Event(1, 2, float("nan"), "a", "k", {})), "wall"),
        (lambda: writer.add_event(Event(1, 2, 1.0, None, "k", {})), "author"),  # type: ignore[arg-type]
        (lambda: writer.add_event(Event(2**70, 2, 1.0, "a", "k", {})), "seq"),
        (lambda: writer.add_event(Event(1, 2, 1.0, "a", "k", {"x": object()})), "payload"),
        (lambda: writer.add_event(Event(1, 2, 1.0, "a", "k", {"x": loop})), "payload"),
        (lambda: writer.add_log("3", "info", "m"), "step"),  # type: ignore[arg-type]
        (lambda: writer.resolve_command(1, "done", 1), "'done'"),
        (lambda: writer.set_meta("epoch", 3), "'epoch'"),
        (lambda: writer.set_status(status(1, state="dreaming")), "'dreaming'"),
        (lambda: writer.put_generation(Generation("g", 1, 1.0, "sample", "p")), "'sample'"),
    ]
    for call, named in refused:
        with pytest.raises(ValueError, match=named):
            call()
    writer.add_log(0, "info", "lone \udc80 surrogate")
    writer.add_event(Event(1, 2, 1.0, "a", "k", {"x": np.float32(0.5), "y": float("inf")}))
    writer.flush()
    with RunReader(path) as reader:
        assert reader.log()[0].message == "lone ? surrogate"
        assert reader.events()[0].payload == {"x": 0.5, "y": float("inf")}


def test_a_rewind_drops_telemetry_and_keeps_what_people_did(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step in range(10):
        writer.log_arrays(step, "h", {"x": np.array([step])})
        writer.add_event(event(step, step))
        writer.put_generation(Generation(f"t{step}", step, 1.0, "timeline", ""))
        writer.put_generation(Generation(f"p{step}", step, 1.0, "prompt", ""))
    writer.truncate_after(4, event_seq=4)
    writer.log_arrays(5, "h", {"x": np.array([50])})
    writer.flush()
    with RunReader(path) as reader:
        assert reader.array_steps("h") == [0, 1, 2, 3, 4, 5]
        assert len(reader.events()) == 10
        assert len(reader.generations("timeline")) == 5
        assert len(reader.generations("prompt")) == 10


def test_events_states_and_outcomes_are_committed_at_once_and_scalars_are_not(path: Path, open_writer: Open) -> None:
    """With a commit interval of a minute, only what must be acknowledged appears, and takes along what came before."""
    writer = open_writer(commit_interval=60.0)
    writer.flush()
    with RunReader(path) as reader, Inbox(path) as inbox:
        command_id = inbox.submit("pause", {}, "me")
        writer.log_scalars(1, {"x": 1.0})
        assert not writer._wake.is_set()
        writer.add_event(event(1))
        poll(lambda: len(reader.events()) == 1)
        assert reader.last("x") == (1, 1.0)
        writer.set_status(status(3))
        poll(lambda: reader.status() is not None)
        poll(lambda: not writer._wake.is_set())
        writer.set_status(status(4))
        assert not writer._wake.is_set()
        writer.set_status(status(5, message="so far"))
        poll(lambda: reader.status() == status(5, message="so far"))
        writer.set_status(status(6, message="so far", state="paused"))
        poll(lambda: reader.status() == status(6, message="so far", state="paused"))
        writer.resolve_command(command_id, "refused", 3, "not now")
        poll(lambda: reader.commands("refused") != [])
        command = reader.command(command_id)
        assert command is not None
        assert (command.step, command.message, command.resolved is not None) == (3, "not now", True)


def test_scalars_are_committed_by_time(path: Path, open_writer: Open) -> None:
    writer = open_writer(commit_interval=0.01)
    writer.log_scalars(1, {"x": 1.0})
    with RunReader(path) as reader:
        poll(lambda: reader.last("x") == (1, 1.0))


def test_an_event_replayed_replaces_its_row(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    writer.add_event(event(3, step=1))
    writer.add_event(event(3, step=2))
    writer.flush()
    with RunReader(path) as reader:
        assert reader.events() == [event(3, step=2)]


# -- a disk that cannot follow --------------------------------------------------------------------------------------


def test_thinning_takes_arrays_then_log_lines_then_scalars() -> None:
    backlog = Backlog(100, 0.0)

    def count() -> dict[type, int]:
        items = backlog.take()
        backlog.put_back(items)
        return {kind: sum(isinstance(item, kind) for item in items) for kind in (Arrays, LogWrite, Scalars, Write)}

    def add(kind: type, how_many: int) -> None:
        for index in range(how_many):
            if kind is Scalars:
                backlog.add_scalars(index, ("x",), b"")
            elif kind is Arrays:
                backlog.add(Arrays(index, 0.0, "h", {}))
            else:
                backlog.add(kind("", ()) if kind is Write else kind(()))

    for kind, how_many in [(Scalars, 40), (Arrays, 30), (LogWrite, 10), (Write, 20)]:
        add(kind, how_many)
    assert (count(), backlog.drops) == ({Arrays: 30, LogWrite: 10, Scalars: 40, Write: 20}, 0)
    add(Write, 1)  # 101 waiting: thinned to 75
    assert (count(), backlog.drops) == ({Arrays: 4, LogWrite: 10, Scalars: 40, Write: 21}, 26)
    add(Write, 26)
    assert (count(), backlog.drops) == ({Arrays: 0, LogWrite: 0, Scalars: 28, Write: 47}, 26 + 4 + 10 + 12)
    add(Write, 200)  # what may not be dropped is kept, over the limit too
    assert count()[Write] == 247
    assert backlog.drops == 26 + 4 + 10 + 12 + 28


def test_thinned_scalars_span_the_whole_outage_in_order() -> None:
    backlog = Backlog(100, 0.0)
    for step in range(10_000):
        backlog.add_scalars(step, ("x",), b"")
    steps = [item.step for item in backlog.take() if isinstance(item, Scalars)]
    assert steps == sorted(steps)
    assert steps[-1] == 9999
    assert backlog.drops == 10_000 - len(steps)
    assert 75 <= len(steps) <= 100


def test_what_could_not_be_written_returns_before_what_came_since() -> None:
    backlog = Backlog(100, 0.0)
    for step in range(3):
        backlog.add(Write(str(step), ()))
    items = backlog.take()
    for step in range(3, 6):
        backlog.add(Write(str(step), ()))
    backlog.put_back(items)
    assert [item.sql for item in backlog.take() if isinstance(item, Write)] == ["0", "1", "2", "3", "4", "5"]


def test_waiting_arrays_are_bounded_in_bytes() -> None:
    backlog = Backlog(100, 0.0)
    half = np.broadcast_to(np.uint8(0), ARRAY_BYTES // 2)
    for step in range(3):
        backlog.add(Arrays(step, 0.0, "h", {"x": half}))
    assert (len(backlog), backlog.drops) == (2, 1)
    backlog.put_back(backlog.take())
    backlog.add(Arrays(3, 0.0, "h", {"x": half}))
    assert (len(backlog), backlog.drops) == (2, 2)
    backlog.take()
    backlog.add(Arrays(4, 0.0, "h", {"x": half}))
    assert len(backlog) == 1


def test_drops_are_counted_in_the_status_row_and_over_restarts(path: Path, open_writer: Open) -> None:
    for session in (1, 2):
        writer = open_writer(queue_limit=100)
        writer.set_status(status(0))
        writer.flush()
        lock = hold_lock(path)
        writer.add_event(event(session))
        poll(lambda: len(writer._backlog) == 0)  # noqa: B023  the thread has taken the event and waits for the lock
        for step in range(1000):
            writer.log_scalars(step, {"x": 1.0})
        lock.execute("ROLLBACK")
        writer.flush()
        with RunReader(path) as reader:
            stored = reader.status()
            assert stored is not None
            assert stored.drops == writer.drops
            kept = 1000 * session - stored.drops
            rows = sqlite3.connect(path).execute("SELECT sum(rows) FROM blocks").fetchone()[0]
            assert 75 * session <= kept == rows <= 100 * session
            assert len(reader.events()) == session
            writer.set_status(status(5, drops=0))
            writer.flush()
            assert reader.status() == status(5, drops=stored.drops)
        writer.close()


def test_a_locked_database_is_retried_and_nothing_is_lost(
    path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcore.store.schema.BUSY_SECONDS", 0.02)
    writer = open_writer(commit_interval=0.01)
    writer.log_scalars(0, {"x": 0.0})
    writer.flush()
    lock = hold_lock(path)
    for step in range(1, 400):
        writer.log_scalars(step, {"x": float(step)})
    writer.add_event(event(1))
    poll(lambda: isinstance(writer.error, sqlite3.OperationalError))
    with pytest.raises(StoreBusyError, match="locked"):
        writer.flush(timeout=0.1)
    lock.execute("ROLLBACK")
    writer.flush()
    assert writer.error is None
    with RunReader(path) as reader:
        assert reader.scalars("x").values.tolist() == [float(step) for step in range(400)]
        assert reader.events() == [event(1)]


def test_closing_on_a_locked_database_reports_the_loss(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcore.store.schema.BUSY_SECONDS", 0.02)
    writer = RunWriter(path, commit_interval=0.01)
    lock = hold_lock(path)
    writer.log_scalars(0, {"x": 0.0})
    with pytest.raises(StoreBusyError, match="locked"):
        writer.close(timeout=0.1)
    assert not writer._thread.is_alive()
    lock.close()


def test_a_full_disk_surfaces_and_nothing_is_lost_when_there_is_room_again(path: Path, open_writer: Open) -> None:
    resource = pytest.importorskip("resource")
    writer = open_writer(commit_interval=60.0)
    writer.log_scalars(0, {"x": 0.0})
    writer.flush()
    count = 7 * MAX_ROWS + 100  # sealed blocks and an open one in the commit that fails
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        for step in range(1, count):
            writer.log_scalars(step, {"x": float(step)})
        with pytest.raises(StoreAccessError, match=r"full|I/O"):
            writer.flush()
        assert isinstance(writer.error, sqlite3.OperationalError)
        writer.log_scalars(count, {"x": float(count)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.flush()
    assert writer.error is None
    with RunReader(path) as reader:
        assert reader.scalars("x").values.tolist() == [float(step) for step in range(count + 1)]
    with sqlite3.connect(path) as connection:  # written once each: the failed attempts left nothing behind
        assert connection.execute("SELECT sum(rows) FROM blocks").fetchone() == (count + 1,)


def test_a_second_writer_takes_the_run_over(path: Path, open_writer: Open) -> None:
    first = RunWriter(path, commit_interval=60.0)
    first.log_scalars(0, {"x": 0.0})
    first.flush()
    second = open_writer()
    second.log_scalars(1, {"x": 1.0})
    second.flush()
    first.log_scalars(2, {"x": 2.0})
    with pytest.raises(WriterReplacedError):
        first.flush()
    with pytest.raises(WriterReplacedError):
        first.close()
    first.close()
    assert not first._thread.is_alive()
    with RunReader(path) as reader:
        assert reader.scalars("x").steps.tolist() == [0, 1]


# -- the end --------------------------------------------------------------------------------------------------------


def test_close_flushes_joins_and_may_be_repeated(path: Path) -> None:
    writer = RunWriter(path, commit_interval=60.0)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("store-run-a") == 1
    writer.log_scalars(1, {"x": 1.0})
    writer.close()
    writer.close()
    assert "store-run-a" not in [thread.name for thread in threading.enumerate()]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    for call in (
        lambda: writer.log_scalars(2, {"x": 1.0}),
        lambda: writer.add_event(event(1)),
        lambda: writer.flush(),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    with RunReader(path) as reader:
        assert reader.last("x") == (1, 1.0)


def test_threads_may_share_a_writer(path: Path, open_writer: Open) -> None:
    writer = open_writer(commit_interval=0.002)

    def log(name: str) -> None:
        for step in range(2000):
            writer.log_scalars(step, {name: float(step)})

    threads = [threading.Thread(target=log, args=(f"t{index}",), name=f"test-{index}") for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    with RunReader(path) as reader:
        for index in range(4):
            assert reader.scalars(f"t{index}").values.tolist() == [float(step) for step in range(2000)]


def test_settings_are_checked(path: Path) -> None:
    with pytest.raises(ValueError, match="commit_interval is 0"):
        RunWriter(path, commit_interval=0)
    with pytest.raises(ValueError, match="queue_limit is 2"):
        RunWriter(path, queue_limit=2)


def test_the_version_changes_with_everything_but_scalars(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    writer.set_status(status(0))
    writer.flush()
    generation = Generation("g", 1, 1.0, "prompt", "a", {}, "a", [], {}, status="running")
    finding = Finding("f", "eos", 5, 9, "active", {}, "EOS collapse", "why", [])
    with RunReader(path) as reader, Inbox(path) as inbox:
        before = reader.version()
        writer.log_scalars(1, {"loss": 1.0})
        writer.set_status(status(1))
        writer.flush()
        assert reader.version() == before
        changes: tuple[Callable[[], object], ...] = (
            lambda: writer.log_arrays(1, "tokens", {"a": np.zeros(2)}),
            lambda: writer.add_event(event(0)),
            lambda: writer.add_log(1, "info", "so far"),
            lambda: inbox.submit("pause", {}, "a person"),
            lambda: writer.resolve_command(1, "applied", 1),
            lambda: writer.put_generation(generation),
            lambda: writer.put_generation(replace(generation, text="ab")),
            lambda: writer.put_generation(replace(generation, text="ab", status="done")),
            lambda: writer.put_finding(finding),
            lambda: writer.put_finding(replace(finding, last_step=10)),
            lambda: writer.put_finding(replace(finding, last_step=10, state="resolved")),
        )
        for change in changes:
            change()
            writer.flush()
            assert reader.version() != before
            before = reader.version()
