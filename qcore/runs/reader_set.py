"""The half of the façade that only reads: runs, their states and series, findings, the run tree, what was measured.

Torch is never imported here, and nothing is written: finished runs open in a moment, live ones are not disturbed.
Whatever one run's files hold, the others are listed: each is looked at within an edge of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qcore.base import plain_file, read_json
from qcore.base.run_states import RunState
from qcore.config import FAMILIES, LARGEST, ConfigError, ExternalConfig, RunConfig
from qcore.runs.building import is_run_folder
from qcore.runs.checkpoint_folders import CheckpointError, checkpoint_folders, read_state
from qcore.runs.errors import LabError, sentence
from qcore.runs.external import NO_TRAINER, external_controls, external_info
from qcore.runs.external_findings import judged_findings
from qcore.runs.findings import FindingInfo, finding_infos
from qcore.runs.info import CheckpointInfo, ControlState, Hold, RunInfo, control_states, run_info, stranded_steps
from qcore.runs.last_words import Failure
from qcore.runs.layout import CONFIG_FILE, LABELS_FILE, description_of, foreign_description
from qcore.runs.lineage import Lineage, RunNode, history, read_lineage, run_tree
from qcore.runs.listing import CONFIGS, FactCache, LruMapping, files_stamp, open_readers
from qcore.runs.names import check_name, open_folder, printable_name, suggest_name
from qcore.store import BAD_DATA, DATABASE_NAME, RunReader, Series, StoreFormatError

log = logging.getLogger(__name__)
LIST_PATIENCE = 0.5
"""Seconds that a list waits for a run that another process keeps locked, before it goes on with the others."""
_LIST_REMEDY = "Restore its folder from a copy, or delete it."
_NO_DATABASE = "Put it back from a copy, or delete the run."
_TRY_AGAIN = "Try again in a moment; its data are not changed."


class RunReaderSet:
    """All runs under `runs_dir`, to be looked at."""

    def __init__(self, runs_dir: Path | str) -> None:
        self.runs_dir = open_folder(runs_dir)
        self._lock = threading.RLock()
        self._readers = open_readers()
        self._configs: LruMapping[str, RunConfig | ExternalConfig] = LruMapping(CONFIGS)
        self._facts = FactCache()

    def runs(self) -> list[RunInfo]:
        """Every run in the folder, newest first; a folder that cannot be read has the state `unreadable`.

        Runs whose files have not changed since the last look are not opened again.

        Example:
            >>> [info.name for info in lab.runs() if info.name == "first"]
            ['first']
        """
        infos = [self.listed(name) for name in self._folders()]
        return sorted(infos, key=lambda info: (-info.created, info.name))

    def listed(self, name: str) -> RunInfo:
        """One run as it stands in the list: it is `unreadable`, with the reason and what to do, where `info` raises."""
        try:
            return self._cached_fact(name, "info", lambda: self._read_listed_info(name))
        except (LabError, OSError) as error:  # locked, or a failing disk: asked again at the next look
            return self._unreadable_info(name, str(error), _TRY_AGAIN)
        except BAD_DATA as error:  # whatever one run holds, the others are listed
            log.exception("run %r cannot be listed", name)
            return self._unreadable_info(name, str(error) or type(error).__name__, _LIST_REMEDY)

    def _read_listed_info(self, name: str) -> RunInfo:
        refused = self._refused_name(name)
        if refused is not None:
            return refused
        if not (self.runs_dir / name / DATABASE_NAME).exists():
            return self._unreadable_info(name, f"its database {DATABASE_NAME} is missing", _NO_DATABASE)
        try:
            with self._borrowed(name) as reader:
                return self._info(name, reader)
        except (StoreFormatError, ConfigError) as error:
            return self._unreadable_info(name, str(error), _LIST_REMEDY)

    def _refused_name(self, name: str) -> RunInfo | None:
        """What is said of a folder whose name no run may have; None for a good name."""
        try:
            if check_name(name) == name:
                return None
            reason = f"run name {printable_name(name)!r} is refused: its letters are written in another normal form"
        except LabError as error:
            reason = str(error)
        new = suggest_name(self.runs_dir, name)
        remedy = f"Its data are intact. Rename the folder: {new!r} is free."
        return self._unreadable_info(name, reason, remedy)

    def _unreadable_info(self, name: str, reason: str, remedy: str) -> RunInfo:
        created = 0.0
        with contextlib.suppress(OSError, ValueError):
            created = (self.runs_dir / name).stat().st_mtime
        return RunInfo(printable_name(name), RunState.UNREADABLE, created=created, message=reason, remedy=remedy)

    def _folders(self) -> list[str]:
        """Names of the folders that hold a run's database, or what is left of a run without one."""
        with os.scandir(self.runs_dir) as entries:
            # what begins with a dot is being made or deleted
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        return [name for name in names if is_run_folder(f"{self.runs_dir}/{name}")]

    def _cached_fact(self, name: str, kind: str, read: Any) -> Any:
        now = files_stamp(self.runs_dir / name, self._is_here(name))
        return self._facts.get(name, kind, now and (*now, self._failure(name)), read)

    def info(self, name: str) -> RunInfo:
        """State and newest figures of one run.

        Raises:
            LabError: when there is none or it cannot be read.
        """
        return self._info(name, self.reader(name))

    def hold(self, name: str) -> Hold:
        """Who has a run now: ask before its rows are read."""
        return Hold.of(self.folder(name), self._is_here(name), self._failure(name))

    def _info(self, name: str, reader: RunReader, hold: Hold | None = None) -> RunInfo:
        hold = hold or self.hold(name)
        found = self._described(name, reader)
        if isinstance(found, ExternalConfig):
            return external_info(self.folder(name), reader, found, hold)
        return run_info(self.folder(name), reader, found, hold)

    def _failure(self, name: str) -> Failure | None:
        """What ended the run's last worker in this process, whether or not it could be written; None when nothing."""
        del name
        return None

    def _is_here(self, name: str) -> bool:
        """Whether a worker of this process holds the run."""
        del name
        return False

    # one run

    def reader(self, name: str) -> RunReader:
        """The run's reader, shared by this process's threads.

        Raises:
            LabError: when there is no such run.
        """
        path = self.folder(name) / DATABASE_NAME
        with self._lock:
            known = self._readers.use(name)
            # by the file, not by the name: a run may be deleted and another take its name
            if known is not None and known.is_of(path):
                return known
            if known is not None:
                self._readers.pop(name).release()  # another run has taken its place
        try:
            reader = RunReader(path)  # outside of the lock: one that waits for a lock holds up nobody else
        except OSError as error:
            raise LabError(f"run {name!r} cannot be read: {sentence(error)}") from error
        with self._lock:
            if (other := self._readers.use(name)) is not None:  # opened by another thread meanwhile
                reader.close()
                return other
            self._readers.keep(name, reader)
        return reader

    @contextlib.contextmanager
    def _borrowed(self, name: str) -> Iterator[RunReader]:
        """A reader for a look at one of many runs: one that is open, or one that is closed again at once."""
        path = self.folder(name) / DATABASE_NAME
        with self._lock:
            reader = self._readers.get(name)
        if reader is not None and reader.is_of(path):
            yield reader
        else:
            # a list of a thousand runs must not hold a thousand files open, nor wait long for one that is locked
            with RunReader(path, LIST_PATIENCE) as reader:
                yield reader

    def close_readers(self) -> None:
        """Give all descriptors back."""
        with self._lock:
            readers = list(self._readers.values())
            self._readers.clear()
        for reader in readers:
            reader.close()

    def config(self, name: str) -> RunConfig:
        """The configuration that the run started with.

        Raises:
            LabError: when its file is missing or damaged, and for a run that another program wrote.

        Example:
            >>> lab.config("first").value("width")
            16
        """
        found = self.description(name)
        if isinstance(found, ExternalConfig):
            raise _no_trainer(name)
        return found

    def require_trainer(self, name: str) -> None:
        """Raise `LabError` for a run that another program wrote, of which this lab has no trainer. What else may be
        wrong with a run is not asked here.
        """
        try:
            found = self.description(name)
        except LabError:
            return
        if isinstance(found, ExternalConfig):
            raise _no_trainer(name)

    def description(self, name: str) -> RunConfig | ExternalConfig:
        """What a run says it is: the configuration that it started with, or what is known of one that another program
        wrote. Raises `LabError` when the file of a run of ours is missing or damaged.
        """
        return self._described(name)

    def _described(self, name: str, reader: RunReader | None = None) -> RunConfig | ExternalConfig:
        """Args:
        reader: of the run, where there is one open already.
        """
        try:
            return self._stored_description(name)
        except (LabError, _DamagedConfigError):
            folder = self.folder(name)
            kind = (reader or self.reader(name)).meta().get("kind")
            if kind in FAMILIES or checkpoint_folders(folder):
                raise
            return foreign_description(folder)

    def _stored_description(self, name: str) -> RunConfig | ExternalConfig:
        path = self.folder(name) / CONFIG_FILE
        try:
            with open(path, "rb", opener=plain_file) as file:
                data = file.read(LARGEST + 1)
            # By what it holds: many runs of a folder have the same one.
            key = hashlib.sha256(data).hexdigest()
            with self._lock:
                known = self._configs.use(key)
            if known is None:
                known = description_of(data, f"{name}/{CONFIG_FILE}")
                with self._lock:
                    self._configs.keep(key, known)
            return known
        except OSError as error:
            raise LabError(f"the configuration of run {name!r} cannot be read: {sentence(error)}") from error
        except (ConfigError, *BAD_DATA) as error:
            reason = str(error) or type(error).__name__
            raise _DamagedConfigError(f"the configuration of run {name!r} cannot be read: {reason}") from error

    def controls(self, name: str) -> dict[str, ControlState]:
        """The run's live controls: value now, initial value, number of changes, last step and author. Of a run that
        another program wrote, those that it has declared.

        Example:
            >>> state = lab.controls("first")["learning_rate"]
            >>> state.value, state.version
            (0.003, 0)
        """
        found = self.description(name)
        if isinstance(found, ExternalConfig):
            return external_controls(self.reader(name))
        return control_states(found, self.reader(name))

    def folder(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            LabError: for a bad name, or when there is no such run.
        """
        folder = self.runs_dir / check_name(name)
        if not (folder / DATABASE_NAME).is_file():
            if is_run_folder(folder):
                raise LabError(
                    f"run {name!r} has no database: put its {DATABASE_NAME} back from a copy, or delete the run"
                )
            known = sorted(path.parent.name for path in self.runs_dir.glob(f"*/{DATABASE_NAME}"))
            hint = f"; there are {', '.join(known[:8])}" if known else "; there are no runs yet"
            raise LabError(f"there is no run {name!r}{hint}")
        return folder

    def token_labels(self, name: str) -> list[str]:
        """Printable label of every token id; empty before the run has opened its data."""
        path = self.folder(name) / LABELS_FILE
        if not path.exists():
            return []
        try:
            labels = read_json(path, f"{name}/{LABELS_FILE}")
        except OSError as error:
            raise LabError(f"the token labels of run {name!r} cannot be read: {sentence(error)}") from error
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise LabError(f"{name}/{LABELS_FILE} is damaged: it must list texts; restore it from a copy")
        return [printable_name(label) for label in labels]

    def checkpoints(self, name: str) -> list[CheckpointInfo]:
        """The run's readable checkpoints, lowest step first.

        Example:
            >>> [checkpoint.step for checkpoint in lab.checkpoints("first")][:2]
            [5, 10]
        """
        found = []
        for folder in checkpoint_folders(self.folder(name)):
            with contextlib.suppress(CheckpointError, OSError):
                state = read_state(folder)
                size = sum(file.stat().st_size for file in folder.iterdir())
                found.append(CheckpointInfo(state.step, state.reason, state.created, size, folder))
        return found

    def stranded_steps(self, name: str) -> int:
        """Recorded steps of a run that has no checkpoint to be resumed from, which `resume` therefore refuses unless it
        is told to train them again; 0 where it can be resumed.
        """
        if isinstance(self._described(name), ExternalConfig):
            return 0
        return stranded_steps(self.folder(name), self.reader(name))

    def findings(self, name: str) -> list[FindingInfo]:
        """What the detectors found in a run, with what was said about it; active ones first."""
        if isinstance(self._described(name), ExternalConfig):
            found: list[FindingInfo] = self._cached_fact(name, "findings", lambda: self._findings_of(name))
            return found
        return _findings(self.reader(name))

    def all_findings(self) -> dict[str, list[FindingInfo]]:
        """Findings of every readable run, newest run first; runs without any are left out."""
        every = {}
        for info in self.runs():
            with contextlib.suppress(LabError, OSError):  # its own page says what is wrong with it
                every[info.name] = self._cached_fact(
                    info.name, "findings", lambda name=info.name: self._findings_of(name)
                )
        return {name: found for name, found in every.items() if found}

    def _findings_of(self, name: str) -> list[FindingInfo]:
        with self._borrowed(name) as reader:
            described = self._described(name, reader)
            return _findings(reader, described if isinstance(described, ExternalConfig) else None)

    # branches

    def lineage(self, name: str) -> Lineage | None:
        """Where a run comes from: parent, step, changes, author; None for one that comes from no other."""
        return read_lineage(self.reader(name))

    def lineage_of(self, name: str) -> Lineage | None:
        """The same, for a look at many runs."""

        def read() -> Lineage | None:
            with self._borrowed(name) as reader:
                return read_lineage(reader)

        found: Lineage | None = self._cached_fact(name, "lineage", read)
        return found

    def run_tree(self) -> list[RunNode]:
        """Every readable run with what was changed on the way to it, each below its parent, oldest first."""
        return run_tree(self)

    def history(self, name: str, names: Sequence[str], max_points: int | None = None) -> dict[str, Series]:
        """Series of a run with its parents' up to the forks before them, each at most `max_points` long.

        Example:
            >>> loss = lab.history("first", ["train/loss"])["train/loss"]
            >>> len(loss) >= 12
            True
        """
        return history(self, name, names, max_points)


def _no_trainer(name: str) -> LabError:
    return LabError(f"run {name!r} is no run of this lab's own: {NO_TRAINER}")


class _DamagedConfigError(StoreFormatError):
    """The configuration's file does not hold what a run's does."""


def _findings(reader: RunReader, external: ExternalConfig | None = None) -> list[FindingInfo]:
    """Args:
    external: of a run that another program wrote, whose curves are judged where it has no findings of its own.
    """
    with reader.moment():
        found = reader.findings()
        if not found and external is not None:
            found = judged_findings(reader, external)
        return finding_infos(found, reader.commands()) if found else []
