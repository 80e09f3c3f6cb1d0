"""Are the files that a configuration names there? Asked before a run exists, on every door, with the same sentence.

Cheap, so that a form may ask at every change: names, sizes and the first bytes are looked at, nothing is read whole.
What a person writes as a path may begin with `~` and hold `$NAME`; a relative one starts where the lab's process runs.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from qcore.config import ConfigError, RunConfig

_FIRST_BYTES = 1 << 16
_LOOKED_AT = 2000
"""Files of a folder that are looked at before it is taken to hold what is wanted somewhere further on."""
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".parquet", ".arrow")
_BUILDERS = ("json", "text", "csv", "parquet", "arrow")
_LATENTS = ".safetensors"


def place(text: str) -> Path:
    """What a person wrote as a path, in full: `~` and `$NAME` replaced, absolute."""
    return Path(os.path.expandvars(text.strip())).expanduser().absolute()


def input_problems(config: RunConfig) -> dict[str, str]:
    """Setting → why what it names cannot be trained on; empty when all is there."""
    return {name: why for name, why in _problems(config) if why}


def checked_inputs(config: RunConfig) -> RunConfig:
    """The configuration with its paths in full, so that it means the same from any folder. `ConfigError` names the
    setting, its value and what is wrong with it."""
    for why in input_problems(config).values():
        raise ConfigError(why)
    data, full = config.data, {}
    for name in _paths(config):
        value = str(getattr(data, name))
        if name == "data_files":
            full[name] = ",".join(str(place(part)) for part in value.split(","))
        else:
            full[name] = str(place(value))
    changed = {name: value for name, value in full.items() if value != getattr(data, name)}
    return config.with_values(changed) if changed else config


def _paths(config: RunConfig) -> list[str]:
    """Settings of the data that are paths of this machine."""
    source = str(getattr(config.data, "source", ""))
    if source == "text":
        return [name for name in ("path", "validation_path") if getattr(config.data, name)]
    if source == "folder":
        return ["path"]
    if source == "huggingface":
        name = str(getattr(config.data, "hub_name", "")).strip()
        files = bool(getattr(config.data, "data_files", "")) and name in _BUILDERS
        return ["hub_name"] * _is_local(name) + ["data_files"] * (files and "://" not in config.value("data_files"))
    return []


def _is_local(name: str) -> bool:
    """Whether a data set's name can only be meant as a path."""
    return name.startswith(("/", "./", "../", "~", "$")) or name in (".", "..")


def _problems(config: RunConfig) -> Iterator[tuple[str, str]]:
    data = config.data
    source = str(getattr(data, "source", ""))
    if source != "text" and getattr(data, "validation_path", ""):
        value = getattr(data, "validation_path", "")
        yield (
            "validation_path",
            f"validation_path = {value!r} is refused: it goes with source = text, and the source is {source}; leave it "
            "empty, or choose text",
        )
    if source == "huggingface" and config.value("hub_name").strip() in _BUILDERS and not config.value("data_files"):
        name = config.value("hub_name").strip()
        yield "data_files", f"data_files is empty: hub_name = {name!r} reads local files, so name one"
    for name in _paths(config):
        value = str(getattr(data, name))
        if name == "data_files":
            for part in value.split(","):
                yield name, _of_files(name, part)
        else:
            wanted = {"text": "text", "folder": _LATENTS if config.kind == "ltx_video" else "video"}.get(source, "data")
            yield name, _of_place(name, value, wanted)


def _refusal(name: str, value: str, full: Path, why: str) -> str:
    """The sentence. A relative path says where it starts; one that was written in full is not written twice."""
    written = Path(value.strip())
    if written == full:
        return f"{name} = {value!r} is refused: it {why}"
    start = "" if str(written)[:1] in "~$" else f" (a relative path starts at {Path.cwd()}, where the lab runs)"
    return f"{name} = {value!r} is refused: {str(full)!r} {why}{start}"


_REMEDIES = {
    "text": "give a UTF-8 text file or a folder of them",
    "video": "give a folder of videos, or one video",
    _LATENTS: f"give a folder of latents ({_LATENTS} files)",
    "data": "give a folder of data files, or a data set's name",
}


def _of_place(name: str, value: str, wanted: str) -> str:
    """What is wrong with a file or folder; empty when nothing is."""
    full, remedy = place(value), _REMEDIES[wanted]
    try:
        if full.is_dir():
            why = _of_folder(full, wanted)
        elif full.is_file():
            why = _of_file(full, wanted)
        elif os.path.lexists(full):
            why = "is neither a file nor a folder"
        else:
            why = "does not exist"
            unset = [part for part in full.parts if part.startswith("$")]
            if unset:
                remedy = f"{unset[0]} is not set here; {remedy}"
            elif full.parent.is_dir() and full.parent != full:
                remedy = f"its folder is there, a file of this name is not; {remedy}"
    except OSError as error:
        why = f"cannot be read ({error.strerror or error})"
    return _refusal(name, value, full, f"{why}: {remedy}") if why else ""


def _of_files(name: str, value: str) -> str:
    """What is wrong with a file, or a pattern of files, for a builder of data sets."""
    full = place(value)
    found = [Path(path) for path in glob.glob(str(full), recursive=True)] if glob.has_magic(str(full)) else [full]
    files = [path for path in found if path.is_file()]
    if not files:
        return _refusal(name, value, full, "does not exist: give a local file, or a pattern that fits some")
    problems = [why for path in files[:_LOOKED_AT] if (why := _of_file(path, "data"))]
    return _refusal(name, value, full, f"{problems[0]}: give another file") if len(problems) == len(files) else ""


def _of_folder(folder: Path, wanted: str) -> str:
    if not os.access(folder, os.R_OK | os.X_OK):
        return "may not be read by the lab's user"
    looked = 0
    reasons: list[str] = []
    for file in _files(folder):
        if not (why := _of_file(file, wanted)):
            return ""
        reasons.append(f"{file.name} {why}")
        looked += 1
        if looked >= _LOOKED_AT:
            return ""  # somebody's large folder: whoever opens the data looks at all of it
    what = {"text": "text", "video": "video", _LATENTS: f"{_LATENTS} file"}.get(wanted, "file")
    return f"holds no {what}" + (f" ({'; '.join(reasons[:3])})" if reasons else "")


def _files(folder: Path) -> Iterator[Path]:
    """Files under a folder whose names are not hidden, sorted folder by folder."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _of_file(file: Path, wanted: str) -> str:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(_FIRST_BYTES)
    except PermissionError:
        return "may not be read by the lab's user"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if not size:
        return "is empty"
    if wanted == _LATENTS and file.suffix != _LATENTS:
        return f"is no {_LATENTS} file"
    return _of_text(head, size) if wanted == "text" and file.suffix.lower() not in _PACKED else ""


def _of_text(head: bytes, size: int) -> str:
    """What is wrong with a text by its first bytes."""
    if b"\0" in head:
        return "is no text: it holds a NUL byte"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last letter of the head may be cut in two.
        if not (size > len(head) and error.start >= len(head) - 4):
            return f"is no UTF-8 text: byte 0x{head[error.start]:02X} at offset {error.start}"
        text = head[: error.start].decode("utf-8")
    return "holds only blanks" if not text.strip() and size <= len(head) else ""
