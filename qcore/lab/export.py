"""A run as one file: exported from a live or finished run, imported into another lab, where it opens, samples, resumes.

The zip holds the database, the configuration, the tokenizer, the chosen checkpoints, and `manifest.json` with size and
SHA-256 of each. What came from elsewhere is checked before it is anywhere: names, sizes, hashes, the configuration, the
checkpoints. Its database is never written to: its values are read, checked and written into a new one of our own. All
of that happens aside, and then everything that a page reads is read once, before the folder gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from qcore.base import VERSION as PROGRAM
from qcore.base import parse_json, plain_file, read_json
from qcore.base.words import number_words
from qcore.config import ConfigError
from qcore.lab.lab import Lab
from qcore.runs.building import EXPORTING, IMPORTING, TakenError, building, sweep
from qcore.runs.checkpoint_folders import checkpoint_folders, folder_name, listed_files, read_state
from qcore.runs.errors import LabError, lab_errors
from qcore.runs.info import IMPORTED
from qcore.runs.layout import CONFIG_FILE, LABELS_FILE, ORIGIN_FILE, TOKENIZER_FILE, stored_config
from qcore.runs.names import check_name
from qcore.runs.reader_set import RunReaderSet
from qcore.store import DATABASE_NAME, RunWriter, StoreAccessError, StoreBusyError
from qcore.store.copies import drop_arrays, rebuild_database
from qcore.store.schema import copy_database
from qcore.store.tables import series_table, write_csv, write_parquet

FORMAT, VERSION = "collapse-lab-run", 1
MANIFEST = "manifest.json"
Checkpoints = Literal["newest", "all", "none"] | Sequence[int]
LIMIT_BYTES = 32 * 2**30
"""Most that an imported run may have, unpacked."""
LIMIT_FILES = 10_000
LIMIT_RATIO = 200
"""Most that a file may grow when it is unpacked, beyond the first 64 MiB of all."""
_SMALL = 64 * 2**20
_TEXT_BYTES = 64 * 2**20
_MANIFEST_BYTES = 8 * 2**20
_LATEST = 250_000_000_000
_CHUNK = 2**20
IMPORT_SECONDS = 1800.0
"""Longest that an archive may take to be unpacked."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FILES = (CONFIG_FILE, TOKENIZER_FILE, LABELS_FILE, ORIGIN_FILE)
"""Beside the database and the checkpoints, what a run is. Any other file of its folder is this machine's own."""
_OF_A_CHECKPOINT = re.compile(r"(step-\d{6,12})/[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.(json|safetensors)")
_INSIDE = "run"
_STATE = "state.json"
_OTHER_NAME = "import it under another name"


@lab_errors("the run cannot be exported")
def export_run(
    lab: Lab, name: str, path: Path | IO[bytes], *, checkpoints: Checkpoints = "newest", arrays: bool = True
) -> int:
    """Write a run, live or not, to one zip file; returns its number of files besides the manifest.

    Args:
        checkpoints: the newest, all, none, or those of the steps given.
        arrays: False leaves out the pictures of phases, kernels and histograms, which take the most room; curves,
            samples, events and findings always go.

    Raises:
        LabError: for a run or a checkpoint that is not there, or one that vanishes meanwhile.

    Example:
        >>> archive = folder / "first.zip"
        >>> export_run(lab, "first", archive, checkpoints="none")
        4
        >>> import_run(lab, archive, "copy")
        'copy'
    """
    lab.info(name)
    run_dir = lab.runs_dir / name
    steps = _chosen_steps(lab, name, checkpoints)
    beside = path.parent if isinstance(path, Path) else Path(tempfile.gettempdir())
    with building(beside, EXPORTING) as site:
        sweep(beside)
        packed = site.path / "run.zip" if isinstance(path, Path) else path
        files: dict[str, dict[str, Any]] = {}
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for step in steps:
                _pack_checkpoint(archive, run_dir / folder_name(step), files)
            for file in _FILES:
                if (run_dir / file).exists():
                    files[file] = _pack(archive, run_dir / file, file)
            # Last, so that it has all that the checkpoints build on.
            copy_database(run_dir / DATABASE_NAME, site.path / DATABASE_NAME)
            if not arrays:
                drop_arrays(site.path / DATABASE_NAME)
            files[DATABASE_NAME] = _pack(archive, site.path / DATABASE_NAME, DATABASE_NAME)
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "program": PROGRAM,
                "name": name,
                "exported": time.time(),
                "arrays": arrays,
                "files": files,
            }
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        if isinstance(path, Path):
            os.replace(site.path / "run.zip", path)
    return len(files)


@lab_errors("the file cannot be imported")
def import_run(lab: Lab, source: Path | IO[bytes], name: str | None = None, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Add an exported run under its own name or another; returns the name.

    `LabError`, with nothing left behind, for: no zip file, files outside the run's folder, links, files that no run has
    or that the manifest does not list, sizes or hashes that differ from it, more than `limit_bytes` or the free disk, a
    damaged or foreign database, configuration or checkpoint, a taken name.
    """
    stack = contextlib.ExitStack()
    deadline = time.monotonic() + IMPORT_SECONDS
    try:
        with _refuse_bad_archive(), zipfile.ZipFile(source) as archive:
            entries = _checked_entries(archive.infolist(), limit_bytes)
            manifest = _read_manifest(archive, entries)
            chosen = check_name(name if name is not None else manifest["name"])
            _refuse_taken(lab, chosen)
            total = sum(entry.file_size for entry in entries.values())
            if total > shutil.disk_usage(lab.runs_dir).free:
                raise LabError(f"the file unpacks to {total:,} bytes, and the disk has less: free space first")
            site = stack.enter_context(building(lab.runs_dir, IMPORTING))
            run_dir = site.make_inside(
                _INSIDE
            )  # under its own name, which may be that of a file of the hidden folder, last
            for file, entry in entries.items():
                _unpack(archive, entry, run_dir / file, manifest["files"][file], deadline)
        _take_over(run_dir, manifest)
        try:
            site.move_in(lab.runs_dir / chosen)
        except TakenError:  # somebody took the name meanwhile
            raise TakenError(chosen, _OTHER_NAME) from None
        site.keep()
    finally:
        stack.close()
    return chosen


@lab_errors("the curves cannot be exported")
def export_table(
    lab: Lab,
    name: str,
    file: TextIO | IO[bytes],
    kind: Literal["csv", "parquet"] = "csv",
    series: Sequence[str] | None = None,
) -> int:
    """Write curves as CSV (to a text file) or Parquet (to a binary one), a row a step; returns the number of rows.

    Args:
        series: names or patterns such as `eval/*`; None writes all.

    Raises:
        LabError: for one that matches nothing.
    """
    try:
        table = series_table(lab.reader(name), series)
    except ValueError as error:
        raise LabError(f"run {name!r}: {error}") from error
    return write_csv(table, cast("TextIO", file)) if kind == "csv" else write_parquet(table, cast("IO[bytes]", file))


def _chosen_steps(lab: Lab, name: str, wanted: Checkpoints) -> list[int]:
    steps = [found.step for found in lab.checkpoints(name)]
    if isinstance(wanted, str):
        if wanted not in ("newest", "all", "none"):
            raise LabError(f"checkpoints = {wanted!r} is refused: newest, all, none, or a list of steps")
        return {"newest": steps[-1:], "all": steps, "none": []}[wanted]
    if missing := [step for step in wanted if step not in steps]:
        there = ", ".join(map(str, steps)) or "none"
        raise LabError(f"run {name!r} has no checkpoint of step {missing[0]}; there are {there}")
    return sorted(set(wanted))


def _pack_checkpoint(archive: zipfile.ZipFile, folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """All files of a checkpoint, each as its own list says.

    Raises:
        LabError: when the folder changes meanwhile.
    """
    try:
        listed = listed_files(folder)
        # the state last: it lists the others, and is written last, too
        for file in (*listed, _STATE):
            packed = _pack(archive, folder / file, f"{folder.name}/{file}", compress=file.endswith(".json"))
            if file in listed and packed["sha256"] != listed[file].get("sha256"):
                raise LabError(f"checkpoint {folder.name} does not match its checksums: choose another one")
            files[f"{folder.name}/{file}"] = packed
    except FileNotFoundError as error:
        raise LabError(f"checkpoint {folder.name} was deleted while it was copied: export the run again") from error


def _pack(archive: zipfile.ZipFile, path: Path, name: str, *, compress: bool = True) -> dict[str, Any]:
    """Copy a file into the archive; its size and hash. Weights hardly shrink and are stored as they are."""
    entry = zipfile.ZipInfo(name, time.localtime()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    # a plain file that all may read, whatever the mode here: it is another person's after the import
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", opener=plain_file) as source, archive.open(entry, "w", force_zip64=True) as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _checked_entries(infos: Sequence[zipfile.ZipInfo], limit_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Entries by name, when every one of them may be unpacked and they are not too much."""
    # all that follows costs time for each entry, and the archive is a stranger's
    if len(infos) > LIMIT_FILES:
        raise LabError(f"the file has {len(infos):,} entries; a run has at most {LIMIT_FILES:,}")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename  # as written: zipfile's own cuts at a NUL and turns separators
        shown = name if len(name) <= 120 else name[:119] + "…"
        # the upper half is the Unix mode; 0 where another system wrote the archive
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise LabError(f"the file is refused: {shown!r} is a link or another special file")
        # before the list of names, though that list would refuse these too: the message says what is wrong
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
            raise LabError(f"the file is refused: {shown!r} lies outside the run's folder")
        if name not in (MANIFEST, DATABASE_NAME, *_FILES) and not _is_checkpoint_file(name):
            raise LabError(f"the file is refused: {shown!r} is nothing that a run has")
        if name in entries:
            raise LabError(f"the file is refused: it has {shown!r} twice")
        if info.flag_bits & 1:
            raise LabError(f"the file is refused: {shown!r} is encrypted")
        if info.compress_type not in _METHODS:
            raise LabError(f"the file is refused: {shown!r} is packed by method {info.compress_type}, as no run is")
        # the headers may lie; `_unpack` stops at the size that is claimed here
        if info.file_size > _TEXT_BYTES and not name.endswith((".sqlite", ".safetensors")):
            raise LabError(f"the file is refused: {shown!r} has {info.file_size:,} bytes, as no run has")
        entries[name] = info
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    if total > limit_bytes:
        raise LabError(f"the file unpacks to {total:,} bytes; {limit_bytes:,} are allowed")
    # a small file may shrink a thousandfold by chance, such as a log of equal lines
    if total > _SMALL and total > LIMIT_RATIO * packed:
        raise LabError(f"the file is refused: it grows from {packed:,} to {total:,} bytes, as no run does")
    return entries


def _is_checkpoint_file(name: str) -> bool:
    found = _OF_A_CHECKPOINT.fullmatch(name)
    return found is not None and found[1] == folder_name(int(found[1][5:]))


def _read_manifest(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    """The manifest, which must list exactly the other entries, which it takes out of `entries`."""
    entry = entries.pop(MANIFEST, None)
    if entry is None or entry.file_size > _MANIFEST_BYTES:
        raise LabError("this is no exported run: it has no manifest")
    with archive.open(entry) as packed:
        manifest = parse_json(packed.read(_MANIFEST_BYTES + 1), "the manifest", max_bytes=_MANIFEST_BYTES)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise LabError("this is no exported run: another program wrote its manifest")
    # True is an int, too
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        told = repr(manifest.get("version"))[:40]
        raise LabError(f"the file has version {told}; this program reads version {VERSION}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise LabError("the file is refused: its manifest is damaged")
    # both ways: an entry that nobody listed has no hash to be checked by
    if differing := sorted(files.keys() ^ entries.keys()):
        where = "the manifest does not list it" if differing[0] in entries else "it is missing"
        raise LabError(f"the file is refused: {differing[0]!r} – {where}")
    if DATABASE_NAME not in entries:
        raise LabError(f"this is no exported run: it has no {DATABASE_NAME}")
    if not isinstance(manifest.get("name"), str) or not isinstance(manifest.get("program"), str):
        raise LabError("the file is refused: its manifest is damaged")
    if not isinstance(manifest.get("exported"), int | float) or not 0 <= manifest["exported"] <= _LATEST:
        raise LabError("the file is refused: its manifest tells no time at which it was exported")
    return manifest


def _open_private(path: str, flags: int) -> int:
    """Open a file that is its owner's alone."""
    return os.open(path, flags, 0o600)


def _unpack(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, expected: dict[str, Any], deadline: float
) -> None:
    """Write one entry, never more of it than the manifest says.

    Raises:
        LabError: when it differs from the manifest.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(entry) as source, open(target, "xb", opener=_open_private) as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            # a packed stream may be longer than its header says: never write more than was checked
            if size > entry.file_size:
                break
            if time.monotonic() > deadline:
                raise LabError(
                    f"the file is refused: unpacking took more than {number_words(IMPORT_SECONDS / 60, 2)} minutes"
                )
            digest.update(chunk)
            file.write(chunk)
    if size != expected.get("bytes") or digest.hexdigest() != expected.get("sha256"):
        raise LabError(f"the file is refused: {entry.filename} was altered or damaged; use another copy")


@contextmanager
def _refuse_bad_archive() -> Iterator[None]:
    """Turn whatever the reading of an archive raises into a refusal: its bytes are a stranger's."""
    try:
        yield
    except LabError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise LabError(f"this is no exported run: {error}") from error
    except (ValueError, struct.error, RuntimeError, LookupError) as error:  # names that are no UTF-8, fields that lie
        raise LabError(f"this is no exported run: it is damaged ({error})") from error


def _take_over(run_dir: Path, manifest: dict[str, Any]) -> None:
    """Give the unpacked run a database of our own, and read all of it once as the pages do.

    Raises:
        LabError: if it cannot.
    """
    own = run_dir.parent / DATABASE_NAME
    try:
        rebuild_database(run_dir / DATABASE_NAME, own)
        os.replace(own, run_dir / DATABASE_NAME)
        with RunWriter(run_dir / DATABASE_NAME) as writer:
            origin = {"name": manifest["name"], "program": manifest["program"], "exported": manifest["exported"]}
            writer.set_meta(IMPORTED, {**origin, "at": time.time()})
        read_through(run_dir)
        for checkpoint in checkpoint_folders(run_dir):
            read_state(checkpoint)
            _check_listed(checkpoint, manifest["files"])
        _check_object(run_dir / TOKENIZER_FILE)
        if (run_dir / ORIGIN_FILE).exists():
            stored_config(run_dir, ORIGIN_FILE)
    except (StoreAccessError, StoreBusyError):
        raise  # this machine's trouble, not the file's
    except (LabError, ConfigError) as error:
        raise LabError(f"the file is refused: {error}") from error


def read_through(run_dir: Path) -> None:
    """Read what lists, pages, reports and the protocol read of a run.

    Raises:
        LabError: where they would.
    """
    name = run_dir.name
    reading = RunReaderSet(run_dir.parent)
    try:
        reader = reading.reader(name)
        reading.info(name)
        reading.controls(name)
        reading.lineage(name)
        reading.findings(name)
        reading.token_labels(name)
        reader.scalars_of(reader.names(), max_points=100)
        reader.latest()
        reader.tail(None)
        reader.log()
        reader.version()
    finally:
        reading.close_readers()


def _check_listed(checkpoint: Path, unpacked: dict[str, dict[str, Any]]) -> None:
    """The files that a checkpoint lists are those that came, to the byte: their hashes have been taken already."""
    listed = listed_files(checkpoint)
    there = {path.name for path in checkpoint.iterdir()} - {_STATE}
    if differing := sorted(listed.keys() ^ there):
        raise LabError(f"checkpoint {checkpoint.name} lists {differing[0]!r} and has it not, or has it unlisted")
    for name, expected in listed.items():
        if expected.get("sha256") != unpacked[f"{checkpoint.name}/{name}"]["sha256"]:
            raise LabError(f"checkpoint {checkpoint.name} does not match its checksums: {name} was altered")
        if name.endswith(".json"):
            _check_object(checkpoint / name)


def _check_object(path: Path) -> None:
    if path.exists() and not isinstance(read_json(path), dict):
        raise LabError(f"{path.name} holds no object, as it does in every run")


def _refuse_taken(lab: Lab, name: str) -> None:
    if (lab.runs_dir / name / DATABASE_NAME).exists():
        raise TakenError(name, _OTHER_NAME)
