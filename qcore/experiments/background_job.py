"""A long job in a process of its own, which goes on when this one ends: start it, see whether it lives, end it.

A job has a folder. Its process holds the lock of the folder, so that who looks from another process knows; it leads a
session, so that an end reaches the processes that it has started itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcore.base import plain_file, read_json
from qcore.base.words import number_words
from qcore.experiments.worker_process import worker_command
from qcore.runs.errors import LabError
from qcore.runs.layout import RunLock, is_held, write_text
from qcore.store import shapes

LOG_FILE, _PID_FILE = "log.txt", "pid"
_MOST_BYTES = 4096
_WORKER = shapes.record({"host": shapes.text, "pid": shapes.count, "started": shapes.text})
POLL_SECONDS = 0.05
_children: dict[Path, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """While active, this process works on the folder. `LabError` while another one does."""
    lock = RunLock(folder)
    if not lock.acquire():
        raise LabError(f"{folder.name!r} is in use by another process: wait for it, or end it")
    try:
        worker = {"host": os.uname().nodename, "pid": os.getpid(), "started": _process_start_time(os.getpid())}
        write_text(folder / _PID_FILE, json.dumps(worker))
        yield
    finally:
        lock.release()


def start(folder: Path, module: str, *arguments: str) -> None:
    """Run `python -m module arguments` apart, module by its full name; what it says goes to the folder's log.

    `LabError` while one works.
    """
    if is_working(folder):
        raise LabError(f"{folder.name!r} is in use by another process: wait for it, or end it")
    command = worker_command(module, *arguments)
    with (folder / LOG_FILE).open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    with _lock:
        _children[folder.resolve()] = child


def is_working(folder: Path) -> bool:
    """Whether a process works on the folder, here or elsewhere; one that has just been started counts."""
    with _lock:
        child = _children.get(folder.resolve())
        starting = child is not None and child.poll() is None
    return starting or is_held(folder)


def cancel(folder: Path, timeout: float = 10.0) -> None:
    """End the process and those that it has started.

    Raises:
        LabError: when none works on the folder, when it is one of another machine or account, and when it has not ended
            after `timeout` seconds.
    """
    if not is_working(folder):
        raise LabError(f"{folder.name!r} is not being worked on: there is nothing to end")
    deadline = time.monotonic() + timeout
    while is_working(folder):
        if time.monotonic() > deadline:
            raise LabError(
                f"the process that works on {folder.name!r} did not end within {number_words(timeout, 2)} s: end it"
            )
        if (pid := _worker_pid(folder)) is not None:
            try:
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            except PermissionError:
                raise LabError(f"process {pid} works on {folder.name!r} for another account: end it there") from None
        time.sleep(POLL_SECONDS)


def _worker_pid(folder: Path) -> int | None:
    """The process that works on the folder; None while that is not known, or when the file tells of an earlier one."""
    with _lock:
        child = _children.get(folder.resolve())
        if child is not None and child.poll() is None:
            return child.pid
    try:
        worker = read_json(folder / _PID_FILE, max_bytes=_MOST_BYTES)
        _WORKER(worker, _PID_FILE)
    except (OSError, ValueError):
        return None
    if worker["host"] != os.uname().nodename:
        raise LabError(f"{folder.name!r} is being worked on by {worker['host'][:80]!r}: end it on that machine")
    pid: int = worker["pid"]
    return pid if pid > 0 and worker["started"] == _process_start_time(pid) else None


def _process_start_time(pid: int) -> str:
    """When a process was started, by the system's own count: a number that came to another process has another."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before it, in brackets, may hold anything.
            return file.read(4096).rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def last_words(folder: Path) -> str:
    """What the process said last, without the traceback above it; empty without a log."""
    try:
        with open(folder / LOG_FILE, encoding="utf-8", errors="replace", opener=plain_file) as file:
            text = file.read().strip()
    except FileNotFoundError:
        return ""
    return text.splitlines()[-1][-600:] if "Traceback (most recent call last)" in text else text[-600:]
