"""The half of the façade that only reads: runs, their states and series, findings, the run tree, what was measured.

Torch is never imported here, and nothing is written: finished runs open in a moment, live ones are not disturbed.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from qcore.config import ConfigError, RunConfig
from qcore.lab.errors import LabError
from qcore.lab.findings import FindingInfo, finding_infos
from qcore.lab.lineage import Lineage, RunNode, history, read_lineage, run_tree
from qcore.lab.names import check_name
from qcore.lab.runs import CheckpointInfo, ControlState, RunInfo, control_states, run_info
from qcore.store import DATABASE_NAME, RunReader, Series, StoreFormatError
from qcore.store.tables import series_table, write_csv
from qcore.train.files import CONFIG_FILE, LABELS_FILE, read_config
from qcore.train.folders import CheckpointError, checkpoint_folders, read_state
from qcore.train.lastwords import Failure

if TYPE_CHECKING:
    from qcore.lab.effects import Effect, Sweep


class Reading:
    """All runs under `runs_dir`, to be looked at."""

    def __init__(self, runs_dir: Path | str) -> None:
        self.runs_dir = Path(runs_dir).resolve()
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._readers: dict[str, RunReader] = {}
        self._configs: dict[str, tuple[tuple[Path, int], RunConfig]] = {}

    def runs(self) -> list[RunInfo]:
        """Every run in the folder, newest first; a folder that cannot be read has the state `unreadable`."""
        infos = []
        for folder in self.runs_dir.iterdir():
            if (folder / DATABASE_NAME).is_file() and not folder.name.startswith("."):
                try:
                    infos.append(self.info(folder.name))
                except (LabError, OSError) as error:
                    created = folder.stat().st_mtime
                    infos.append(RunInfo(folder.name, "unreadable", created=created, message=str(error)))
        return sorted(infos, key=lambda info: (-info.created, info.name))

    def info(self, name: str) -> RunInfo:
        """State and newest figures of one run. Raises `LabError` when there is none or it cannot be read."""
        here, failure = self._is_here(name), self._failure(name)
        return run_info(self.folder(name), self.reader(name), self.config(name), here=here, failure=failure)

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
        """The run's reader, shared by this process's threads. Raises `LabError` when there is no such run."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._readers:
                try:
                    self._readers[name] = RunReader(folder / DATABASE_NAME)
                except (StoreFormatError, OSError) as error:
                    raise LabError(f"run {name!r} cannot be read: {error}") from error
            return self._readers[name]

    def config(self, name: str) -> RunConfig:
        """The configuration that the run started with. Raises `LabError` when its file is missing or damaged."""
        path = self.folder(name) / CONFIG_FILE
        try:
            stamp = (path, path.stat().st_mtime_ns)
            if self._configs.get(name, (None, None))[0] != stamp:
                self._configs[name] = (stamp, read_config(path.parent))
        except (ConfigError, OSError) as error:
            raise LabError(f"the configuration of run {name!r} cannot be read: {error}") from error
        return self._configs[name][1]

    def controls(self, name: str) -> dict[str, ControlState]:
        """The run's live controls: value now, initial value, number of changes, last step and author."""
        return control_states(self.config(name), self.reader(name))

    def folder(self, name: str) -> Path:
        """The folder of a run. Raises `LabError` for a bad name, or when there is no such run."""
        folder = self.runs_dir / check_name(name)
        if not (folder / DATABASE_NAME).is_file():
            known = sorted(path.parent.name for path in self.runs_dir.glob(f"*/{DATABASE_NAME}"))
            hint = f"; there are {', '.join(known[:8])}" if known else "; there are no runs yet"
            raise LabError(f"there is no run {name!r}{hint}")
        return folder

    def token_labels(self, name: str) -> list[str]:
        """Printable label of every token id; empty before the run has opened its data."""
        path = self.folder(name) / LABELS_FILE
        if not path.exists():
            return []
        labels: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return labels

    def checkpoints(self, name: str) -> list[CheckpointInfo]:
        """The run's readable checkpoints, lowest step first."""
        found = []
        for folder in checkpoint_folders(self.folder(name)):
            with contextlib.suppress(CheckpointError, OSError):
                state = read_state(folder)
                size = sum(file.stat().st_size for file in folder.iterdir())
                found.append(CheckpointInfo(state.step, state.reason, state.created, size, folder))
        return found

    def export_csv(self, name: str, file: TextIO) -> int:
        """Write every scalar series as CSV, a row a step and a column a series; return the number of rows."""
        return write_csv(series_table(self.reader(name)), file)

    def findings(self, name: str) -> list[FindingInfo]:
        """What the detectors found in a run, with what was said about it; active ones first."""
        reader = self.reader(name)
        found = reader.findings()
        return finding_infos(found, reader.commands()) if found else []

    def all_findings(self) -> dict[str, list[FindingInfo]]:
        """Findings of every readable run, newest run first; runs without any are left out."""
        every = {info.name: self.findings(info.name) for info in self.runs() if info.state != "unreadable"}
        return {name: found for name, found in every.items() if found}

    # branches

    def lineage(self, name: str) -> Lineage | None:
        """Where a run comes from: parent, step, changes, author; None for one that comes from no other."""
        return read_lineage(self.reader(name))

    def run_tree(self) -> list[RunNode]:
        """Every readable run with what was changed on the way to it, each below its parent, oldest first."""
        return run_tree(self)

    def history(self, name: str, names: Sequence[str], max_points: int | None = None) -> dict[str, Series]:
        """Series of a run with its parents' up to the forks before them, each at most `max_points` long."""
        return history(self, name, names, max_points)

    def effects(self, name: str | None = None) -> list[Effect]:
        """Effects measured before, of one run or all, newest first."""
        from qcore.lab.effects import effects  # whose processes open labs of their own

        return effects(self, name)

    def sweeps(self, name: str | None = None) -> list[Sweep]:
        """Sweeps made before, of one run or all, newest first."""
        from qcore.lab.effects import sweeps

        return sweeps(self, name)
