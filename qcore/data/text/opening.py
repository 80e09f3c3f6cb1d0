"""The library of data sets, kept to the root that a lab's owner has set, whatever a data set says of itself.

A data set names its own files: its README's front matter by patterns, which may lead anywhere, and a saved one's state
by names that are joined to its folder. Where they lead is asked before anything is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qcore.config import ConfigError, DataError, data_root
from qcore.config.dataroot import DATA_ROOT, check_below
from qcore.config.places import BUILDERS, is_remote, looks_local, plain_error, printable_path

_LARGEST_STATE = 16 << 20


def load_dataset(name: str, part: str, split: str, files: str | list[str]) -> Any:
    """`datasets.load_dataset`, once the files that it has found lie below the root.

    Raises:
        DataError: for one that does not; those of the library.
    """
    import datasets  # two seconds, and only this source needs it

    builder = datasets.load_dataset_builder(name, part or None, data_files=files or None) if data_root() else None
    if builder is not None:
        _check_resolved(name, builder.config.data_files)
    return datasets.load_dataset(name, part or None, split=split, data_files=files or None)


def _check_resolved(name: str, found: Any) -> None:
    """Refuse paths outside of the root that the lab's owner has set.

    Args:
        found: split → paths, as the library keeps them in a builder.
    """
    at_hand = name in BUILDERS or looks_local(name)
    for path in [str(one) for paths in (found or {}).values() for one in paths]:
        if is_remote(path):
            if at_hand or not path.startswith("hf://"):
                raise DataError(
                    f"data.hub_name = {printable_path(name)!r} is refused: it takes {printable_path(path)!r} from "
                    "a network, and "
                    f"{DATA_ROOT} restricts this lab to {str(data_root())!r}"
                )
            continue
        try:
            check_below(path, "data.hub_name" if name not in BUILDERS else "data.data_files")
        except ConfigError as error:
            raise DataError(f"data.hub_name = {printable_path(name)!r} is refused: of its files, {error}") from None


def check_saved(folder: Path) -> None:
    """Refuse a saved data set that takes files from outside of its own folder: `DataError`."""
    parts = _names(folder / "dataset_dict.json", "splits")
    for part in [folder / name for name in parts] or [folder]:
        _names(part / "state.json", "_data_files")


def _names(path: Path, key: str) -> list[str]:
    """Names of files or folders in one of its records; each must be a name alone."""
    try:
        if not path.is_file():
            return []
        if path.stat().st_size > _LARGEST_STATE:
            raise DataError(
                f"{printable_path(path)!r} holds more than {_LARGEST_STATE >> 20} MB: give a whole data set"
            )
        record = json.loads(path.read_bytes())
        listed = record[key] if isinstance(record, dict) else []
        names = [one["filename"] if isinstance(one, dict) else one for one in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"the saved data set {printable_path(path.parent)!r} cannot be opened: {path.name} is damaged "
            f"({plain_error(error)})"
        ) from error
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise DataError(
                f"the saved data set {printable_path(path.parent)!r} is refused: its {path.name} names "
                f"{printable_path(str(name))!r}, "
                "and a data set's parts lie in its own folder"
            )
    return names


def innermost_cause(error: BaseException) -> str:
    """The cause that an error began with, in one line: libraries wrap it in sentences that say nothing."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if inner is None or not isinstance(inner, Exception):
            break
        error = inner
    first = plain_error(error).split("\n")[0]
    return f"{type(error).__name__}: {first}" if isinstance(error, KeyError | StopIteration) else first[:500]
