"""A long job in a process of its own, which goes on when this one ends: start it, see whether it lives, end it.

A job has a folder. Its process holds the lock of the folder, so that who looks from another process knows; it leads a
session, so that an end reaches the processes that it has started itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcore.lab.errors import LabError
from qcore.train.files import RunLock, is_held
from qcore.train.processes import worker_command

LOG_FILE, _PID_FILE = "log.txt", "pid"
POLL_SECONDS = 0.05
_children: dict[Path, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """While active, this process works on the folder. `LabError` while another one does."""
    lock = RunLock(folder)
    if not lock.acquire():
        raise LabError(f"{folder.name!r} is being worked on already: wait for it, or end it")
    try:
        (folder / _PID_FILE).write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def start(folder: Path, module: str, *arguments: str) -> None:
    """Run `python -m module arguments` apart, module by its full name; what it says goes to the folder's log.

    `LabError` while one works.
    """
    if working(folder):
        raise LabError(f"{folder.name!r} is being worked on already: wait for it, or end it")
    command = worker_command(module, *arguments)
    with (folder / LOG_FILE).open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    with _lock:
        _children[folder.resolve()] = child


def working(folder: Path) -> bool:
    """Whether a process works on the folder, here or elsewhere; one that has just been started counts."""
    with _lock:
        child = _children.get(folder.resolve())
        starting = child is not None and child.poll() is None
    return starting or is_held(folder)


def cancel(folder: Path, timeout: float = 10.0) -> None:
    """End the process and those that it has started. `LabError` when none works on the folder."""
    if not working(folder):
        raise LabError(f"{folder.name!r} is not being worked on: there is nothing to end")
    deadline = time.monotonic() + timeout
    while working(folder) and time.monotonic() < deadline:
        if is_held(folder):
            pid = int((folder / _PID_FILE).read_text(encoding="utf-8"))
            try:
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGTERM)
            except ProcessLookupError:
                return
        time.sleep(POLL_SECONDS)


def last_words(folder: Path) -> str:
    """What the process said last, without the traceback above it; empty without a log."""
    path = folder / LOG_FILE
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
    return text.splitlines()[-1][-600:] if "Traceback (most recent call last)" in text else text[-600:]
