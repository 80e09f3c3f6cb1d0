"""A root below which all files of data must lie, where the owner of a lab sets one: QCORE_DATA_ROOT.

Whoever operates a lab can read, by training on it, every file that its process can. With a root they can read what lies
below it, after all links are followed: texts, tables, videos, latents, weights. It is asked before a run exists, and
again before its data are opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from qcore.config.controls import ConfigError
from qcore.config.places import (
    BUILDERS,
    expand_home,
    is_pattern,
    is_remote,
    listed_files,
    looks_local,
    matching_files,
    plain_error,
)

if TYPE_CHECKING:
    from qcore.config.run import RunConfig

DATA_ROOT = "QCORE_DATA_ROOT"
MOST_LOOKED_AT = 500_000
PLACES: dict[str, tuple[str, ...]] = {
    "data": ("path", "validation_path"),
    "model": ("cache_dir",),
}
"""Settings that are a path of this machine, by section; `data.data_files` are several."""

NAMES: dict[str, tuple[str, ...]] = {"data": ("hub_name",), "model": ("model_id",)}
"""Settings that are a name on the hub, or else a path of this machine."""


def data_root() -> Path | None:
    """The root, with all links followed; None: none is set.

    Raises:
        ConfigError: where it is no folder.
    """
    said = os.environ.get(DATA_ROOT, "").strip()
    if not said:
        return None
    root = _resolve(said, DATA_ROOT)
    if not root.is_dir():
        raise ConfigError(f"{DATA_ROOT} = {said!r} is no folder: give it one, or leave it out to allow every path")
    return root


def check_root(config: RunConfig) -> None:
    """Raise `ConfigError`, naming setting, value and root, for a path of a configuration that leads outside. Settings
    that this run does not read are asked, too, as a later change of its source would read them.
    """
    root = data_root()
    if root is None:
        return
    for declared, only_paths in ((PLACES, True), (NAMES, False)):
        for section, names in declared.items():
            part = getattr(config, section)
            for name in names:
                value = getattr(part, name, "")
                if value and (only_paths or looks_local(value) or is_remote(value)):
                    _check(value, f"{section}.{name}", root)
    if files := getattr(config.data, "data_files", ""):
        _check_files(files, getattr(config.data, "hub_name", ""), root)


def check_below(path: str, setting: str) -> None:
    """Raise `ConfigError` for a file that a library is about to open for a setting, if it lies outside of the root."""
    root = data_root()
    if root is not None:
        _check(path, setting, root)


def _check_files(files: str, hub_name: str, root: Path) -> None:
    """Files of a builder such as json, or of a data set, which are named relative to it; several between commas."""
    folder = None if hub_name in BUILDERS else Path(expand_home(hub_name))
    for part in listed_files(files, folder):
        bare = folder is not None and not looks_local(part) and not is_remote(part) and ".." not in Path(part).parts
        if bare and folder is not None and "/" in hub_name and not folder.exists():
            continue  # of a data set on the hub
        _check(str(folder / part) if bare and folder is not None and folder.is_dir() else part, "data.data_files", root)


def _check(value: str, setting: str, root: Path) -> None:
    outside = ConfigError(
        f"{setting} = {value!r} is refused: it does not lie below {str(root)!r}, to which {DATA_ROOT} restricts this "
        "lab; put it there, or ask the lab's owner"
    )
    if is_remote(value) or "::" in value:  # fetched, or unpacked, by the library of data sets
        raise outside
    path = _resolve(value, setting)
    if not _is_below(path, root):
        raise outside
    for found in matching_files(value, setting) if is_pattern(value) else (path,):
        real = _resolve(str(found), setting)
        if not _is_below(real, root):
            raise outside
        if link := _find_link_out(real, root, setting):
            raise ConfigError(
                f"{setting} = {value!r} is refused: {link!r} in it is a link that leads out of {str(root)!r}, to "
                f"which {DATA_ROOT} restricts this lab; put a copy in its place"
            )


def _find_link_out(folder: Path, root: Path, setting: str) -> str:
    """A link below a folder that leads out of the root; empty without any."""
    looked_at = 0
    for parent, folders, files in os.walk(folder):
        looked_at += len(folders) + len(files)
        if looked_at > MOST_LOOKED_AT:
            raise ConfigError(
                f"{setting} = {str(folder)!r} is refused: it holds more than {MOST_LOOKED_AT:,} names, too many to "
                f"look for links that lead out of {str(root)!r}; give a folder of fewer"
            )
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            if os.path.islink(path) and not _is_below(_resolve(path, DATA_ROOT), root):
                return os.path.relpath(path, folder)
    return ""


def _is_below(path: Path, root: Path) -> bool:
    return path == root or root in path.parents


def _resolve(value: str, setting: str) -> Path:
    try:
        return Path(value).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a home of nobody, a NUL
        raise ConfigError(f"{setting} = {value!r} is refused: it cannot be followed ({plain_error(error)})") from None
