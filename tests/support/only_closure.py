"""A process as on a machine that has some packages only: what else is installed here is as good as absent."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class OnlyClosure:
    """A finder of modules that finds none of `refused`."""

    def __init__(self, finder: Any, refused: set[str]) -> None:
        self._finder = finder
        self._refused = refused

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._refused:
            return None
        found: ModuleSpec | None = self._finder.find_spec(fullname, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def close_to(names: set[str]) -> None:
    """From now on only these packages can be imported, beside the standard library and this project."""
    owners = importlib.metadata.packages_distributions()
    mine = set(sys.stdlib_module_names) | {"qcore"}
    refused = {top for top, found in owners.items() if not {_normal(name) for name in found} & names} - mine
    sys.meta_path[:] = [OnlyClosure(finder, refused) for finder in sys.meta_path]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> set[str]:
    """Names of a requirements file."""
    return {_normal(name) for name in re.findall(r"^([A-Za-z0-9][\w.-]*)", path.read_text("utf-8"), re.M)}


def import_all(*names: str) -> int:
    """Import packages with all their parts; the number of modules."""
    count = 0
    for name in names:
        module = importlib.import_module(name)
        parts = [part.name for part in pkgutil.walk_packages(getattr(module, "__path__", ()), name + ".")]
        for part in parts:
            importlib.import_module(part)
        count += 1 + len(parts)
    return count
