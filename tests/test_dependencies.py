"""What is installed is what was tested: every package that any part needs is pinned, and held to a hash."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"run.txt": set[str](), "ltx.txt": {"ltx"}, "dev.txt": {"dev", "ltx"}}
ANY_BUILD = re.compile(r"(torch|triton|cuda-|nvidia-)")
PROJECT = "collapse-lab"


def pins(path: Path) -> dict[str, str]:
    """Name → version of every line of a requirements file."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.M)
    assert len(dict(found)) == len(found), "a package is pinned twice"
    return dict(found)


def closure(extras: set[str]) -> dict[str, str]:
    """Name → installed version of everything that the project needs here, with these extras."""
    return _needed([(PROJECT, extras)])


def closure_of(names: set[str]) -> dict[str, str]:
    """Name → installed version of some packages and of everything that they need here."""
    found = {canonicalize_name(name): metadata.version(name).partition("+")[0] for name in names}
    return found | _needed([(name, {""}) for name in sorted(names)])


def _needed(waiting: list[tuple[str, set[str]]]) -> dict[str, str]:
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, wanted = waiting.pop()
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            active = any(need.marker.evaluate({"extra": extra}) for extra in wanted or {""}) if need.marker else True
            key = (canonicalize_name(need.name), ",".join(sorted(need.extras)))
            if not active or key in seen:
                continue
            seen.add(key)
            if key[0] != PROJECT:
                found[key[0]] = metadata.version(need.name).partition("+")[0]
            waiting.append((need.name, set(need.extras) | {""}))
    return found


@pytest.mark.parametrize("file", EXTRAS)
def test_all_that_is_needed_is_pinned_at_the_version_that_these_tests_run_with(file: str) -> None:
    needed = closure(EXTRAS[file] | {""})
    assert {"torch", "numpy", "streamlit"} <= needed.keys()
    pinned, hashed = pins(ROOT / "constraints.txt"), pins(ROOT / "requirements" / file)
    assert {name: pinned.get(name) for name in needed} == needed
    assert {name: hashed.get(name) for name in needed if not ANY_BUILD.match(name)} == {
        name: version for name, version in needed.items() if not ANY_BUILD.match(name)
    }


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_hashed_file_is_part_of_the_constraints(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert pins(path).items() <= pins(ROOT / "constraints.txt").items()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)[1:]
    assert len(blocks) == len(pins(path)) > (10 if path.name == "watch.txt" else 50)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)
    assert "://" not in text
    assert not any(ANY_BUILD.match(name) for name in pins(path))


def test_torch_is_exact_and_the_release_of_datasets_that_loses_its_place_is_refused() -> None:
    assert pins(ROOT / "constraints.txt")["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    datasets = next(need for need in map(Requirement, project["dependencies"]) if need.name == "datasets")
    assert not datasets.specifier.contains("5.0.0")
    assert not datasets.specifier.contains("5.0.7")
    assert datasets.specifier.contains("4.8.0")
    assert datasets.specifier.contains("5.2.0")
