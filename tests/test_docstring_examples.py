"""The examples in docstrings run, and the functions that a person would call have one.

An example sees the names of its module, and `torch`, `np`, `folder` (an empty one) and `lab`, whose run `first`, of
a small model, has finished its 12 steps.
"""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qcore
from qcore.lab import Lab
from tests.support.configs import small_config

LEAST = 40
FINDER = doctest.DocTestFinder(exclude_empty=True)


def _modules_with_examples() -> list[str]:
    """By their text, so that a module is only imported when it has one."""
    found = []
    for module in pkgutil.walk_packages(qcore.__path__, "qcore."):
        path = Path(qcore.__path__[0]).parent / Path(*module.name.split("."))
        file = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if "\n    >>> " in file.read_text(encoding="utf-8") or "        >>> " in file.read_text(encoding="utf-8"):
            found.append(module.name)
    return found


def _examples(module: str) -> list[doctest.DocTest]:
    return [test for test in FINDER.find(importlib.import_module(module)) if test.examples]


MODULES = _modules_with_examples()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What examples see beside their module's names."""
    folder = tmp_path_factory.mktemp("examples")
    with Lab(folder / "lab") as lab:
        lab.start(small_config(), name="first")
        assert lab.wait("first").state == "finished"
        yield {"lab": lab, "folder": folder, "np": np, "torch": torch}


@pytest.mark.parametrize("module", MODULES)
def test_examples_run_as_they_are_written(module: str, names: dict[str, Any]):
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in _examples(module):
        test.globs |= names
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


def test_the_functions_that_a_person_calls_have_an_example():
    shown = {test.name for module in MODULES for test in _examples(module)}
    assert all("._" not in name for name in shown), "an example belongs to what is public"
    assert len(shown) >= LEAST
