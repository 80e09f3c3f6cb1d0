"""Freed memory is kept while a run trains, and given back afterwards; in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from qcore.train import allocator
from qcore.train.allocator import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from qcore.train.allocator import keep_freed_memory, release_freed_memory

MIB = 1 << 20
if sys.argv[1] == "kept":
    assert keep_freed_memory() and keep_freed_memory()

def step():
    blocks = [np.ones(MIB, dtype=np.uint8) for _ in range(60)]
    del blocks

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // MIB

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = resident()
release_freed_memory()
print(faults, held - resident())
"""


def run(how: str) -> tuple[int, int]:
    """Page faults of ten steps of 60 MiB, and the MiB given back in the end."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=60, check=True)
    faults, released = map(int, done.stdout.split())
    return faults, released


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_what_a_step_frees_is_kept_until_the_end():
    kept, released = run("kept")
    assert kept < 200
    assert released > 50
    alone, _ = run("alone")
    assert alone > 10 * max(kept, 100)


def test_checkpoints_give_back_once_a_minute(monkeypatch: pytest.MonkeyPatch):
    times, released = iter((1000.0, 1001.0, 1059.9, 1060.0, 1060.0, 1061.0, 1119.9, 1121.0, 1121.0)), []
    monkeypatch.setattr(allocator, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(allocator, "_library", lambda: released.append(allocator._released))
    allocator.release_freed_memory()
    for _ in range(6):
        allocator.release_seldom()
    assert released == [1000.0, 1060.0, 1121.0]
