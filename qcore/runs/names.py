"""Run names: checked before they become folders, so that no name leaves the runs folder or hides in it."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path

from qcore.runs.errors import LabError, lab_errors

MAX_BYTES = 120
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def check_name(name: str) -> str:
    r"""The name, normalised (NFC), or `LabError` with the reason.

    Letters of any script, digits, spaces, emoji and punctuation are fine; refused are the empty name, a leading dot or
    space, a trailing dot or space, `/ \ : * ? " < > |`, control characters, and more than 120 bytes of UTF-8.
    """
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    try:
        plain = unicodedata.normalize("NFC", name)
        size = len(plain.encode("utf-8"))
    except UnicodeEncodeError:
        raise LabError(f"run name {shown} is refused: it is not valid Unicode text") from None
    if not plain:
        raise LabError(
            "the run name is empty; give it a name, or leave it out for one made from the preset and the time"
        )
    if size > MAX_BYTES:
        raise LabError(f"run name {shown} is refused: it has {size} bytes; {MAX_BYTES} are allowed")
    if found := _FORBIDDEN.search(plain):
        raise LabError(f"run name {shown} is refused: it contains {found.group()!r}; use letters, digits, '-' or '_'")
    if plain[0] in ". " or plain[-1] in ". ":
        raise LabError(f"run name {shown} is refused: it must not begin or end with a dot or a space")
    return plain


def fresh_name(runs_dir: Path, stem: str) -> str:
    """A name that no run has yet: the stem, the day and the time, and a number if need be."""
    base = f"{stem}-{time.strftime('%m%d-%H%M%S')}"
    name, number = base, 2
    while (runs_dir / name).exists():
        name, number = f"{base}-{number}", number + 1
    return name


def open_folder(runs_dir: Path | str) -> Path:
    """The runs folder with its links resolved, made when there is none.

    Raises:
        LabError: for what cannot be one.
    """
    path = Path(os.path.realpath(runs_dir))  # unlike `Path.resolve`, it bears links that lead in a circle
    with lab_errors("the runs folder cannot be used"):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            what = "a link that leads nowhere" if path.is_symlink() else "a file, not a folder"
            raise LabError(
                f"the runs folder {str(runs_dir)!r} is {what}: name a folder, or a path that is free"
            ) from None
    return path


def printable_name(name: str) -> str:
    """A name, or another text of a file, as a page can show it: bytes that are no UTF-8 become "?"."""
    return name.encode("utf-8", "replace").decode("utf-8")


def suggest_name(runs_dir: Path, name: str) -> str:
    """A name that a run may have and none has, as near as can be to one that is refused."""
    plain = unicodedata.normalize("NFC", printable_name(name))
    plain = _FORBIDDEN.sub("-", plain).encode("utf-8")[: MAX_BYTES - 8].decode("utf-8", "ignore").strip(". ") or "run"
    found, number = plain, 2
    while (runs_dir / found).exists():
        found, number = f"{plain}-{number}", number + 1
    return found
