"""Forks and rewinds: a run that goes on from a step of another, and a run that goes back, its branch kept.

A child is an ordinary run folder: the parent's checkpoint (linked), its events up to the fork, and the changes as
events at the step of the fork, so that the worker makes them where the parent was. Between two checkpoints the worker
goes to the step first, with the parent's configuration and events: exact, because a run is nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore.base.run_states import RunState
from qcore.config import ConfigError, RunConfig, SaveCheckpoint, Stop, check_live, find_control
from qcore.lab.inputs import check_inputs
from qcore.probes import catalog
from qcore.runs.building import FORKING, TakenError, building
from qcore.runs.checkpoint_folders import (
    FORK,
    CheckpointError,
    CheckpointState,
    checkpoint_folders,
    file_mode,
    folder_name,
    link_folder,
    read_state,
    recover_interrupted,
    set_aside,
)
from qcore.runs.control_changes import changes_that_hold
from qcore.runs.errors import LabError
from qcore.runs.info import IMPORTED
from qcore.runs.last_words import RESERVE_FILE, WORDS_FILE
from qcore.runs.layout import (
    CATCH_UP,
    CONFIG_FILE,
    LABELS_FILE,
    LOCK_FILE,
    ORIGIN_FILE,
    TOKENIZER_FILE,
    config_text,
    is_held,
    write_text,
)
from qcore.runs.lineage import LINEAGE, Lineage, lineage_values, read_lineage
from qcore.runs.names import MAX_BYTES, check_name
from qcore.runs.replay_plan import UNSIZED, changes_of
from qcore.store import DATABASE_NAME, OWN_META, Event, Inbox, RunReader, RunWriter, Status, copy_database

if TYPE_CHECKING:
    from qcore.lab.workers import Workers

ANSWER_SECONDS = 60.0
SCHEDULE = "schedule"
_NEVER = ("seed", "kind")
_SHOWN = {catalog.TRAIN_LOSS: "loss", catalog.EVAL_CE: "eval_ce", catalog.EVAL_FLOW: "eval_flow"}


@dataclass(frozen=True)
class Origin:
    """A state of a run.

    Attributes:
        step: updates behind it.
        folder: the checkpoint to go on from, None: the first step.
        changes: events up to it.
    """

    step: int
    folder: Path | None
    changes: list[Event]

    @property
    def saved_step(self) -> int:
        """Step of the checkpoint."""
        return read_state(self.folder).step if self.folder else 0

    @property
    def put_back(self) -> list[int]:
        """Steps of older checkpoints whose weights are put back by a change that the checkpoint does not hold yet."""
        if self.folder is None:
            return []
        state = read_state(self.folder)
        ahead = [event for event in self.changes if event.kind == "restore" and event.seq > state.event_seq]
        return sorted({event.payload["from_step"] for event in ahead if event.payload["from_step"] < state.step})


@dataclass(frozen=True)
class ForkChanges:
    """What a fork changes, by what it takes.

    Attributes:
        live: controls.
        config: fixed values.
        sizes: of the model.
    """

    live: dict[str, Any]
    config: dict[str, Any]
    sizes: dict[str, Any]


def fork(
    lab: Workers,
    name: str,
    *,
    step: int | None = None,
    changes: Mapping[str, Any] | None = None,
    config_changes: Mapping[str, Any] | None = None,
    new_name: str | None = None,
    author: str = "person",
    reason: str = "",
    start: bool = True,
    until: int | None = None,
) -> str:
    """See `Lab.fork`."""
    config = lab.config(name)
    split = split_changes(config, {**(config_changes or {}), **(changes or {})})
    if not _changes_data(config, split.config):  # else they have been looked at
        check_inputs(config.with_values(split.config))
    if step is None and is_held(lab.folder(name)):
        _save_now(lab, name, author)
    origin = find_origin(lab, name, step)
    chosen = check_name(new_name) if new_name is not None else spare_name(lab.runs_dir, name, f"-fork-{origin.step}")
    total = split.live.get("steps", planned_steps(config, origin.changes))
    if start and origin.step >= total:
        raise LabError(
            f"run {name!r} ends at step {total}: a fork at step {origin.step} needs steps={origin.step + 100}"
        )
    lineage = Lineage(
        parent=name,
        step=origin.step,
        parent_created=float(lab.reader(name).meta()["created"]),
        forked=True,
        author=author,
        reason=reason,
        created=time.time(),
        changes=split.live,
        config_changes=split.config,
        model_changes=split.sizes,
    )
    make_child(lab.folder(name), lab.reader(name), config, origin, split, lineage, lab.runs_dir / chosen)
    if start:
        try:
            lab.resume(chosen, until=until, author=author)
        except LabError as error:
            raise LabError(f"the fork {chosen!r} is made, and could not be started: {error}; then resume it") from error
    return chosen


def split_changes(config: RunConfig, changes: Mapping[str, Any]) -> ForkChanges:
    """Sort changes by what they take.

    Raises:
        ConfigError: for an unknown name, a bad value, or one that no fork can have: the seed of the weights and the
            model family.
    """
    live, fixed, sizes = {}, {}, {}
    for key, value in changes.items():
        control = find_control(key, config.kind)
        if control.name in _NEVER:
            hint = "order_seed draws other batches from the same weights" if control.name == "seed" else "start a run"
            raise ConfigError(f"{control.name} cannot change in a fork, which continues with trained weights: {hint}")
        if control.live:
            name, checked = check_live(control.name, value, config.kind)
            live[name] = checked
        elif control.section == "model" and control.name not in UNSIZED:
            sizes[control.name] = control.check(value)
        else:
            fixed[control.name] = control.check(value)
    changed = config.with_values(fixed)
    if _changes_data(config, fixed):
        changed = check_inputs(changed)
    return ForkChanges(live, {name: changed.value(name) for name in fixed}, sizes)


def _changes_data(config: RunConfig, fixed: Mapping[str, Any]) -> bool:
    return any(find_control(name, config.kind).section == "data" for name in fixed)


def find_origin(lab: Workers, name: str, step: int | None) -> Origin:
    """The state of a run at a step: its checkpoint of that step as it was saved, else the nearest earlier one and the
    changes made before that step. None: the newest checkpoint, and all changes made up to it.
    """
    reader, folder = lab.reader(name), lab.folder(name)
    events = changes_of(reader.events())
    saved = _checkpoint_states(folder)
    if step is None:
        if not saved:
            raise LabError(f"run {name!r} has no checkpoint yet: let it train, or name a step that it has made")
        state, path = saved[-1]
        return Origin(state.step, path, [event for event in events if event.step <= state.step])
    _check_step(lab, name, step)
    before = [event for event in events if event.step < step]
    earlier = [
        (state, path) for state, path in saved if state.step <= step and not _reaches_behind(events, state, step)
    ]
    if not earlier:
        return Origin(step, None, before)
    state, path = earlier[-1]
    if state.step == step:
        return Origin(step, path, [event for event in events if event.step <= step and event.seq <= state.event_seq])
    return Origin(step, path, before)


def _reaches_behind(events: list[Event], state: CheckpointState, step: int) -> bool:
    """Whether weights from before a checkpoint were put back between it and the step: it cannot lead there alone."""
    return any(
        event.kind == "restore"
        and event.seq > state.event_seq
        and event.step < step
        and event.payload["from_step"] < state.step
        for event in events
    )


def make_child(
    parent_dir: Path,
    reader: RunReader,
    config: RunConfig,
    origin: Origin,
    split: ForkChanges,
    lineage: Lineage,
    folder: Path,
) -> None:
    """Write the folder of a fork, whole or not at all.

    Raises:
        LabError: for a name that is taken.
    """
    child = config.with_values(split.config)
    extra = _growth(child, origin.changes, split.sizes) if split.sizes else None
    # what the parent knows of its data is true of the child only while the data are the same
    other_data = child.data != config.data
    if folder.exists() and (folder / DATABASE_NAME).exists():  # before the work, not after it
        raise TakenError(folder.name)
    with building(folder.parent, FORKING) as site:
        aside = site.path
        # the child must read the same ids: a tokenizer trained again on other data would give other ones
        _copy_files(parent_dir, aside, (TOKENIZER_FILE, LABELS_FILE))
        write_text(aside / CONFIG_FILE, config_text(child))
        there = origin.saved_step == origin.step
        # the way to the step is trained with the parent's configuration, and only then with the child's
        if not there and child != config:
            write_text(aside / ORIGIN_FILE, config.to_yaml())
        if origin.folder is not None:
            # linked, not copied: checkpoints are the largest files of a run, and never change
            link_folder(origin.folder, aside, FORK if there else "interval")
            for step in origin.put_back:
                link_folder(parent_dir / folder_name(step), aside, "interval")
        with RunWriter(aside / DATABASE_NAME) as writer:
            for key, value in reader.meta().items():
                if key not in OWN_META | {LINEAGE, CATCH_UP, IMPORTED} and not (
                    other_data and key == "data_fingerprint"
                ):
                    writer.set_meta(key, value)
            writer.set_meta(LINEAGE, lineage_values(lineage))
            if not there:
                writer.set_meta(CATCH_UP, origin.step)
            for event in _events(reader, config, origin, split, lineage, extra):
                writer.add_event(event)
            total = int(split.live.get("steps", planned_steps(config, origin.changes)))
            message = f"forked from {lineage.parent} at step {origin.step}"
            writer.set_status(_stopped_status(origin.step, total, message, _table_figures(reader, origin.step)))
        # whole or not at all: until now the folder has a hidden name that no list shows
        site.move_in(folder)
        site.keep()


def rewind(lab: Workers, name: str, step: int, *, author: str = "person", start: bool | None = None) -> str:
    """See `Lab.rewind`."""
    was_alive = is_held(lab.folder(name))
    _check_step(lab, name, step)
    if was_alive:
        _stop(lab, name, author)
    # after the stop: the run went on for a moment, and the branch is named for where it really ended
    info = lab.info(name)
    folder, reader = lab.folder(name), lab.reader(name)
    branch = spare_name(lab.runs_dir, name, f"-until-{info.step}")
    with lab.holding(name):
        recover_interrupted(folder)
        reader.check_blocks(step)  # before anything is made or cut
        changes = changes_of(reader.events())
        # at the step itself a person's changes go; the schedule makes its own again when the run comes by
        undone = [event for event in changes if event.step > step or (event.step == step and event.author != SCHEDULE)]
        first = min((event.seq for event in undone if event.step == step), default=None)
        kept: list[tuple[CheckpointState, Path]] = []
        dropped: list[tuple[CheckpointState, Path]] = []
        for state, path in _checkpoint_states(folder):
            # a checkpoint of the step itself may hold changes that were made at it, which are undone now
            usable = state.step < step or (state.step == step and (first is None or state.event_seq < first))
            (kept if usable else dropped).append((state, path))
        base = kept[-1][0] if kept else None
        with RunWriter(folder / DATABASE_NAME) as writer:  # first: a run that cannot be written is left as it is
            writer.flush()
            _keep_branch(lab, name, branch, step, author)
            # their parent's past is about to be cut: it lives on in the branch
            _move_children(lab, name, branch, step)
            events = reader.events()
            gone = {event.seq for event in undone} | {event.seq for event in events if event.step > step}
            newest = max((event.seq for event in events), default=0)
            payload = {"from_step": info.step, "to_step": step, "branch": branch}
            total = planned_steps(lab.config(name), [event for event in changes if event.seq not in gone])
            message = f"rewound from step {info.step}; the run {branch} keeps what came after"
            status = _stopped_status(step, total, message, _table_figures(reader, step))
            try:  # a kill between the checkpoints and the rows, which go in one commit, leaves what can be told apart
                set_aside((path for _, path in dropped), int(reader.meta()["epoch"]))
                with writer.whole:
                    writer.truncate_after(step, event_seq=base.event_seq if base else 0)
                    writer.forget_events(sorted(gone))
                    writer.add_event(Event(newest + 1, step, time.time(), author, "rewind", payload))
                    # no checkpoint of that step: the run trains there again from the last one, obeying nobody
                    writer.set_meta(CATCH_UP, step if base is None or base.step < step else None)
                    writer.set_status(status)
                writer.flush()
            finally:
                recover_interrupted(folder)
    if start or (start is None and was_alive):
        lab.resume(name, author=author, from_start=base is None)
    return branch


def _check_step(lab: Workers, name: str, step: int) -> None:
    """Raise `LabError` for a step that the run has not made itself."""
    found, saved = read_lineage(lab.reader(name)), _checkpoint_states(lab.folder(name))
    now = max(lab.info(name).step, saved[-1][0].step if saved else 0)  # a live run's status may be half a second old
    first = found.step if found is not None and found.forked else 0
    if isinstance(step, bool) or not isinstance(step, int) or not first <= step <= now:
        before = f"; for an earlier one take its parent {found.parent!r}" if found is not None and first else ""
        raise LabError(f"step {step!r} is refused: run {name!r} has made the steps {first} to {now}{before}")


def spare_name(runs_dir: Path, name: str, suffix: str) -> str:
    """A free name made of a run's name and a suffix, cut to the length that names may have."""
    number = 1
    while True:
        tail = suffix if number == 1 else f"{suffix}-{number}"
        stem = name.encode()[: MAX_BYTES - len(tail.encode())].decode(errors="ignore").rstrip(". ")
        if not (runs_dir / (stem + tail)).exists():
            return check_name(stem + tail)
        number += 1


def _growth(config: RunConfig, changes: list[Event], sizes: dict[str, Any]) -> dict[str, Any]:
    """Payload of the growth that the fork begins with."""
    from qcore.train.growth import config_with_section, grown_section

    grown: dict[str, Any] = next((event.payload["model"] for event in reversed(changes) if event.kind == "grow"), {})
    now = config_with_section(config, grown)
    section = grown_section(now, sizes)
    return {"old": {key: now.value(key) for key in sizes}, "new": sizes, "model": section}


def _events(
    reader: RunReader,
    config: RunConfig,
    origin: Origin,
    split: ForkChanges,
    lineage: Lineage,
    growth: dict[str, Any] | None,
) -> list[Event]:
    """The parent's changes, the fork itself, and what it changes, at the step of the fork."""
    seq = max((event.seq for event in reader.events()), default=0)
    board = config.live_values()
    for event in changes_that_hold(config, origin.changes):
        board[event.payload["name"]] = event.payload["new"]
    made: list[tuple[str, dict[str, Any]]] = [("fork", {"parent": lineage.parent, "changes": lineage.all_changes})]
    if growth is not None:
        made.append(("grow", growth))
    for key, value in split.live.items():
        if board[key] != value:
            made.append(("control", {"name": key, "old": board[key], "new": value}))
    now = time.time()
    return [
        *(replace(event, command_id=None) for event in origin.changes),
        *(
            Event(seq + place, origin.step, now, lineage.author, kind, payload)
            for place, (kind, payload) in enumerate(made, 1)
        ),
    ]


def _keep_branch(lab: Workers, name: str, branch: str, step: int, author: str) -> None:
    """Copy a run, its checkpoints linked, as the branch that a rewind to `step` leaves behind."""
    run_dir = lab.folder(name)
    with building(lab.runs_dir, FORKING) as site:
        aside = site.path
        files = [path.name for path in run_dir.iterdir() if path.is_file()]
        left = (DATABASE_NAME, LOCK_FILE, RESERVE_FILE, WORDS_FILE)
        _copy_files(run_dir, aside, [file for file in files if not file.startswith(left)])
        for state, path in _checkpoint_states(run_dir):
            link_folder(path, aside, state.reason)
        copy_database(run_dir / DATABASE_NAME, aside / DATABASE_NAME)
        lineage = Lineage(
            parent=name,
            step=step,
            parent_created=float(lab.reader(name).meta()["created"]),
            forked=False,
            author=author,
            reason=f"left behind by a rewind to step {step}",
            created=time.time(),
        )
        with RunWriter(aside / DATABASE_NAME) as writer:
            writer.set_meta(LINEAGE, lineage_values(lineage))
        site.move_in(lab.runs_dir / branch)
        site.keep()


def _move_children(lab: Workers, name: str, branch: str, step: int) -> None:
    """Forks of what is abandoned hang on the branch from now on."""
    created = float(lab.reader(branch).meta()["created"])
    for info in lab.runs():
        if info.state == RunState.UNREADABLE or info.name == branch:
            continue
        with contextlib.suppress(LabError, OSError):  # another run that is damaged or locked keeps what it says
            found = read_lineage(lab.reader(info.name))
            if found is not None and found.parent == name and found.step > step:
                moved = replace(found, parent=branch, parent_created=created)
                with Inbox(lab.folder(info.name) / DATABASE_NAME) as inbox:
                    inbox.set_meta(LINEAGE, lineage_values(moved))


def _save_now(lab: Workers, name: str, author: str) -> None:
    """Have a training run save itself, so that a fork of now is of now."""
    row = lab.outcome(name, lab.command(name, SaveCheckpoint(), author=author), timeout=ANSWER_SECONDS)
    if row.status != "applied" and is_held(lab.folder(name)):
        raise LabError(f"run {name!r} did not save a checkpoint within {ANSWER_SECONDS:g} s: name a step to fork from")


def _stop(lab: Workers, name: str, author: str) -> None:
    """End a training run, here or in another process, and wait until it has let go of its folder."""
    lab.command(name, Stop(), author=author)
    deadline = time.monotonic() + ANSWER_SECONDS
    while is_held(lab.folder(name)):
        if time.monotonic() > deadline:
            raise LabError(f"run {name!r} did not stop within {ANSWER_SECONDS:g} s: stop it, then rewind it")
        time.sleep(0.02)


def _checkpoint_states(folder: Path) -> list[tuple[CheckpointState, Path]]:
    """State and folder of every readable checkpoint, lowest step first."""
    found = []
    for path in checkpoint_folders(folder):
        with contextlib.suppress(CheckpointError):
            found.append((read_state(path), path))
    return found


def planned_steps(config: RunConfig, changes: list[Event]) -> int:
    """Where the run ends."""
    made = [event.payload["new"] for event in changes_that_hold(config, changes) if event.payload["name"] == "steps"]
    return int(made[-1]) if made else config.optim.steps


def _copy_files(source: Path, target: Path, names: list[str] | tuple[str, ...]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
            (target / name).chmod(file_mode(target))


def _table_figures(reader: RunReader, step: int) -> dict[str, float]:
    """What the runs table shows of a run, as it was at a step."""
    found = {}
    for name, key in _SHOWN.items():
        series = reader.scalars(name, stop=step + 1)
        if len(series):
            found[key] = float(series.values[-1])
    return found


def _stopped_status(step: int, total: int, message: str, extra: dict[str, float]) -> Status:
    return Status(RunState.STOPPED, step, total, time.time(), os.getpid(), os.uname().nodename, message, extra=extra)
