"""Checkpoint folders: written aside, synced and renamed, so that a folder is whole or absent. No torch here.

A folder `step-000500` holds binary files and `state.json` with the size and SHA-256 of each. Nothing is unpickled; a
truncated, altered or foreign folder is refused with `CheckpointError`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from qcore.base import DocumentError, LabError, plain_file, read_json
from qcore.store import DATABASE_NAME, RunReader

FORMAT = "collapse-lab-checkpoint"
VERSION = 1
RISKY, FORK = "risky change", "fork"
KEPT_REASONS = ("automatic change", "requested", RISKY, FORK)
"""Checkpoints written for these reasons are never pruned."""
_WRITING, _REPLACED, _ABANDONED, _DELETING = ".writing-", ".replaced-", ".abandoned-", ".deleting-"
_NAME = re.compile(r"step-[0-9]+")
_EPOCH = re.compile(r"[0-9]{1,18}")


class CheckpointError(LabError):
    """A checkpoint that must not be loaded; the message names the folder, what is wrong and the remedy."""


@dataclass(frozen=True)
class CheckpointState:
    """What stands in `state.json` beside the hashes.

    Attributes:
        step: completed updates.
        controls: board values.
        event_seq: last event included.
        scaler: fp16 loss scale state.
        threads, torch_version: what a bitwise resume depends on besides.
        model: the section of the configuration that the weights belong to, which growth may have changed; empty in a
            checkpoint from before there was growth.
    """

    step: int
    reason: str
    created: float
    controls: dict[str, Any]
    event_seq: int
    seconds_trained: float
    scaler: dict[str, Any]
    threads: int
    torch_version: str
    model: dict[str, Any] = field(default_factory=dict)


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "step": ((int,), "a whole number"),
    "reason": ((str,), "text"),
    "created": ((int, float), "a time"),
    "controls": ((dict,), "an object"),
    "event_seq": ((int,), "a whole number"),
    "seconds_trained": ((int, float), "a duration"),
    "scaler": ((dict,), "an object"),
    "threads": ((int,), "a whole number"),
    "torch_version": ((str,), "text"),
    "model": ((dict,), "an object"),
}


def folder_name(step: int) -> str:
    """`step-000500`."""
    return f"step-{step:06d}"


def checkpoint_folders(run_dir: Path) -> list[Path]:
    """Checkpoint folders of a run, lowest step first."""
    folders = [path for path in run_dir.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(folders, key=lambda path: int(path.name[5:]))


def read_state(folder: Path) -> CheckpointState:
    """Read only `state.json` of a folder.

    Raises:
        CheckpointError: when it is missing, damaged or foreign.
    """
    return _parse(_read_document(folder), folder)


def listed_files(folder: Path) -> dict[str, dict[str, Any]]:
    """What the folder says of its files: size and hash by name.

    Raises:
        CheckpointError: as `read_state`, and for a name that is no plain file of the folder.
    """
    files: dict[str, dict[str, Any]] = _read_document(folder)["files"]
    return files


def read_folder(folder: Path) -> tuple[CheckpointState, dict[str, bytes]]:
    """State and verified contents of every file.

    Raises:
        CheckpointError: when anything is missing, altered or foreign.
    """
    document = _read_document(folder)
    contents = {}
    for name, expected in document["files"].items():
        try:
            with open(folder / name, "rb", opener=plain_file) as file:
                data = file.read()
        except OSError as error:
            raise refusal(folder, f"{name} cannot be read ({error.strerror})") from error
        if len(data) != expected.get("bytes"):
            raise refusal(folder, f"{name} has {len(data)} bytes, not {expected.get('bytes')}: it was cut off")
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise refusal(folder, f"{name} does not match its checksum: it was altered or damaged")
        contents[name] = data
    return _parse(document, folder), contents


def write_folder(run_dir: Path, state: CheckpointState, contents: Mapping[str, bytes]) -> Path:
    """Write `run_dir/step-NNNNNN` and return it.

    An existing folder of that step is replaced without a moment in which neither is whole (`recover_interrupted` puts
    the old one back); a reason that keeps it from being pruned stays.
    """
    target = run_dir / folder_name(state.step)
    with contextlib.suppress(CheckpointError):
        if (reason := read_state(target).reason) in KEPT_REASONS:
            state = replace(state, reason=reason)
    aside, replaced = run_dir / f"{_WRITING}{target.name}", run_dir / f"{_REPLACED}{target.name}"
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(mode=_folder_mode(run_dir))
    files = {}
    for name, data in contents.items():
        _write_synced(aside / name, data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    document = {"format": FORMAT, "version": VERSION, **asdict(state), "files": files}
    _write_synced(aside / "state.json", json.dumps(document, indent=1).encode())
    _sync_folder(aside)
    if target.exists():
        os.rename(target, replaced)
    os.rename(aside, target)
    _sync_folder(run_dir)
    shutil.rmtree(replaced, ignore_errors=True)
    return target


def link_folder(folder: Path, run_dir: Path, reason: str) -> Path:
    """Give another run a checkpoint of this one, for `reason`, and return its folder there.

    Files are never changed in place, so they are linked, and copied only where the file system has no links.

    Raises:
        CheckpointError: for a folder that cannot be read.
    """
    document = _read_document(folder)
    _parse(document, folder)
    aside, target = run_dir / f"{_WRITING}{folder.name}", run_dir / folder.name
    aside.mkdir(mode=_folder_mode(run_dir))
    for name in document["files"]:
        try:
            os.link(folder / name, aside / name)
        except OSError:
            shutil.copyfile(folder / name, aside / name)
    _write_synced(aside / "state.json", json.dumps({**document, "reason": reason}, indent=1).encode())
    _sync_folder(aside)
    os.rename(aside, target)
    _sync_folder(run_dir)
    return target


def newest_state(run_dir: Path) -> CheckpointState | None:
    """State of the newest checkpoint that can be read; None when there is none."""
    for folder in reversed(checkpoint_folders(run_dir)):
        with contextlib.suppress(CheckpointError):
            return read_state(folder)
    return None


def can_resume(run_dir: Path) -> bool:
    """Whether a worker finds a checkpoint to go on from: one that can be read, or one that it puts back, since its
    replacement or the cut that it was set aside for was interrupted.
    """
    return newest_state(run_dir) is not None or any(
        any(run_dir.glob(f"{hidden}*")) for hidden in (_REPLACED, _ABANDONED)
    )


def set_aside(folders: Iterable[Path], epoch: int) -> None:
    """Take checkpoints out of a run that is about to be cut at a step, in one way whether or not the cut then comes.

    Args:
        folders: the checkpoints.
        epoch: of the run's database, which the cut raises. `recover_interrupted` deletes them once it is higher and
            puts them back while it is not, so that no kill leaves a run with checkpoints of steps that it has no
            longer.
    """
    for folder in folders:
        os.rename(folder, folder.with_name(f"{_ABANDONED}{epoch}-{folder.name}"))


def recover_interrupted(run_dir: Path) -> None:
    """Put back a checkpoint whose replacement was interrupted, or one that was set aside for a cut that never came, and
    delete what was never finished or is abandoned.
    """
    _settle_abandoned(run_dir)
    for replaced in run_dir.glob(f"{_REPLACED}*"):
        target = run_dir / replaced.name.removeprefix(_REPLACED)
        if target.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, target)
    for hidden in (_WRITING, _DELETING):
        for unfinished in run_dir.glob(f"{hidden}*"):
            shutil.rmtree(unfinished)


def _settle_abandoned(run_dir: Path) -> None:
    aside = list(run_dir.glob(f"{_ABANDONED}*-*"))
    if not aside:
        return
    with RunReader(run_dir / DATABASE_NAME) as reader:
        now = int(reader.meta()["epoch"])
    for folder in aside:
        epoch, _, name = folder.name.removeprefix(_ABANDONED).partition("-")
        if not _EPOCH.fullmatch(epoch):
            continue  # none of ours
        if now > int(epoch) or (run_dir / name).exists():
            delete_folder(folder)
        else:
            os.rename(folder, run_dir / name)


def prune_checkpoints(run_dir: Path, keep: int) -> list[Path]:
    """Delete the oldest interval checkpoints beyond `keep` and return their folders. What cannot be read is left
    alone.
    """
    interval = []
    for folder in checkpoint_folders(run_dir):
        with contextlib.suppress(CheckpointError):
            if read_state(folder).reason not in KEPT_REASONS:
                interval.append(folder)
    gone = interval[: max(0, len(interval) - keep)]
    for folder in gone:
        delete_folder(folder)
    return gone


def delete_folder(folder: Path) -> None:
    """Delete a checkpoint; of a link to one, the link alone.

    It loses its name first: half of one, left by a kill, would look like one that can be taken.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    aside = folder.with_name(f"{_DELETING}{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    shutil.rmtree(aside)


def refusal(folder: Path, reason: str) -> CheckpointError:
    """The error for a folder that must not be loaded."""
    told = reason if len(reason) <= 300 else reason[:299] + "…"  # it may quote what a stranger wrote
    return CheckpointError(f"checkpoint {folder.name} is refused: {told}; use another checkpoint of the run")


def _read_document(folder: Path) -> dict[str, Any]:
    try:
        document = read_json(folder / "state.json")
    except OSError as error:
        raise refusal(folder, f"state.json cannot be read ({error.strerror})") from error
    except DocumentError as error:
        raise refusal(folder, f"{error}: it was cut off or altered") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise refusal(folder, "it was not written by Collapse Lab")
    if document.get("version") != VERSION:
        raise refusal(folder, f"it has version {document.get('version')!r}; this program reads version {VERSION}")
    files = document.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise refusal(folder, "its list of files is damaged")
    for name in files:
        if not name or Path(name).name != name or "\0" in name or name in (".", ".."):
            raise refusal(folder, f"it lists the file {name[:80]!r} outside its folder")
    return document


def _parse(document: dict[str, Any], folder: Path) -> CheckpointState:
    known = fields(CheckpointState)
    if missing := [entry.name for entry in known if entry.name not in document and entry.default_factory is MISSING]:
        raise refusal(folder, f"state.json lacks {missing[0]!r}")
    for name, (kinds, wanted) in _TYPES.items():
        value: Any = document.get(name, {})
        is_number = isinstance(value, int | float)
        if isinstance(value, bool) or not isinstance(value, kinds) or (is_number and not _is_plausible(value)):
            raise refusal(folder, f"{name} in state.json is {str(value)[:60]!r}, not {wanted}")
    state = CheckpointState(**{entry.name: document[entry.name] for entry in known if entry.name in document})
    if state.step != (int(folder.name[5:]) if _NAME.fullmatch(folder.name) else -1):
        raise refusal(folder, f"it holds step {state.step}: the folder was renamed")
    return state


def _is_plausible(value: Any) -> bool:
    """Whether it may be a step, a count, or a number of seconds that a calendar can show."""
    return -2.5e11 < value < 2.5e11  # which NaN is not either


def file_mode(run_dir: Path) -> int:
    """Rights of a new file in a run folder: those of the folder. New run folders are their owner's alone, because
    prompts and texts are nobody else's; one that somebody has opened to a group stays open to it.
    """
    return _folder_mode(run_dir) & 0o666


def _folder_mode(run_dir: Path) -> int:
    try:
        return os.stat(run_dir).st_mode & 0o777
    except OSError:
        return 0o700


def _write_synced(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file_mode(path.parent)), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
