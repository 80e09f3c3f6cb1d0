"""The run folder: names of its files, the lock that says a worker lives, and reading its configuration.

`checkpoints/<run>/`: run.sqlite, config.yaml, tokenizer.json, labels.json, run.lock, step-NNNNNN/, and origin.yaml in
some forks. The lock is the operating system's (`flock`): it goes with the process that holds it, however that ends, so
a dead worker is never taken for a live one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from qcore.base import plain_file
from qcore.base.run_states import ACTIVE
from qcore.config import (
    BEFORE,
    EXTERNAL,
    LARGEST,
    ConfigError,
    ExternalConfig,
    RunConfig,
    decode_text,
    external_in,
    parse_yaml,
)
from qcore.runs.checkpoint_folders import file_mode
from qcore.runs.failures import folder_gone_error

CONFIG_FILE = "config.yaml"
TOKENIZER_FILE = "tokenizer.json"
LABELS_FILE = "labels.json"
LOCK_FILE = "run.lock"
CACHE_FOLDER = ".cache"
ORIGIN_FILE = "origin.yaml"
"""Configuration of the run that a fork comes from, where the fork's is another: how it goes to its first step."""
CATCH_UP = "catch_up"
"""Meta value: the step that a run was put at, to which it goes from an earlier checkpoint before anything else."""

BELIEVED_SECONDS = 30.0


class RunLock:
    """Exclusive hold on a run folder by one worker of one process. The folder may be renamed while it is held."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self, timeout: float = 1.0) -> bool:
        """Take the lock; False when another worker, in this or another process, holds it.

        Tries for `timeout` seconds, because `is_held` of another process touches the lock for an instant.

        Raises:
            OSError: where the folder cannot be written, or the file system has no locks.
        """
        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as unless_taken:
            descriptor = plain_file(self._path, os.O_RDWR | os.O_CREAT, file_mode(self._path.parent))
            unless_taken.callback(os.close, descriptor)
            while True:
                try:
                    # flock, not a file that says so: the kernel gives it back however a worker ends
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        return False
                    time.sleep(0.01)
                except OSError as error:
                    error.filename = str(self._path)  # flock knows only a number
                    raise
                else:
                    self._descriptor = descriptor
                    unless_taken.pop_all()
                    return True

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def is_in_place(self) -> bool:
        """Whether the lock that is held is still the one of the folder: nobody has deleted or replaced it."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return self._descriptor is not None and os.path.samestat(there, os.fstat(self._descriptor))

    def shared(self) -> RunLock:
        """A second hold on the lock, to be handed to somebody else: it is free when both have been released."""
        other = RunLock(self._path.parent)
        other._descriptor = None if self._descriptor is None else os.dup(self._descriptor)
        return other

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def lock_state(run_dir: Path) -> bool | None:
    """Whether a worker of any process holds the run; None where that cannot be known: the file system has no locks, or
    the lock may not be looked at.
    """
    try:
        descriptor = plain_file(run_dir / LOCK_FILE, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        # shared: two processes that look at once must not take each other for a worker
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def is_held(run_dir: Path) -> bool:
    """Whether a worker of any process is known to hold the run."""
    return lock_state(run_dir) is True


def has_worker(run_dir: Path, state: str, heartbeat: float) -> bool:
    """Whether a run has a worker.

    Args:
        state, heartbeat: of its status row.
    """
    found = lock_state(run_dir)
    return has_recent_heartbeat(state, heartbeat) if found is None else found


def has_recent_heartbeat(state: str, heartbeat: float) -> bool:
    """Whether a run is taken to have a worker where there are no locks: it spoke lately, by its status row."""
    # the clocks of two machines on one disk differ, in either direction
    return state in ACTIVE and abs(time.time() - heartbeat) < BELIEVED_SECONDS


def folder_identity(run_dir: Path) -> tuple[int, int]:
    """What a folder is on its disk, whatever it is called."""
    found = os.stat(run_dir)
    return found.st_dev, found.st_ino


def check_present(run_dir: Path, place: tuple[int, int]) -> None:
    """Raise `RunError` when the folder is no longer there, or is another one."""
    try:
        present = folder_identity(run_dir) == place
    except OSError:
        present = False
    if not present:
        raise folder_gone_error(run_dir)


def write_text(path: Path, text: str) -> None:
    """Write a small file of a run folder aside and move it in: it is whole or absent."""
    aside = path.with_name(f".{path.name}.new")
    descriptor = plain_file(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file_mode(path.parent))
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    # in one move: a reader finds the old text or the new one
    os.replace(aside, path)


def read_config(run_dir: Path, name: str = CONFIG_FILE) -> RunConfig:
    """The run's configuration.

    Raises:
        ConfigError: when the file holds something else.
        OSError: when it is missing.
    """
    return stored_config(run_dir, name)[0]


def stored_config(run_dir: Path, name: str = CONFIG_FILE) -> tuple[RunConfig, dict[str, str]]:
    """The run's configuration, and why values of live controls in it are refused, by name: those take their defaults.
    Errors as of `read_config`.
    """
    with open(run_dir / name, "rb", opener=plain_file) as file:
        return config_of(file.read(LARGEST + 1), name)


def config_text(config: RunConfig) -> str:
    """What the file of a configuration holds.

    Raises:
        ConfigError: where `config_of` would not read the same from it: the run would be unreadable from its first
            second.
    """
    text = config.to_yaml()
    try:
        same = config_of(text.encode()) == (config, {})
    except ConfigError as error:
        raise ConfigError(
            f"this configuration could not be read again ({error}); its longest value: {_longest_value(config)}"
        ) from None
    if not same:
        raise ConfigError(
            f"this configuration could not be read back unchanged; look at its longest value: {_longest_value(config)}"
        )
    return text


def _longest_value(config: RunConfig) -> str:
    """The value of a configuration that takes the most letters, and how many."""
    values = {
        f"{section}.{name}": len(str(value))
        for section, part in config.model_dump().items()
        if isinstance(part, dict)
        for name, value in part.items()
    }
    name = max(values, key=lambda one: values[one])
    return f"{name}, {values[name]:,} letters"


def description_of(data: bytes, name: str = CONFIG_FILE) -> RunConfig | ExternalConfig:
    """What the file says that a run is: a configuration of ours, or the description of a run that another program
    wrote. Raises `ConfigError` for anything else.
    """
    if EXTERNAL.encode() in data and external_in(values := parse_yaml(decode_text(data, name), name)):
        return ExternalConfig.from_dict(values)
    return config_of(data, name)[0]


def foreign_description(run_dir: Path, name: str = CONFIG_FILE) -> ExternalConfig:
    """The description of a run whose file, if there is one, is none of ours."""
    try:
        with open(run_dir / name, "rb", opener=plain_file) as file:
            text = decode_text(file.read(LARGEST + 1), name)
    except FileNotFoundError:
        return ExternalConfig()
    except (ConfigError, OSError) as error:
        return ExternalConfig(note=f"{name} is not read: {getattr(error, 'strerror', None) or error}")
    return ExternalConfig.of_foreign(text, name)


def config_of(data: bytes, name: str = CONFIG_FILE) -> tuple[RunConfig, dict[str, str]]:
    """As `stored_config`, of what the file holds."""
    return RunConfig.from_stored(decode_text(data, name), name, BEFORE)
