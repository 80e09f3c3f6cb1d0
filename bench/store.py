"""The store against a plain SQLite table of points, and TensorBoard where it is installed and asked for, in one run.

    python bench/store.py [--tensorboard]

CPU seconds, not wall seconds: `caller` is the thread that logs, `process` includes the writer thread until all is
on disk. The table is what one writes first: a row a point, prepared statements, an index on (name, step), WAL,
synchronous=NORMAL, a commit every half second. Both sides read into NumPy and downsample with the same function.
"""

import argparse
import math
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from qcore.store import CommandReader, Event, Inbox, RunReader, RunWriter, Series

MAX_POINTS = 2000
READS = 5
SHAPES = [(50_000, 20), (1_000_000, 1)]


class Store(Protocol):
    """What is compared."""

    def log(self, step: int, row: dict[str, float]) -> None: ...
    def finish(self) -> None: ...
    def read(self, names: list[str]) -> dict[str, Series]: ...


class Blocks:
    """qcore.store."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run.sqlite"
        self._writer = RunWriter(self._path, queue_limit=2_000_000)

    def log(self, step: int, row: dict[str, float]) -> None:
        self._writer.log_scalars(step, row)

    def finish(self) -> None:
        assert self._writer.drops == 0
        self._writer.close()

    def read(self, names: list[str]) -> dict[str, Series]:
        with RunReader(self._path) as reader:
            return reader.scalars_of(names, max_points=MAX_POINTS)


class SlowBlocks(Blocks):
    """qcore.store in a run so slow that no block ever grows beyond 256 rows: its worst case for reading."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._rows = 0

    def log(self, step: int, row: dict[str, float]) -> None:
        super().log(step, row)
        self._rows += 1
        if self._rows % 256 == 0:
            self._writer.flush()


class Table:
    """One row a point."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "table.sqlite"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE points (name TEXT, step INTEGER, wall REAL, value REAL);"
            "CREATE INDEX points_by_name ON points (name, step); BEGIN"
        )
        self._committed = time.monotonic()

    def log(self, step: int, row: dict[str, float]) -> None:
        wall = time.time()
        self._connection.executemany(
            "INSERT INTO points VALUES (?, ?, ?, ?)", [(name, step, wall, value) for name, value in row.items()]
        )
        if time.monotonic() - self._committed > 0.5:
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN")
            self._committed = time.monotonic()

    def finish(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.close()

    def read(self, names: list[str]) -> dict[str, Series]:
        connection = sqlite3.connect(self._path)
        sql = "SELECT step, wall, value FROM points WHERE name = ? ORDER BY step"
        found = {}
        for name in names:
            points = np.array(connection.execute(sql, (name,)).fetchall(), np.float64)
            steps, wall, values = points[:, 0].astype(np.int64), points[:, 1].copy(), points[:, 2].copy()
            found[name] = Series(steps, wall, values).downsampled(MAX_POINTS)
        connection.close()
        return found


class TensorBoard:
    """Event files, through tensorboard's own writer and reader."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder = folder
        self._record, self._summary = Record, Summary
        self._writer = EventFileWriter(str(folder))

    def log(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
            self._writer.add_event(self._record(wall_time=time.time(), step=step, summary=summary))

    def finish(self) -> None:
        self._writer.close()

    def read(self, names: list[str]) -> dict[str, Series]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self._folder), size_guidance={"scalars": 0})
        events.Reload()
        found = {}
        for name in names:
            points = np.array([(point.step, point.wall_time, point.value) for point in events.Scalars(name)])
            steps, wall, values = points[:, 0].astype(np.int64), points[:, 1].copy(), points[:, 2].copy()
            found[name] = Series(steps, wall, values).downsampled(MAX_POINTS)
        return found


def measure(
    kind: Callable[[Path], Store], steps: int, series: int, reads: int
) -> tuple[float, float, float, float, float]:
    """(caller µs/step, process µs/step, first read CPU ms, median read CPU ms, bytes/point)."""
    folder = Path(tempfile.mkdtemp(prefix="bench-store-"))
    try:
        store = kind(folder)
        names = [f"group/metric_{index}" for index in range(series)]
        row = dict.fromkeys(names, 0.0)
        process, caller = time.process_time(), 0.0
        for step in range(steps):
            for index, name in enumerate(names):
                row[name] = math.sin(step * 1e-3 + index) + 1e-6 * (step * 7919 % 1009)
            begin = time.thread_time()
            store.log(step, row)
            caller += time.thread_time() - begin
        store.finish()
        process = time.process_time() - process
        size = sum(entry.stat().st_size for entry in folder.iterdir())
        times = []
        for _ in range(reads):
            begin = time.process_time()
            found = store.read(names)
            times.append(time.process_time() - begin)
            assert all(1900 <= len(found[name]) <= MAX_POINTS for name in names)
        return (
            caller / steps * 1e6,
            process / steps * 1e6,
            times[0] * 1e3,
            float(np.median(times)) * 1e3,
            size / (steps * series),
        )
    finally:
        shutil.rmtree(folder)


def measure_latencies() -> dict[str, float]:
    """Wall and CPU cost of the small things a live run does."""
    folder = Path(tempfile.mkdtemp(prefix="bench-store-"))
    path = folder / "run.sqlite"
    row = {f"group/metric_{index}": float(index) for index in range(20)}
    acks, tails = [], []
    try:
        with RunWriter(path) as writer, RunReader(path) as reader, Inbox(path) as inbox:
            for step in range(20_000):
                writer.log_scalars(step, row)
            writer.flush()
            commands = CommandReader(path)
            commands.pending()
            begin = time.thread_time()
            for _ in range(10_000):
                commands.pending()
            poll = (time.thread_time() - begin) / 10_000
            _, cursor = reader.tail(None)
            for turn in range(200):
                for step in range(10):
                    writer.log_scalars(20_000 + turn * 10 + step, row)
                begin = time.perf_counter()
                writer.add_event(Event(turn, step, time.time(), "bench", "tick", {}))
                while not reader.events(turn - 1):
                    pass
                acks.append(time.perf_counter() - begin)
                begin = time.thread_time()
                _, cursor = reader.tail(cursor)
                tails.append(time.thread_time() - begin)
            begin = time.perf_counter()
            for turn in range(100):
                inbox.submit("tick", {"turn": turn}, "bench")
            submit = (time.perf_counter() - begin) / 100
            begin = time.thread_time()
            for _ in range(100):
                reader.latest()
            latest = (time.thread_time() - begin) / 100
            commands.close()
        return {
            "poll for commands, nothing new (CPU µs)": poll * 1e6,
            "event until a reader sees it, median (ms)": float(np.median(acks)) * 1e3,
            "event until a reader sees it, 95 % (ms)": float(np.quantile(acks, 0.95)) * 1e3,
            "submit a command (ms)": submit * 1e3,
            "tail read of 10 new steps x 20 (CPU ms)": float(np.median(tails)) * 1e3,
            "latest of 20 series (CPU ms)": latest * 1e3,
        }
    finally:
        shutil.rmtree(folder)


def clock_cost() -> float:
    """What `thread_time` itself adds to each measured call, in µs."""
    begin = time.thread_time()
    for _ in range(100_000):
        time.thread_time()
    return (time.thread_time() - begin) / 100_000 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tensorboard", action="store_true", help="compare tensorboard too (minutes; must be installed)"
    )
    arguments = parser.parse_args()
    kinds: list[tuple[str, Callable[[Path], Store], int]] = [
        ("blocks (qcore.store)", Blocks, READS),
        ("blocks, slow run", SlowBlocks, READS),
        ("table, a row a point", Table, 3),
    ]
    if arguments.tensorboard:
        kinds.append(("tensorboard", TensorBoard, 1))
    print(f"caller figures include {clock_cost():.2f} µs for reading the clock; threads: {threading.active_count()}\n")
    for steps, series in SHAPES:
        print(f"{steps:,} steps x {series} series, read and downsampled to {MAX_POINTS:,} points each")
        print(
            f"{'':24}{'caller µs':>10}{'process µs':>11}{'first ms':>10}{'read ms':>10}{'B/point':>9}{'read ratio':>12}"
        )
        base = None
        for name, kind, reads in kinds:
            caller, process, first, read, size = measure(kind, steps, series, reads)
            base = base or read
            print(f"{name:24}{caller:10.1f}{process:11.1f}{first:10.1f}{read:10.1f}{size:9.1f}{read / base:11.1f}x")
        print()
    for name, value in measure_latencies().items():
        print(f"{name:45}{value:10.3f}")


if __name__ == "__main__":
    main()
