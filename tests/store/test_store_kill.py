"""SIGKILL at twenty random instants: the database opens, is whole, and holds all but at most the last second.

One helper process imports the store once and forks a logger a life, so that twenty lives take seconds. Five lives
share a database, each continuing where the last ended; a life tells over a pipe what it logged and what it flushed.
"""

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from qcore.store import DATABASE_NAME, RunReader
from qcore.store.blocks import SEAL_ROWS

LIVES = 20
NURSERY = """
import os, sys, time
from pathlib import Path
from qcore.store import Event, RunReader, RunWriter, Status

def live(path):
    step = 0
    if path.exists():
        with RunReader(path) as reader:
            last = reader.last("a")
            step = 0 if last is None else last[0] + 1
            seq = len(reader.events())
    else:
        seq = 0
    writer = RunWriter(path)
    while True:
        writer.log_scalars(step, {"a": step * 0.5, "b": -step})
        if step % 3 == 0:
            writer.log_scalars(step, {"eval": step})
        if step % 10 == 0:
            writer.add_event(Event(seq, step, time.time(), "child", "tick", {"step": step}))
            seq += 1
        if step % 64 == 0:
            writer.set_status(Status("running", step, 0, time.time(), os.getpid(), "here"))
            os.write(1, f"logged {step} {time.time()!r}\\n".encode())
        if step % 1000 == 999:
            writer.flush()
            os.write(1, f"flushed {step} {time.time()!r}\\n".encode())
        step += 1

for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    child = os.fork()
    if child == 0:
        try:
            live(path)
        except BaseException as error:
            os.write(1, f"failed {error!r}\\n".encode())
        os._exit(1)
    os.write(1, f"born {child} 0\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"dead 0 0\\n")
"""


def read_until(stream: IO[bytes], seconds: float) -> bytes:
    """What the pipe brings within so many seconds."""
    deadline = time.monotonic() + seconds
    received = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([stream], [], [], left)[0]:
            received += os.read(stream.fileno(), 1 << 16)
    return received


def read_to_word(stream: IO[bytes], word: bytes) -> bytes:
    received = b""
    deadline = time.monotonic() + 20
    while not any(line.startswith(word) for line in received.split(b"\n")[:-1]):
        assert select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0], received
        received += os.read(stream.fileno(), 1 << 16)
    return received


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_any_instant_nothing_but_the_last_second_is_lost(tmp_path: Path) -> None:
    rng = random.Random(2)
    durations = [1.4] + [rng.uniform(0.0, 0.25) for _ in range(LIVES - 2)] + [1.4]
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    last_steps: dict[Path, int] = {}
    try:
        for life, seconds in enumerate(durations):
            path = tmp_path / f"run-{life // 5}" / DATABASE_NAME
            nursery.stdin.write(f"{path}\n".encode())
            nursery.stdin.flush()
            born = read_to_word(nursery.stdout, b"born")
            child = int(born.split(b"born ")[1].split()[0])
            told = born + read_until(nursery.stdout, seconds)
            os.kill(child, signal.SIGKILL)
            told += read_to_word(nursery.stdout, b"dead")
            lines = [line.split() for line in told.decode().splitlines()]
            assert not [line for line in lines if line[0] == "failed"]
            logged = [(int(line[1]), float(line[2])) for line in lines if line[0] == "logged"]
            flushed = [int(line[1]) for line in lines if line[0] == "flushed"]
            if path.exists():
                last_steps[path] = check(path, last_steps.get(path, -1), logged, flushed)
    finally:
        nursery.stdin.close()
        nursery.wait(10)
        nursery.stdout.close()
    assert max(last_steps.values()) > 100


def check(path: Path, before: int, logged: list[tuple[int, float]], flushed: list[int]) -> int:
    """All promises about a database whose writer was killed; returns the last step it holds."""
    with RunReader(path) as reader:
        found = reader.scalars_of(["a", "b", "eval"])
        count = len(found["a"])
        steps = np.arange(count)
        assert np.array_equal(found["a"].steps, steps)
        assert np.array_equal(found["a"].values, steps * 0.5)
        assert np.array_equal(found["b"].values, -steps)
        evals = found["eval"].steps
        assert np.array_equal(evals, 3 * np.arange(len(evals)))
        assert count - 1 <= 3 * len(evals) <= count + 2
        assert count - 1 >= max([before, *flushed])
        assert [step for step, wall in logged if wall < logged[-1][1] - 1.0 and step >= count] == []
        events = reader.events()
        assert [event.seq for event in events] == list(range(len(events)))
        assert [event.step for event in events] == list(range(0, 10 * len(events), 10))
        assert not events or events[-1].step < count
        tail, cursor = reader.tail(None)
        assert np.array_equal(tail["a"].values, steps * 0.5) if count else tail == {}
        assert len(cursor.open_rows) <= 2
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    sizes = connection.execute("SELECT rows >= ?, sealed FROM blocks", (SEAL_ROWS,)).fetchall()
    assert all(full == sealed for full, sealed in sizes)
    connection.close()
    return count - 1
