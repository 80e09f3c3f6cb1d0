"""Run with the paths of requirements files and modules: lets nothing be imported that the files do not name, then
imports the modules, their parts too. What is installed beside them is as good as absent.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


class OnlyClosure(importlib.abc.MetaPathFinder):
    """Refuses every module of an installed package whose distribution is not among `names`."""

    def __init__(self, names: set[str]) -> None:
        owners = importlib.metadata.packages_distributions()
        self.refused = {top for top, found in owners.items() if not {_normal(name) for name in found} & names}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in self.refused and top not in sys.stdlib_module_names and top != "qcore":
            raise ModuleNotFoundError(f"No module named {fullname!r}: it is not in the closure", name=fullname)
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> set[str]:
    """Names of a requirements file."""
    return {_normal(name) for name in re.findall(r"^([A-Za-z0-9][\w.-]*)", path.read_text("utf-8"), re.M)}


def close_to(*files: Path) -> None:
    """From now on only what the files name can be imported, and the standard library, and this project."""
    sys.meta_path.insert(0, OnlyClosure({name for file in files for name in pinned(file)}))


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
