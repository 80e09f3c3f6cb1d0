"""Runs that train in threads of this process: start, resume, command, wait, stop, delete; every run can be read.

`Workers` owns the workers that this process started and read-only readers of every run in its folder, whoever trains
it. Torch is imported when a run starts, not before: finished runs open without it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qcore.base.run_states import RunState
from qcore.config import (
    EXTERNAL,
    Acknowledge,
    Command,
    Continue,
    Grow,
    Mute,
    Pause,
    Restore,
    RunConfig,
    Sample,
    SaveCheckpoint,
    SetControl,
    Step,
    Stop,
    check_root,
    nearest_hint,
    row_of,
)
from qcore.lab.inputs import check_inputs
from qcore.runs.building import STARTING, TakenError, building, is_run_folder, keep_workers_off, remove, sweep
from qcore.runs.checkpoint_folders import newest_state
from qcore.runs.errors import LabError, lab_errors, with_run_errors
from qcore.runs.failures import folder_gone_error
from qcore.runs.info import Hold, RunInfo
from qcore.runs.last_words import Failure
from qcore.runs.layout import CONFIG_FILE, RunLock, config_text, is_held, write_text
from qcore.runs.names import check_name, fresh_name
from qcore.runs.reader_set import RunReaderSet
from qcore.runs.replay_plan import ReplayPlan
from qcore.runs.slots import Slots
from qcore.store import DATABASE_NAME, Inbox, RunReader, RunWriter
from qcore.store import Command as CommandRow

if TYPE_CHECKING:
    from qcore.train.worker import Worker

POLL_SECONDS = 0.02
CLOSE_SECONDS = 30.0
_NEEDS_WORKER = (Pause, Continue, Step, Stop, SaveCheckpoint, Sample, Grow, Restore)


class Workers(RunReaderSet):
    """All runs under `runs_dir`. `training` runs of this process train at a time; the others queue."""

    def __init__(self, runs_dir: Path | str, *, training: int = 1) -> None:
        super().__init__(runs_dir)
        self._slots = Slots(training)
        self._workers: dict[str, Worker] = {}
        self._closed = False
        self._closing = threading.Lock()
        sweep(self.runs_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def require_operator(self) -> None:
        """Called by whatever changes something beside the runs themselves; the lab of a viewer refuses it."""

    # runs

    def info(self, name: str) -> RunInfo:
        """As of every reader; of a run of this process also that its folder went while it trained."""
        try:
            return super().info(name)
        except LabError:
            if (gone := self._info_of_gone_run(name)) is None:
                raise
            return gone

    def _info(self, name: str, reader: RunReader, hold: Hold | None = None) -> RunInfo:
        info = super()._info(name, reader, hold)
        if not (info.here and info.state == RunState.QUEUED):
            return info
        waits_for, place = self._slots.waiting(name)
        return replace(info, waits_for=waits_for, place=place)

    def start(self, config: RunConfig, *, name: str | None = None, preset: str = "", author: str = "person") -> str:
        """Create a run and train it in a background thread; return its name.

        It queues when `training` runs of this process train already. Paths are kept in full.

        Raises:
            LabError: for a bad or taken name.
            ConfigError: for data that is not there.

        Example:
            >>> name = lab.start(lab.config("first").with_values({"seed": 1}), name="second")
            >>> str(lab.wait(name).state)
            'finished'
        """
        # paths in full: a run may be resumed from another folder than it was started in
        config = check_inputs(config)
        # a name that is made up may be taken by another process between the choice and the move: then the next one
        while True:
            chosen = fresh_name(self.runs_dir, preset or config.kind) if name is None else check_name(name)
            try:
                self._start(chosen, config, preset, author)
            except TakenError as error:
                if name is not None:
                    raise TakenError(chosen, "choose another, or resume that run") from error
            else:
                return chosen

    def _start(self, name: str, config: RunConfig, preset: str, author: str) -> None:
        if (self.runs_dir / name / DATABASE_NAME).exists():  # before the work, not after it
            raise TakenError(name)
        with lab_errors("the run cannot be started"), building(self.runs_dir, STARTING) as site:
            write_text(site.path / CONFIG_FILE, config_text(config))
            with RunWriter(site.path / DATABASE_NAME) as writer:
                writer.set_meta("preset", preset)
                writer.set_meta("kind", config.kind)
            site.move_in(self.runs_dir / name)
            self._forget(name)  # of another run, which had this name until somebody deleted it
            with self._hold_worker(name, author, lock=site.lock) as worker:
                worker.start()
            site.lock = None  # the worker's from here on
            site.keep()

    @with_run_errors
    def resume(
        self,
        name: str,
        *,
        steps: int | None = None,
        changes: dict[str, Any] | None = None,
        until: int | None = None,
        from_start: bool = False,
        author: str = "person",
    ) -> None:
        """Go on from the newest good checkpoint, to `steps` steps when given, with `changes` of live controls.

        Args:
            until: stop with a checkpoint after this step, as if told to; the learning rate's plan stays as it is.
            from_start: of a run that has recorded steps and no checkpoint: erase them, and train it from its first
                step.

        Raises:
            LabError: while a worker holds the run, for a finished run that has no steps left, for recorded steps
                without a checkpoint, and for `from_start` with one; nothing is changed then.
            ConfigError: for a change that cannot be.

        Example:
            >>> lab.resume("first", steps=lab.info("first").step + 1)
            >>> str(lab.wait("first").state)
            'finished'
        """
        self.require_trainer(name)
        info = self.info(name)
        if info.alive:
            raise LabError(f"run {name!r} is {info.state}: there is nothing to resume")
        self._check_way_on(name, from_start)
        check_root(self.config(name))
        # all checked before one is written: half of the changes would be a third configuration that nobody asked for
        wanted = [self._change(name, SetControl(key, value)) for key, value in (changes or {}).items()]
        if steps is not None:
            wanted.append(self._change(name, SetControl("steps", steps)))
        # the last word counts: `steps` may be among the changes as well
        goals = [change.value for change in wanted if change.name == "steps"]
        goal = goals[-1] if goals else self.controls(name)["steps"].value
        if goal <= info.step and info.state == RunState.FINISHED:
            raise LabError(f"run {name!r} has finished its {info.step} steps: resume it with steps={info.step + 100}")
        with self._hold_worker(name, author, ReplayPlan(until)) as worker:
            if not wanted:
                worker.start()
                return
            with Inbox(self.folder(name) / DATABASE_NAME) as inbox:
                # waiting in the run before its worker starts, so that they are made before the first step
                asked = inbox.submit_all([row_of(change) for change in wanted], author)
                try:
                    worker.start()
                except BaseException:  # else the next resume would make them, which nobody has asked for
                    inbox.withdraw(asked)
                    raise

    def _check_way_on(self, name: str, from_start: bool) -> None:
        """Raise `LabError` where resuming a run would erase what nobody said may be erased."""
        if not from_start and (lost := self.stranded_steps(name)):
            raise LabError(
                f"run {name!r} has recorded {lost} steps and has no checkpoint that can be read: start a new run of "
                "its configuration, or say --from-start (from_start), which erases these steps and trains them again"
            )
        if from_start and (saved := newest_state(self.folder(name))) is not None:
            raise LabError(
                f"run {name!r} has a checkpoint of step {saved.step}: it is resumed from there, so leave out from_start"
            )

    @with_run_errors
    def delete(self, name: str) -> None:
        """Delete a run's folder for good.

        Raises:
            LabError: while a worker holds it, or another program writes it.
        """
        folder = self.runs_dir / check_name(name)
        if not (is_run_folder(folder) and folder.is_dir()):
            folder = self.folder(name)  # says that there is none
        found = self.listed(name)
        if found.kind == EXTERNAL and found.alive:
            raise LabError(f"run {name!r} is being written by another program: end that before deleting it")
        with keep_workers_off(folder, f"run {name!r} is training: stop it before deleting it"):
            self._forget(name)
            remove(folder)

    def trains(self, name: str) -> bool:
        """Whether a worker of this process has the run; known without a look at its folder."""
        with self._lock:
            return self._is_here(name)

    def stop(self, name: str) -> bool:
        """Ask the run's worker of this process for a checkpoint and an end, whatever its database does; False when
        there is no such worker. `command(name, Stop())` reaches any process.
        """
        with self._lock:
            worker = self._workers.get(name)
        if worker is None or not worker.holds:
            return False
        # not through the database: it may be full, locked or gone, which is when a run must be stopped
        worker.stop()
        return True

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

    @with_run_errors
    def command(
        self, name: str, command: Command, *, author: str = "person", idempotency_key: str | None = None
    ) -> int:
        """Ask for a change; returns the command's id, whose fate `outcome` tells.

        A control change may also be left for a run that is not training: it is applied when the run resumes.

        Raises:
            ConfigError: for a value that can't be right.
            LabError: for a command that needs a living worker.
        """
        if not isinstance(command, Acknowledge | Mute):
            self.require_trainer(name)
        if isinstance(command, _NEEDS_WORKER) and not is_held(self.folder(name)):
            raise LabError(f"run {name!r} is not training, so it cannot {command.kind}: resume it first")
        # Refused here, with the remedy: the worker would refuse it too, but half a second later and in the log.
        # A change is held against the run's own model, any other command against its kind.
        checked = self._change(name, command) if isinstance(command, SetControl) else command.checked()
        return self._submit(name, checked, author, idempotency_key)

    def _change(self, name: str, change: SetControl) -> SetControl:
        """The change as this run's model takes it.

        Raises:
            ConfigError: when it is refused.
        """
        return SetControl(*self.config(name).check_change(change.name, change.value))

    @with_run_errors
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

    def acknowledge(self, name: str, finding_id: str, *, author: str = "person") -> int:
        """Note that a person has seen a finding, of a living run or a finished one; returns the command's id."""
        return self._submit_about_finding(name, Acknowledge(finding_id), author)

    def mute(self, name: str, finding_id: str, muted: bool = True, *, author: str = "person") -> int:
        """Hide a finding, or show it again; returns the command's id."""
        return self._submit_about_finding(name, Mute(finding_id, muted), author)

    @with_run_errors
    def _submit_about_finding(self, name: str, command: Acknowledge | Mute, author: str) -> int:
        known = [finding.id for finding in self.findings(name)]
        if command.finding not in known:
            raise LabError(f"run {name!r} has no finding {command.finding!r}{nearest_hint(command.finding, known)}")
        return self.command(name, command, author=author)

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Keep every worker off a run for a while.

        Raises:
            LabError: while one holds it.
        """
        with keep_workers_off(self.folder(name), f"run {name!r} is held by a worker: stop it first"):
            yield

    # lifetime

    def close(self) -> None:
        """Stop every worker of this process, wait for their checkpoints, close the readers. A second call waits for the
        first.
        """
        with self._closing:
            with self._lock:
                self._closed = True
                workers, self._workers = list(self._workers.values()), {}
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.join(CLOSE_SECONDS)
            self.close_readers()

    # inside

    def _is_here(self, name: str) -> bool:
        worker = self._workers.get(name)  # one look: another thread may delete the run meanwhile
        return worker is not None and worker.holds

    def _failure(self, name: str) -> Failure | None:
        worker = self._workers.get(name)
        return worker.ending.failure if worker is not None else None

    def _submit(self, name: str, command: Command, author: str, key: str | None) -> int:
        kind, payload = row_of(command)
        with Inbox(self.folder(name) / DATABASE_NAME) as inbox:
            command_id = inbox.submit(kind, payload, author, key)
        with self._lock:
            worker = self._workers.get(name)
        if worker is not None:
            worker.nudge()
        return command_id

    def _info_of_gone_run(self, name: str) -> RunInfo | None:
        """What is known of a run of this process whose folder went while it trained; None for any other."""
        worker = self._workers.get(name)
        if worker is None or (worker.run_dir / DATABASE_NAME).exists():
            return None
        if worker.holds:
            return RunInfo(
                name, RunState.RUNNING, message=str(folder_gone_error(worker.run_dir)), alive=True, here=True
            )
        failure = worker.ending.failure
        if failure is None or failure.cause != "folder gone":
            return None
        return RunInfo(
            name, RunState.FAILED, failure.step, failure.total_steps, message=failure.message, cause=failure.cause
        )

    def _forget(self, name: str) -> None:
        with self._lock:
            self._workers.pop(name, None)
            if reader := self._readers.pop(name, None):
                reader.close()

    @contextlib.contextmanager
    def _hold_worker(
        self, name: str, author: str, orders: ReplayPlan | None = None, lock: RunLock | None = None
    ) -> Iterator[Worker]:
        """A worker that holds the run, to be started; whatever goes wrong before that gives the run back.

        Args:
            lock: the run's, when it is held already; it stays the caller's until the worker has been started.
        """
        from qcore.train.worker import Worker

        worker = Worker(self.runs_dir / name, self._slots, author, orders, lock)
        # Outside of the lab's own lock, which everybody else needs: a share may take its time to answer.
        if lock is None and not worker.hold():
            raise LabError(f"run {name!r} is held by a worker already")
        before: Worker | None = None
        try:
            with self._lock:
                if self._closed:
                    raise LabError("this lab is closed: open a new one")
                before = self._workers.get(name)
                self._workers[name] = worker
            yield worker
        except BaseException:
            with self._lock:
                if self._workers.get(name) is worker:
                    if before is None:
                        self._workers.pop(name)
                    else:
                        self._workers[name] = before
            worker.let_go()
            raise
