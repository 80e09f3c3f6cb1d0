"""Scalars: bit-exact round trips, layouts, blocks, tails and rewinds, checked against a plain model."""

import math
import random
import sqlite3
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcore.store import RunReader, RunWriter, Series, TailCursor
from qcore.store.blocks import MAX_ROWS, SEAL_ROWS

Open = Callable[..., RunWriter]
Model = dict[str, dict[int, float]]

AWKWARD = [0.0, -0.0, 5e-324, -1.7976931348623157e308, math.pi, 1 / 3, math.inf, -math.inf, math.nan]
AWKWARD += [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000123, 0xFFF8000000000001)]


def bits(values: np.ndarray) -> list[int]:
    return np.asarray(values, np.float64).view(np.uint64).tolist()


def blocks(path: Path) -> list[tuple[int, int, int]]:
    """(layout, rows, sealed) of each block."""
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT layout, rows, sealed FROM blocks ORDER BY id").fetchall()


def assert_holds(reader: RunReader, model: Model) -> None:
    """The reader returns exactly the model's points, by every way of asking."""
    names = sorted(name for name, points in model.items() if points)
    assert reader.names() == names
    together = reader.scalars_of(names)
    for name in names:
        steps = sorted(model[name])
        values = bits(np.array([model[name][step] for step in steps]))
        for series in (reader.scalars(name), together[name]):
            assert series.steps.tolist() == steps
            assert bits(series.values) == values
            assert len(series.wall) == len(steps)
        step, value = reader.latest()[name]
        assert (step, bits(np.array([value]))) == (steps[-1], values[-1:])


def test_awkward_values_come_back_bit_for_bit(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step, value in enumerate(AWKWARD):
        writer.log_scalars(step, {"x": value, "a": -value})
    writer.flush()
    with RunReader(path) as reader:
        series = reader.scalars("x")
        assert series.steps.tolist() == list(range(len(AWKWARD)))
        assert bits(series.values) == bits(np.array(AWKWARD))
        assert np.all(np.diff(series.wall) > 0)
        assert bits(reader.scalars("a").values) == bits(-np.array(AWKWARD))


def test_numbers_of_other_kinds_are_taken_and_others_refused(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    writer.log_scalars(np.int64(3), {"a": np.float32(0.1), "b": 2, "c": True, "d": np.array(1.5)})
    writer.log_scalars(4, {})
    for bad in ({"a": "1.0"}, {"a": None}, {"a": 1j}, {"": 1.0}, {7: 1.0}):
        with pytest.raises(ValueError, match=r"'1.0'|None|1j|''|7"):
            writer.log_scalars(5, bad)  # type: ignore[arg-type]
    for bad_step in (1.5, 2**63, "3"):
        with pytest.raises(ValueError, match="step is"):
            writer.log_scalars(bad_step, {"a": 1.0})  # type: ignore[arg-type]
    writer.flush()
    with RunReader(path) as reader:
        assert reader.latest() == {"a": (3, float(np.float32(0.1))), "b": (3, 2.0), "c": (3, 1.0), "d": (3, 1.5)}


def test_the_caller_may_reuse_its_dictionary(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    row = {"loss": 1.0}
    writer.log_scalars(0, row)
    row["loss"] = 2.0
    writer.log_scalars(1, row)
    writer.flush()
    with RunReader(path) as reader:
        assert reader.scalars("loss").values.tolist() == [1.0, 2.0]


def test_layouts_that_change_share_a_series_and_ignore_the_order_of_names(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step in range(1000):
        row = {"b": step + 0.25, "a": float(step)}
        if step % 7 == 0:
            row["extra"] = -float(step)
        writer.log_scalars(step, row if step % 2 else dict(reversed(row.items())))
        if step % 100 == 0:
            writer.log_scalars(step, {"extra": 0.5})
    writer.flush()
    assert len({layout for layout, _, _ in blocks(path)}) == 3
    extra = {step: -float(step) for step in range(0, 1000, 7)} | dict.fromkeys(range(0, 1000, 100), 0.5)
    model = {"a": {s: float(s) for s in range(1000)}, "b": {s: s + 0.25 for s in range(1000)}, "extra": extra}
    with RunReader(path) as reader:
        assert_holds(reader, model)


def test_a_slow_run_leaves_full_blocks_and_a_fast_one_large_blocks(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step in range(SEAL_ROWS + 10):
        writer.log_scalars(step, {"slow": float(step)})
        writer.flush()
    assert blocks(path) == [(1, SEAL_ROWS, 1), (1, 10, 0)]
    for step in range(2 * MAX_ROWS):
        writer.log_scalars(step, {"fast": float(step)})
    writer.flush()
    assert blocks(path)[2:] == [(2, MAX_ROWS, 1), (2, MAX_ROWS, 1)]


def test_the_last_written_value_of_a_step_wins(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step, value in [(5, 1.0), (3, 2.0), (5, 3.0), (4, 4.0), (3, 5.0)]:
        writer.log_scalars(step, {"x": value})
    writer.log_scalars(4, {"x": 6.0, "y": 0.0})
    writer.log_scalars(5, {"x": 7.0})
    writer.flush()
    with RunReader(path) as reader:
        assert_holds(reader, {"x": {3: 5.0, 4: 6.0, 5: 7.0}, "y": {4: 0.0}})
        assert reader.last("x") == (5, 7.0)
        assert reader.last("unknown") is None
        assert len(reader.scalars("unknown")) == 0


def test_a_clock_set_back_does_not_change_who_wins(
    path: Path, open_writer: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer()
    writer.log_scalars(1, {"x": 1.0})
    writer.close()
    monkeypatch.setattr("qcore.store.backlog.time.time", lambda: 1000.0)
    writer = open_writer()
    writer.log_scalars(1, {"x": 2.0, "y": 0.0})
    writer.log_scalars(1, {"x": 3.0})
    writer.flush()
    with RunReader(path) as reader:
        assert reader.last("x") == (1, 3.0)
        assert reader.scalars("x").values.tolist() == [3.0]


@pytest.mark.parametrize(("start", "stop"), [(None, 400), (300, None), (299, 301), (0, 10**9), (700, 600), (998, 999)])
def test_a_range_is_half_open(path: Path, open_writer: Open, start: int | None, stop: int | None) -> None:
    writer = open_writer()
    for step in range(0, 1000, 2):
        writer.log_scalars(step, {"x": float(step), "y": 0.0})
        if step % 100 == 0:
            writer.flush()
    writer.flush()
    expected = [s for s in range(0, 1000, 2) if (start is None or s >= start) and (stop is None or s < stop)]
    with RunReader(path) as reader:
        assert reader.scalars("x", start=start, stop=stop).steps.tolist() == expected
        assert reader.scalars_of(["x", "y"], start=start, stop=stop)["y"].steps.tolist() == expected


def test_a_reopened_run_continues_its_open_block(path: Path, open_writer: Open) -> None:
    for begin in range(0, 300, 50):
        writer = open_writer()
        for step in range(begin, begin + 50):
            writer.log_scalars(step, {"x": float(step)})
        writer.close()
    assert [rows for _, rows, _ in blocks(path)] == [300]
    with RunReader(path) as reader:
        assert_holds(reader, {"x": {s: float(s) for s in range(300)}})


@pytest.mark.parametrize("seed", range(6))
def test_tails_and_rewinds_agree_with_a_full_read(path: Path, open_writer: Open, seed: int) -> None:
    """Random logging, commits, rewinds, reopening and tail reads: tails add up to the full read, which is the model."""
    rng = random.Random(seed)
    layouts = [("a",), ("a", "b"), ("b", "c", "d"), ("d", "a")]
    writer = open_writer()
    reader = RunReader(path)
    model: Model = {name: {} for name in "abcd"}
    committed = {name: dict(points) for name, points in model.items()}
    held: dict[str, Series] = {}
    held_b: dict[str, Series] = {}
    cursor: TailCursor | None = None
    cursor_b: TailCursor | None = None
    step = 0

    def take(old: dict[str, Series], new: dict[str, Series], reset: bool) -> dict[str, Series]:
        merged = {} if reset else dict(old)
        for name, series in new.items():
            merged[name] = merged[name].merged(series) if name in merged else series
        return merged

    for _ in range(120):
        for _ in range(rng.choice([0, 1, 3, 40, 300])):
            step += rng.choice([0, 1, 1, 1, 2, -3])
            row = {name: rng.choice([*AWKWARD, rng.random()]) for name in rng.choice(layouts)}
            writer.log_scalars(step, row)
            for name, value in row.items():
                model[name][step] = value
        if rng.random() < 0.08:
            step = rng.randint(-5, max(step, 0))
            writer.truncate_after(step, event_seq=0)
            model = {name: {s: v for s, v in points.items() if s <= step} for name, points in model.items()}
            writer.flush()
            committed = {name: dict(points) for name, points in model.items()}
        if rng.random() < 0.05:
            writer.close()
            writer = open_writer()
            committed = {name: dict(points) for name, points in model.items()}
        if rng.random() < 0.6:
            writer.flush()
            committed = {name: dict(points) for name, points in model.items()}
        if rng.random() < 0.5:
            new, cursor = reader.tail(cursor)
            held = take(held, new, cursor.reset)
            for name, points in committed.items():
                series = held.get(name)
                assert (series.steps.tolist() if series else []) == sorted(points)
                if series:
                    assert bits(series.values) == bits(np.array([points[s] for s in sorted(points)]))
        if rng.random() < 0.2:
            new, cursor_b = reader.tail(cursor_b, ["b"])
            held_b = take(held_b, new, cursor_b.reset)
            assert set(held_b) <= {"b"}
            assert (held_b["b"].steps.tolist() if held_b else []) == sorted(committed["b"])
    writer.flush()
    assert_holds(reader, model)
    reader.close()


def test_a_tail_without_news_is_empty_and_other_names_start_again(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    writer.log_scalars(1, {"a": 1.0, "b": 2.0})
    writer.flush()
    with RunReader(path) as reader:
        first, cursor = reader.tail(None)
        assert cursor.reset
        assert sorted(first) == ["a", "b"]
        nothing, cursor = reader.tail(cursor)
        assert (nothing, cursor.reset) == ({}, False)
        writer.log_scalars(2, {"a": 3.0, "b": 4.0})
        writer.flush()
        fresh, cursor = reader.tail(cursor)
        assert (fresh["a"].steps.tolist(), fresh["b"].values.tolist()) == ([2], [4.0])
        other, cursor = reader.tail(cursor, ["b"])
        assert (list(other), cursor.reset) == (["b"], True)


def test_a_rewind_cuts_open_and_sealed_blocks_exactly(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    for step in range(1000):
        writer.log_scalars(step, {"x": float(step)})
        if step % 10 == 0:
            writer.log_scalars(step, {"eval": -float(step)})
        if step % 128 == 127:
            writer.flush()
    writer.flush()
    writer.truncate_after(300, event_seq=4)
    for step in range(301, 310):
        writer.log_scalars(step, {"x": 0.5})
    writer.flush()
    expected = {s: float(s) for s in range(301)} | dict.fromkeys(range(301, 310), 0.5)
    with RunReader(path) as reader:
        assert_holds(reader, {"x": expected, "eval": {s: -float(s) for s in range(0, 301, 10)}})
        rewinds = reader.meta()["rewinds"]
        assert [(note["step"], note["event_seq"]) for note in rewinds] == [(300, 4)]
    writer.truncate_after(-1, event_seq=0)
    writer.flush()
    with RunReader(path) as reader:
        assert reader.names() == []
        assert reader.latest() == {}
        assert reader.tail(None)[0] == {}


def test_a_reader_beside_a_writer_sees_consistent_prefixes(path: Path, open_writer: Open) -> None:
    """Every snapshot holds the steps 0..n of one layout, and of the other 0..n or 0..n-1."""
    writer = open_writer(commit_interval=0.002)
    rounds, a_round = 20, 700
    seen = threading.Semaphore()  # released when the reader has seen something new

    def log() -> None:
        for step in range(rounds * a_round):
            if step % a_round == 0:
                seen.acquire(timeout=10)
            writer.log_scalars(step, {"a": float(step), "b": -float(step)})
            writer.log_scalars(step, {"c": float(step)})

    thread = threading.Thread(target=log, name="test-logger")
    thread.start()
    counts = [0]
    with RunReader(path) as reader:
        while counts[-1] < rounds * a_round:
            alive = thread.is_alive()
            if not alive:
                writer.flush()
            found = reader.scalars_of(["a", "b", "c"])
            count = len(found["a"])
            assert np.array_equal(found["a"].steps, np.arange(count))
            assert np.array_equal(found["b"].values, -found["a"].values)
            assert len(found["c"]) in (count, count - 1)
            assert count > counts[-1] or (alive and count == counts[-1])
            if count > counts[-1]:
                counts.append(count)
                seen.release()
    thread.join()
    assert len(counts) > rounds / 2
