"""The public face: what `qcore` exports, that it loads nothing before it is used, and one root for all errors."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import qcore
from qcore.cli import main

ROOT = Path(__file__).resolve().parent.parent
NAMES = [
    "CheckpointError",
    "ConfigError",
    "FindingInfo",
    "Lab",
    "LabError",
    "QcoreError",
    "RunConfig",
    "RunInfo",
    "StoreError",
    "__version__",
]
# Of the machine, of the code, or an answer of the protocol: no words of their own with a remedy.
OTHERS = {
    "ImpossibleTransitionError",
    "NonFiniteError",
    "Problem",
    "StopAskedError",
    "UnusableError",
    "WriterReplacedError",
}


def test_these_names_are_public_and_documented() -> None:
    assert qcore.__all__ == NAMES
    assert set(NAMES) <= set(dir(qcore))
    for name in NAMES[:-1]:
        found = getattr(qcore, name)
        assert found.__name__ == name
        assert inspect.getdoc(found)
        assert f"\n    {name} " in (qcore.__doc__ or ""), name


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Labb'; public are CheckpointError, ConfigError"):
        qcore.Labb  # noqa: B018


def test_importing_the_package_loads_none_of_its_rooms() -> None:
    source = "import sys, qcore; print(sorted(name for name in sys.modules if name.startswith('qcore.')))"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "['qcore.base', 'qcore.base.documents', 'qcore.base.errors', 'qcore.base.files', 'qcore.base.version']"
    )


def test_all_errors_have_one_root() -> None:
    found = {}
    for part in pkgutil.walk_packages(qcore.__path__, "qcore."):
        if part.name.startswith("qcore.faults") or part.name.endswith(("__main__", "connections_triton")):
            continue
        for name, value in vars(importlib.import_module(part.name)).items():
            if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == part.name:
                found[name] = value
    public = {name: value for name, value in found.items() if not name.startswith("_")}
    assert len(public) > 10
    assert {name for name, value in public.items() if not issubclass(value, qcore.QcoreError)} <= OTHERS


def test_the_version_is_read_from_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"collapse-lab {qcore.__version__}\n"
    places = [path for path in ROOT.glob("qcore/**/*.py") if f'"{qcore.__version__}"' in path.read_text("utf-8")]
    assert places == [ROOT / "qcore" / "base" / "version.py"]
