"""The façade that pages, CLI and tests share: list, start, attach, command, read, sample, export, close.

A `Lab` owns the workers that this process started and read-only readers of every run in its folder, whoever trains it.
Torch is imported when a run starts or a checkpoint is sampled, not before: finished runs open without it.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from qcore.config import (
    Acknowledge,
    ClipSamplingConfig,
    Command,
    ConfigError,
    Continue,
    Mute,
    Pause,
    RunConfig,
    Sample,
    SaveCheckpoint,
    Section,
    SetControl,
    Step,
    Stop,
    check_live,
    nearest_hint,
    to_row,
)
from qcore.lab.errors import LabError
from qcore.lab.findings import FindingInfo, finding_infos
from qcore.lab.names import check_name, fresh_name
from qcore.lab.runs import CheckpointInfo, ControlState, RunInfo, control_states, run_info
from qcore.store import DATABASE_NAME, Generation, Inbox, RunReader, RunWriter, StoreFormatError
from qcore.store import Command as CommandRow
from qcore.train.files import CONFIG_FILE, LABELS_FILE, is_held, read_config
from qcore.train.folders import CheckpointError, checkpoint_folders, folder_name, read_state
from qcore.train.slots import Slots

if TYPE_CHECKING:
    from qcore.train.worker import Worker

POLL_SECONDS = 0.02
CLOSE_SECONDS = 30.0
_NEEDS_WORKER = (Pause, Continue, Step, Stop, SaveCheckpoint, Sample)


class Lab:
    """All runs under `runs_dir`. `training` runs of this process train at a time; the others queue."""

    def __init__(self, runs_dir: Path | str, *, training: int = 1) -> None:
        self.runs_dir = Path(runs_dir).resolve()
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        self._slots = Slots(training)
        self._lock = threading.RLock()
        self._workers: dict[str, Worker] = {}
        self._readers: dict[str, RunReader] = {}
        self._configs: dict[str, tuple[tuple[Path, int], RunConfig]] = {}
        self._sampler: tuple[Path, float, Any] | None = None
        self._sampler_lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # runs

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
        here = name in self._workers and self._workers[name].holds
        return run_info(self._folder(name), self.reader(name), self.config(name), here=here)

    def start(self, config: RunConfig, *, name: str | None = None, preset: str = "", author: str = "person") -> str:
        """Create a run and train it in a background thread; return its name.

        It queues when `training` runs of this process train already. Raises `LabError` for a bad or taken name.
        """
        chosen = fresh_name(self.runs_dir, preset or config.kind) if name is None else check_name(name)
        folder = self.runs_dir / chosen
        try:
            folder.mkdir()
        except FileExistsError:
            raise LabError(f"run name {chosen!r} is taken: choose another, or resume that run") from None
        (folder / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")
        worker = self._hold(chosen, author)  # before the database makes a run of the folder
        with RunWriter(folder / DATABASE_NAME) as writer:
            writer.set_meta("preset", preset)
            writer.set_meta("kind", config.kind)
        worker.start()
        return chosen

    def resume(
        self, name: str, *, steps: int | None = None, changes: dict[str, Any] | None = None, author: str = "person"
    ) -> None:
        """Go on from the newest good checkpoint, to `steps` steps when given, with `changes` of live controls.

        Raises `LabError` while a worker holds the run, or for a finished run that has no steps left; `ConfigError` for
        a change that cannot be. Nothing is changed then.
        """
        info = self.info(name)
        if info.alive:
            raise LabError(f"run {name!r} is {info.state}: there is nothing to resume")
        wanted = [SetControl(key, value).checked() for key, value in (changes or {}).items()]
        for change in wanted:
            check_live(change.name, change.value, info.kind)
        if steps is not None:
            wanted.append(SetControl("steps", steps).checked())
        goals = [change.value for change in wanted if change.name == "steps"]
        goal = goals[-1] if goals else self.controls(name)["steps"].value
        if goal <= info.step and info.state == "finished":
            raise LabError(f"run {name!r} has finished its {info.step} steps: resume it with steps={info.step + 100}")
        worker = self._hold(name, author)
        for change in wanted:
            self._submit(name, change, author, None)
        worker.start()

    def delete(self, name: str) -> None:
        """Delete a run's folder for good. Raises `LabError` while a worker holds it."""
        folder = self._folder(name)
        if is_held(folder):
            raise LabError(f"run {name!r} is training: stop it before deleting it")
        with self._lock:
            self._workers.pop(name, None)
            if reader := self._readers.pop(name, None):
                reader.close()
        shutil.rmtree(folder)

    def wait(self, name: str, timeout: float | None = None) -> RunInfo:
        """Wait for the end of the run's worker in this process, at most `timeout` seconds, and return the run's
        state.
        """
        with self._lock:
            worker = self._workers.get(name)
        if worker is not None:
            worker.join(timeout)
        return self.info(name)

    # commands

    def command(
        self, name: str, command: Command, *, author: str = "person", idempotency_key: str | None = None
    ) -> int:
        """Ask for a change; returns the command's id, whose fate `outcome` tells.

        A control change may also be left for a run that is not training: it is applied when the run resumes. Raises
        `ConfigError` for a value that can't be right, `LabError` for a command that needs a living worker.
        """
        if isinstance(command, _NEEDS_WORKER) and not is_held(self._folder(name)):
            raise LabError(f"run {name!r} is not training, so it cannot {command.kind}: resume it first")
        if isinstance(command, SetControl):
            checked = command.checked()
            check_live(checked.name, checked.value, self.config(name).kind)
        return self._submit(name, command, author, idempotency_key)

    def outcome(self, name: str, command_id: int, timeout: float = 0.0) -> CommandRow:
        """The command's row, after at most `timeout` seconds of waiting for it to be applied or refused."""
        reader, deadline = self.reader(name), time.monotonic() + timeout
        while True:
            row = reader.command(command_id)
            if row is None:
                raise LabError(f"run {name!r} has no command {command_id}")
            if row.status != "pending" or time.monotonic() >= deadline:
                return row
            time.sleep(POLL_SECONDS / 4)

    # findings

    def findings(self, name: str) -> list[FindingInfo]:
        """What the detectors found in a run, with what was said about it; active ones first."""
        reader = self.reader(name)
        found = reader.findings()
        return finding_infos(found, reader.commands()) if found else []

    def all_findings(self) -> dict[str, list[FindingInfo]]:
        """Findings of every readable run, newest run first; runs without any are left out."""
        every = {info.name: self.findings(info.name) for info in self.runs() if info.state != "unreadable"}
        return {name: found for name, found in every.items() if found}

    def acknowledge(self, name: str, finding_id: str, *, author: str = "person") -> int:
        """Note that a person has seen a finding, of a living run or a finished one; returns the command's id."""
        return self._about_finding(name, Acknowledge(finding_id), author)

    def mute(self, name: str, finding_id: str, muted: bool = True, *, author: str = "person") -> int:
        """Hide a finding, or show it again; returns the command's id."""
        return self._about_finding(name, Mute(finding_id, muted), author)

    def _about_finding(self, name: str, command: Acknowledge | Mute, author: str) -> int:
        known = [finding.id for finding in self.reader(name).findings()]
        if command.finding not in known:
            raise LabError(f"run {name!r} has no finding {command.finding!r}{nearest_hint(command.finding, known)}")
        return self.command(name, command, author=author)

    # reading

    def reader(self, name: str) -> RunReader:
        """The run's reader, shared by this process's threads. Raises `LabError` when there is no such run."""
        folder = self._folder(name)
        with self._lock:
            if name not in self._readers:
                try:
                    self._readers[name] = RunReader(folder / DATABASE_NAME)
                except (StoreFormatError, OSError) as error:
                    raise LabError(f"run {name!r} cannot be read: {error}") from error
            return self._readers[name]

    def config(self, name: str) -> RunConfig:
        """The configuration that the run started with. Raises `LabError` when its file is missing or damaged."""
        path = self._folder(name) / CONFIG_FILE
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

    def token_labels(self, name: str) -> list[str]:
        """Printable label of every token id; empty before the run has opened its data."""
        path = self._folder(name) / LABELS_FILE
        if not path.exists():
            return []
        labels: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return labels

    def checkpoints(self, name: str) -> list[CheckpointInfo]:
        """The run's readable checkpoints, lowest step first."""
        found = []
        for folder in checkpoint_folders(self._folder(name)):
            with contextlib.suppress(CheckpointError, OSError):
                state = read_state(folder)
                size = sum(file.stat().st_size for file in folder.iterdir())
                found.append(CheckpointInfo(state.step, state.reason, state.created, size, folder))
        return found

    def export_csv(self, name: str, file: TextIO) -> int:
        """Write every scalar series as CSV, a row a step and a column a series; return the number of rows."""
        reader = self.reader(name)
        names = reader.names()
        rows: dict[int, dict[str, float]] = {}
        for series_name, series in reader.scalars_of(names).items():
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                rows.setdefault(step, {})[series_name] = value
        writer = csv.writer(file)
        writer.writerow(["step", *names])
        for step in sorted(rows):
            writer.writerow([step, *(rows[step].get(series_name, "") for series_name in names)])
        return len(rows)

    # sampling

    def sample(
        self, name: str, prompt: str, settings: Section, *, checkpoint: int | None = None, author: str = "person"
    ) -> Iterator[Generation]:
        """Continue `prompt`, yielding the generation as it grows; the last one is done or failed.

        Without `checkpoint` the live or paused model speaks between two steps, or, when no worker holds the run, its
        newest checkpoint. Raises `LabError` when there is neither, `CheckpointError` for a damaged checkpoint.
        """
        if checkpoint is None and is_held(self._folder(name)):
            yield from self._sample_live(name, prompt, settings, author)
        else:
            yield from self._sample_checkpoint(name, prompt, settings, checkpoint)

    def sample_clips(
        self, name: str, settings: ClipSamplingConfig, *, checkpoint: int | None = None, author: str = "person"
    ) -> Iterator[Generation]:
        """Draw clips of a video run, as `sample` does text; they appear in pieces."""
        yield from self.sample(name, f"seed {settings.sample_seed}", settings, checkpoint=checkpoint, author=author)

    def _sample_live(self, name: str, prompt: str, settings: Section, author: str) -> Iterator[Generation]:
        generation_id = uuid.uuid4().hex
        row_id = self.command(name, Sample(generation_id, prompt, settings.model_dump()), author=author)
        reader, shown = self.reader(name), -1
        while True:
            generation = reader.generation(generation_id)
            if generation is not None and (len(generation.tokens) != shown or generation.status != "running"):
                shown = len(generation.tokens)
                yield generation
                if generation.status != "running":
                    return
            row = self.outcome(name, row_id)
            if row.status == "refused":
                raise LabError(f"the sample was refused: {row.message}")
            if not is_held(self._folder(name)) and (generation is None or generation.status == "running"):
                raise LabError(f"run {name!r} ended before the sample was finished: sample a checkpoint instead")
            time.sleep(POLL_SECONDS)

    def _sample_checkpoint(self, name: str, prompt: str, settings: Section, step: int | None) -> Iterator[Generation]:
        from qcore.train.workload import load_speaker

        available = [info.step for info in self.checkpoints(name)]
        if not available:
            raise LabError(f"run {name!r} has no checkpoint yet: let it train, or save one")
        chosen = available[-1] if step is None else step
        if chosen not in available:
            raise LabError(
                f"run {name!r} has no checkpoint of step {chosen}; there are {', '.join(map(str, available))}"
            )
        run_dir = self._folder(name)
        folder = run_dir / folder_name(chosen)
        draft = Generation(
            id=uuid.uuid4().hex,
            step=chosen,
            wall=time.time(),
            kind="prompt",
            prompt=prompt,
            settings={**settings.model_dump(), "source": "checkpoint", "step": chosen},
        )
        with self._sampler_lock:
            key = (folder, read_state(folder).created)
            if self._sampler is None or self._sampler[:2] != key:
                self._sampler = (*key, load_speaker(self.config(name), run_dir, folder))
            speaker, controls = self._sampler[2]
            grown = draft
            for grown in speaker.speak(draft, settings, controls):
                yield grown
        with Inbox(run_dir / DATABASE_NAME) as inbox:
            inbox.put_generation(grown)

    # lifetime

    def close(self) -> None:
        """Stop every worker of this process, wait for their checkpoints, close the readers. A second call does
        nothing.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join(CLOSE_SECONDS)
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    # inside

    def _folder(self, name: str) -> Path:
        folder = self.runs_dir / check_name(name)
        if not (folder / DATABASE_NAME).is_file():
            known = sorted(path.parent.name for path in self.runs_dir.glob(f"*/{DATABASE_NAME}"))
            hint = f"; there are {', '.join(known[:8])}" if known else "; there are no runs yet"
            raise LabError(f"there is no run {name!r}{hint}")
        return folder

    def _submit(self, name: str, command: Command, author: str, key: str | None) -> int:
        kind, payload = to_row(command)
        with Inbox(self._folder(name) / DATABASE_NAME) as inbox:
            command_id = inbox.submit(kind, payload, author, key)
        with self._lock:
            worker = self._workers.get(name)
        if worker is not None:
            worker.nudge()
        return command_id

    def _hold(self, name: str, author: str) -> Worker:
        from qcore.train.worker import Worker

        with self._lock:
            if self._closed:
                raise LabError("this lab is closed: open a new one")
            worker = Worker(self.runs_dir / name, self._slots, author)
            if not worker.hold():
                raise LabError(f"run {name!r} is held by a worker already")
            self._workers[name] = worker
            return worker


_shared: dict[Path, Lab] = {}
_shared_lock = threading.Lock()


def shared_lab(runs_dir: Path | str) -> Lab:
    """The one lab of this process for a runs folder, created under a lock and closed when the process exits."""
    key = Path(runs_dir).resolve()
    with _shared_lock:
        if key not in _shared:
            _shared[key] = Lab(key)
            atexit.register(_shared[key].close)
        return _shared[key]
