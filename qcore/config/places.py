"""Paths as people write them: `~`, several between commas, patterns; what is there is told by stat alone.

One rule for every door and for the reader: which texts are paths, which files a list of them names, and how far is
looked for them. `$NAME` is never replaced: a refusal that repeats the path would tell a stranger its value.
"""

from __future__ import annotations

import os
import re
from fnmatch import translate
from glob import has_magic
from itertools import islice, takewhile
from pathlib import Path

from qcore.config.controls import ConfigError

MOST_NAMES = 200_000
"""Names that are looked at for one pattern."""
_LONGEST_NAME = 240
BUILDERS = {"json": "jsonl", "csv": "csv", "parquet": "parquet", "arrow": "arrow", "text": "text"}
"""Names of the data-set library for local files, and the form that they read."""


class DataError(ConfigError):
    """A path, or what it holds, cannot be used as data; the message names it and the remedy."""


def printable_path(path: Path | str) -> str:
    """A path as printable text, a very long one cut; bytes that are no UTF-8 and control characters become `�`."""
    text = os.fsencode(path).decode("utf-8", "replace")
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME // 2]}…{text[-_LONGEST_NAME // 2 :]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def place(location: str, setting: str, wanted: str) -> Path:
    """The path a person wrote, `~` expanded, of something that exists. `DataError` names setting and remedy."""
    if not location.strip():
        raise DataError(f"{setting} is empty: give it {wanted}")
    said = f"{setting} = {printable_path(location)!r}"
    try:
        path = Path(location).expanduser()
        path.stat()
    except RuntimeError as error:  # a home that nobody has; older Pythons say a link that leads to itself so, too
        raise DataError(f"{said} cannot be found ({error}): give {wanted}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{said} {_not_found_text(error)}: give {wanted}") from None
    return path


def _not_found_text(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be found ({plain_error(error)})"


def plain_error(error: BaseException) -> str:
    """The reason of an error in words, without its number."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")


def expand_home(text: str) -> str:
    """A path with `~` replaced; as it is where nobody has that home."""
    try:
        return os.path.expanduser(text)
    except ValueError:  # a NUL in a name
        return text


def listed_files(text: str, folder: Path | None = None) -> list[str]:
    """The paths in a setting: one, or several between commas; a path that itself has a comma is found as it is.

    Args:
        folder: where relative ones start, if not where the process runs.
    """
    whole = expand_home(text)
    if "," not in text or os.path.lexists(folder / whole if folder else whole):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def local_files(text: str, setting: str = "data.data_files") -> list[Path]:
    """The files that a list of paths and patterns names. `DataError` names what is not there."""
    found: list[Path] = []
    for part in listed_files(text):
        if is_pattern(part):
            found += matching_files(part, setting)
        else:
            found.append(place(part, setting, "a file, a list of files between commas, or a pattern such as a/*.jsonl"))
    return found


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern of paths, and not the name of something that is there."""
    return has_magic(text) and not os.path.lexists(expand_home(text))


def matching_files(pattern: str, setting: str) -> list[Path]:
    """The regular files that a pattern names, in sorted order: `*`, `?` and `[…]` within a name, `**` for any folders.

    Hidden names need a dot in the pattern, and `**` follows no link.

    Args:
        pattern: as a person writes it; `~` is their home.
        setting: what errors call it, such as `data.data_files`.

    Raises:
        DataError: for a pattern without a file, for one that cannot be one, and for one that leads through more than
            `MOST_NAMES` names.
    """
    said = f"{setting} = {printable_path(pattern)!r}"
    path = expand_home(pattern)
    parts = _pattern_parts(path, said)
    found: set[str] = set()
    # A stack of places instead of recursion, as folders may lie deeper than Python recurses. With several ** the same
    # place is reached by many ways: it is looked at once.
    seen: set[tuple[str, int]] = set()
    looked_at = 0
    waiting = [("/" if path.startswith("/") else "", 0)]
    while waiting:
        if (state := waiting.pop()) in seen:
            continue
        seen.add(state)
        looked_at += 1
        folder, depth = state
        if depth == len(parts):
            if os.path.isfile(folder):
                found.add(folder)
        elif has_magic(parts[depth]):
            names = _names(folder)
            looked_at += len(names)
            if looked_at > MOST_NAMES:
                raise DataError(f"{said} leads through more than {MOST_NAMES:,} names: begin it with a narrower folder")
            waiting += _fitting_places(folder, names, depth, parts)
        else:
            # Names without a pattern are followed as they are: their folders may be open to no listing.
            plain = list(takewhile(lambda one: not has_magic(one), parts[depth:]))
            inner = os.path.join(folder, *plain)
            if os.path.lexists(inner):
                waiting.append((inner, depth + len(plain)))
    if not found:
        raise DataError(f"{said} matches no file: give a pattern such as a/*.jsonl")
    return [Path(name) for name in sorted(found)]


def _pattern_parts(path: str, said: str) -> list[str]:
    """A pattern's names between slashes; one ** where several follow each other, and never as the last."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if odd := [part for part in parts if "**" in part and part != "**"]:
        raise DataError(
            f"{said} is refused: ** stands alone between slashes, as in a/**/*.jsonl, not {printable_path(odd[0])!r}"
        )
    if "\0" in path:
        raise DataError(f"{said} is refused: it holds a NUL, which no path can")
    parts = [part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != ("**", "**")]
    return [*parts, "*"] if parts and parts[-1] == "**" else parts


def _fitting_places(folder: str, names: list[str], depth: int, parts: list[str]) -> list[tuple[str, int]]:
    """Where a pattern goes on inside a folder: paths, and how many of the pattern's parts lead there."""
    part, last = parts[depth], depth + 1 == len(parts)
    if part == "**":
        inside = [os.path.join(folder, name) for name in names if not name.startswith(".")]
        # A link may lead back up, and ** would go round for ever.
        below = [(inner, depth) for inner in inside if os.path.isdir(inner) and not os.path.islink(inner)]
        return [(folder, depth + 1), *below]
    fits = re.compile(translate(part)).match
    return [
        (inner, depth + 1)
        for name in names
        if (part.startswith(".") or not name.startswith(".")) and fits(name)
        for inner in [os.path.join(folder, name)]
        if last or os.path.isdir(inner)
    ]


def _names(folder: str) -> list[str]:
    """What lies in a folder; nothing where it cannot be opened."""
    try:
        with os.scandir(folder or ".") as entries:
            return [entry.name for entry in islice(entries, MOST_NAMES + 1)]
    except OSError:
        return []


def is_remote(text: str) -> bool:
    """Whether a text names a place on the network, which nothing here looks at."""
    return "://" in text


def looks_local(name: str) -> bool:
    """Whether a name, of a data set or a model, is a path: it is written like one, or something of that name is there.

    The names of builders, such as json, never are.
    """
    written = name.lstrip()[:1] in ("/", ".", "~", "\\")
    return name not in BUILDERS and (written or (bool(name) and os.path.lexists(expand_home(name))))
