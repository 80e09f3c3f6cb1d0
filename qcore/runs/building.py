"""Run folders are made aside and moved in whole: whatever ends a process leaves a run or none, and no name taken.

A hidden folder beside the runs is held by its maker's lock, which stays with it when it is renamed. Who opens a lab
deletes the hidden folders that nobody holds: their makers were killed. Two rules keep that from racing with a maker:
the deleter holds the folder's lock while it deletes, and the maker looks, once it has the lock, whether the folder is
still there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from qcore.runs.errors import FORESEEN, LabError, sentence
from qcore.runs.failures import NO_LOCKS
from qcore.runs.last_words import RESERVE_FILE, WORDS_FILE
from qcore.runs.layout import (
    CONFIG_FILE,
    LABELS_FILE,
    LOCK_FILE,
    ORIGIN_FILE,
    TOKENIZER_FILE,
    RunLock,
    has_worker,
)
from qcore.store import DATABASE_NAME, RunReader

STARTING, FORKING, IMPORTING, EXPORTING = ".starting-", ".forking-", ".importing-", ".exporting-"
REPLAYING, DELETING = ".replay-", ".deleting-"
OLD_SECONDS = 3600.0
"""A hidden folder without a lock (an earlier version's, or on a disk without locks) is left behind when nothing in it
has changed for so long."""
_HIDDEN = re.compile(r"\.(?:starting|forking|importing|exporting|replay|deleting)-[0-9a-z_]{6,32}")
_OWN = {CONFIG_FILE, LABELS_FILE, LOCK_FILE, ORIGIN_FILE, TOKENIZER_FILE, RESERVE_FILE, WORDS_FILE, "run.zip"}
_INSIDE = re.compile(
    rf"step-[0-9]{{6,}}|{re.escape(DATABASE_NAME)}.*|\.(?:writing|replaced)-step-[0-9]{{6,}}|\..+\.new"
)
_GHOST = re.compile(rf"{re.escape(CONFIG_FILE)}|{re.escape(LOCK_FILE)}|{re.escape(DATABASE_NAME)}\.new(?:-\w+)?")
_TRIES = 20


class TakenError(LabError):
    """A run name that is taken."""

    def __init__(self, name: str, remedy: str = "choose another") -> None:
        super().__init__(f"run name {name!r} is taken: {remedy}")


class Site:
    """A folder being made.

    Attributes:
        path: of the hidden folder.
        made: of what is made, where it is now.
        lock: its maker's hold, None where the file system has no locks.
    """

    def __init__(self, path: Path, lock: RunLock | None) -> None:
        self.path = path
        self.lock = lock
        self.made = path
        self.kept = False

    def make_inside(self, name: str) -> Path:
        """A folder in the hidden one, which is moved in instead of it."""
        self.made = self.path / name
        self.made.mkdir(mode=0o700)
        return self.made

    def move_in(self, target: Path) -> None:
        """Give the folder its name.

        Raises:
            TakenError: for one that is taken by anything but an empty folder or the remains of a run that never began.
        """
        for _ in range(_TRIES):
            try:
                os.rename(self.made, target)  # onto an empty folder too, in one move
            except OSError:
                if not os.path.lexists(target):
                    raise
                if not _clear_ghost(target):
                    raise TakenError(target.name) from None
            else:
                self.made = target
                return
        raise TakenError(target.name)

    def keep(self) -> None:
        """The folder is whole and stays."""
        self.kept = True


@contextlib.contextmanager
def building(parent: Path, kind: str) -> Iterator[Site]:
    """A hidden folder to build in. What is not kept at the end is removed, wherever it has been moved, and the lock is
    given back, unless it was taken over (`Site.lock` set to None).
    """
    site = _new_site(parent, kind)
    hidden = site.path.name
    try:
        yield site
    except (LabError, *FORESEEN) as error:
        text = sentence(error)
        if hidden not in text:
            raise
        # a person asked for a run by its name and has never heard of the hidden folder
        raise LabError(text.replace(hidden, "the new folder")) from error
    finally:
        if not site.kept:
            _discard(site.made)
        if site.path.exists():
            _discard(site.path)
        if site.lock is not None:
            site.lock.release()


def _new_site(parent: Path, kind: str) -> Site:
    for _ in range(_TRIES):
        path = parent / f"{kind}{uuid.uuid4().hex[:12]}"
        # locked from the first moment: `sweep` of another process takes what nobody holds for the remains of a dead one
        lock = RunLock(path)
        try:
            path.mkdir(mode=0o700)
            if lock.acquire(timeout=0.0) and lock.is_in_place:
                return Site(path, lock)
            lock.release()  # somebody takes it for a dead maker's: the next one
        except FileNotFoundError:
            if not parent.is_dir():
                raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                _discard(path)
                error.filename = str(parent)  # the hidden name is nobody's business
                raise
            (path / LOCK_FILE).unlink(missing_ok=True)
            return Site(path, None)
    raise LabError(
        f"no folder could be made in {str(parent)!r}, because something deletes it immediately: find out what does"
    )


def _discard(path: Path) -> None:
    """Remove what was not made. An empty folder takes no descriptor, of which there may be none left."""
    try:
        path.rmdir()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def sweep(parent: Path) -> list[str]:
    """Delete the hidden folders here that no living process holds, and return their names; a stranger's are left.

    What cannot be deleted stays until another time.
    """
    swept = []
    # tidying up never stands in the way of what a person wants to do
    with contextlib.suppress(OSError):
        with os.scandir(parent) as entries:
            hidden = [entry for entry in entries if _HIDDEN.fullmatch(entry.name)]
        for entry in hidden:
            with contextlib.suppress(OSError):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False) and _is_ours(path) and _remove_unheld(path):
                    swept.append(entry.name)
    return swept


def remove(folder: Path) -> None:
    """Delete a run's folder, which the caller holds or knows to be held by nobody; of a link to one, the link alone.

    It leaves the runs whole and at once. What then cannot be deleted raises OSError and lies in a hidden folder, which
    `sweep` tries again.
    """
    if folder.is_symlink():
        # what it points to is somebody else's
        folder.unlink()
        return
    # renamed first: a folder half deleted would be listed as a damaged run
    aside = folder.parent / f"{DELETING}{uuid.uuid4().hex[:12]}"
    os.rename(folder, aside)
    _rmtree(aside)


@contextlib.contextmanager
def keep_workers_off(folder: Path, refusal: str) -> Iterator[None]:
    """Keep every worker off a run for a while.

    Where there are no locks, what the run's status says of a worker is believed.

    Raises:
        LabError: with `refusal` while one holds it.
    """
    lock = RunLock(folder)
    try:
        free = lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        free = not _has_live_worker(folder)
    if not free:
        raise LabError(refusal)
    try:
        yield
    finally:
        lock.release()


def _has_live_worker(folder: Path) -> bool:
    with contextlib.suppress(LabError, OSError), RunReader(folder / DATABASE_NAME) as reader:
        status = reader.status()
        return status is not None and has_worker(folder, status.state, status.heartbeat)
    return False


def is_run_folder(folder: Path | str) -> bool:
    """Whether a folder is a run's, whole or not."""
    return os.path.isfile(f"{folder}/{DATABASE_NAME}") or os.path.isfile(f"{folder}/{CONFIG_FILE}")


def _is_ours(path: Path) -> bool:
    """Whether we own the folder and it holds nothing but what our own hidden folders do."""
    # an owner's folder on a shared disk is not ours to tidy up, whatever its name
    if path.stat(follow_symlinks=False).st_uid != os.geteuid():
        return False
    names = os.listdir(path)
    if path.name.startswith(DELETING):  # a whole run, and what a person has put beside it: it was to be deleted
        return LOCK_FILE in names
    return all(_is_own(name) or _is_half_a_run(path / name) for name in names)


def _is_own(name: str) -> bool:
    return name in _OWN or _INSIDE.fullmatch(name) is not None


def _is_half_a_run(path: Path) -> bool:
    """Whether it is a folder in which a run was being made."""
    return path.is_dir() and not path.is_symlink() and all(_is_own(name) for name in os.listdir(path))


def _remove_unheld(path: Path) -> bool:
    if not (path / LOCK_FILE).exists():
        return _age(path) > OLD_SECONDS and _rmtree(path)
    lock = RunLock(path)
    try:
        if not lock.acquire(timeout=0.0):
            return False
        return lock.is_in_place and _rmtree(path)
    finally:
        lock.release()


def _rmtree(path: Path) -> bool:
    """Delete a folder, its lock last, by which the rest is known should this end half way."""
    for found in path.iterdir():
        if found.name == LOCK_FILE:
            continue
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink()
    shutil.rmtree(path)
    return True


def _age(path: Path) -> float:
    """Seconds since anything in a folder changed."""
    newest = max((found.lstat().st_mtime for found in (path, *path.rglob("*"))), default=0.0)
    return time.time() - newest


def _clear_ghost(folder: Path) -> bool:
    """Delete what is left of a run that an earlier version began and never made; False for anything else.

    The folder's lock is held from the look at it to its end, and whoever moves a run in holds that run's: so no run is
    ever taken for a ghost.
    """
    if folder.is_symlink() or not folder.is_dir() or not is_ghost(folder):
        return False
    lock = RunLock(folder)
    try:
        if not lock.acquire(timeout=0.0) or not lock.is_in_place or not is_ghost(folder):
            return not folder.exists()
        remove(folder)
        return True
    except FileNotFoundError:
        return True  # it went meanwhile
    finally:
        lock.release()


def is_ghost(folder: Path) -> bool:
    """Whether a folder is what an earlier version left of a run that never began."""
    names = os.listdir(folder)
    return bool(names) and all(_GHOST.fullmatch(name) for name in names)
