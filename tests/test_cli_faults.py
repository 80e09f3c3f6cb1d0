"""Every command of the command line under every fault: one bounded line that says what and what to do, no traceback.

The table below names all commands; a command that is added and not tried here fails a test. `cli.main` runs in this
process, so that an exception that nobody turned into words is the test's own failure.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from qcore import cli
from qcore.cli.base import app
from qcore.store import schema
from tests.test_cli import SETS

LINE = 2200
WITHOUT_RUNS = {"presets", "controls", "rules"}
"""Commands that read nothing but this program's own declarations."""
FILES = {"exam": ["--keep"], "verdicts": ["--keep"]}
"""Commands that take no runs folder, with the option that takes a new one."""
ABOUT_A_RUN: dict[str, list[str]] = {
    "show": [],
    "set": ["learning_rate=0.002"],
    "step": [],
    "pause": [],
    "continue": [],
    "stop": [],
    "checkpoint": [],
    "sample": ["--prompt", "Once"],
    "clips": [],
    "resume": ["--steps", "12", "--quiet"],
    "replay": ["--quiet"],
    "fork": ["--step", "5", "--no-start"],
    "rewind": ["5"],
    "grow": ["--set", "width=16"],
    "effect": ["--step", "5", "--set", "learning_rate=0.002", "--steps", "2", "--forks", "2", "--jobs", "1"],
    "sweep": ["--step", "5", "learning_rate", "0.001", "0.002", "--steps", "2", "--jobs", "1"],
    "export": [],
}
READING = {"show", "sample", "export"}
LIVE = {"step", "pause", "continue", "stop", "checkpoint", "grow", "clips"}
"""Commands that a finished text run refuses for what it is, whatever the disk says."""
LONG = {"effect", "sweep", "replay"}
"""Commands that train in the runs folder, in processes of their own or here."""
ALL_RUNS: dict[str, list[str]] = {"list": [], "tree": []}
CREATING: dict[str, list[str]] = {
    "train": [*SETS, "--steps", "1", "--quiet"],
    "import": ["run.zip"],
    "bench": ["--no-quality", "--rounds", "1", "--models", "transformer", "--positions", ""],
    "ablate": ["--seeds", "1"],
    "serve": [],
    "mcp": [],
}

Refusal = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run of ten steps, `done`. Nobody changes it: `runs` is a copy."""
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", *SETS, "--steps", "10", "--name", "done", "--runs", str(runs), "--quiet"]) == 0
    return runs


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database is given up after a moment."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.1)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a command that must refuse, and return its one line."""

    def call(*arguments: str, codes: tuple[int, ...] = (2,)) -> str:
        capsys.readouterr()
        code = cli.main(list(arguments))
        said = capsys.readouterr().err
        assert code in codes, (code, said)
        line = said.strip().splitlines()[-1]
        assert line.startswith("qcore: ")
        assert_plain(said)
        assert len(line) <= LINE
        return line

    return call


def assert_plain(said: str) -> None:
    for unwanted in ("Traceback", "Errno", ".starting-", ".forking-", ".importing-", "codec can't"):
        assert unwanted not in said, said


def arguments(command: str, runs: Path, name: str = "done") -> list[str]:
    if command in ABOUT_A_RUN:
        return [command, name, *ABOUT_A_RUN[command], "--runs", str(runs)]
    more = {**ALL_RUNS, **CREATING}[command]
    return [command, str(runs)] if command == "serve" else [command, *more, "--runs", str(runs)]


def test_every_command_is_tried() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert commands == {*ABOUT_A_RUN, *ALL_RUNS, *CREATING, *FILES, *WITHOUT_RUNS}


@pytest.mark.parametrize("command", ABOUT_A_RUN)
def test_a_run_that_is_not_there(command: str, runs: Path, refused: Refusal) -> None:
    assert "'nobody'" in refused(*arguments(command, runs, "nobody"))


PLACES: dict[str, Callable[[Path], Path]] = {
    "a file": lambda base: base / "file",
    "under a file": lambda base: base / "file" / "runs",
    "links in a circle": lambda base: base / "loop",
    "a link to nowhere": lambda base: base / "dangling",
    "a name too long": lambda base: base / ("x" * 300),
    "not to be made": lambda base: Path("/proc/nobody/runs"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", [*ABOUT_A_RUN, *ALL_RUNS, *CREATING])
def test_a_runs_folder_that_cannot_be_one(command: str, place: str, tmp_path: Path, refused: Refusal) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "nowhere")
    refused(*arguments(command, PLACES[place](tmp_path)))


@pytest.mark.parametrize("command", FILES)
def test_a_folder_to_keep_that_cannot_be_made(command: str, tmp_path: Path, refused: Refusal) -> None:
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "runs"):
        assert str(tmp_path) in refused(command, *FILES[command], str(place))


@pytest.mark.parametrize("command", ABOUT_A_RUN)
@pytest.mark.parametrize("damage", ["random", "cut", "empty", "no configuration", "not UTF-8", "no database"])
def test_a_damaged_run(command: str, damage: str, runs: Path, refused: Refusal) -> None:
    database, config = runs / "done" / "run.sqlite", runs / "done" / "config.yaml"
    raw = database.read_bytes()
    match damage:
        case "random":
            database.write_bytes(raw[:4096] + bytes((n * 7919) % 251 for n in range(len(raw) - 4096)))
        case "cut":
            database.write_bytes(raw[: len(raw) // 3])
        case "empty":
            database.write_bytes(b"")
        case "no configuration":
            config.unlink()
        case "not UTF-8":
            config.write_bytes(b"seed: \xff\xfe\n")
        case "no database":
            database.unlink()
    if command == "export" and damage in ("no configuration", "not UTF-8"):
        pytest.skip("curves need no configuration")
    refused(*arguments(command, runs), codes=(1, 2))


@pytest.mark.parametrize("command", ALL_RUNS)
def test_lists_show_the_good_beside_the_damaged(command: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(runs / "done", runs / "bad")
    (runs / "bad" / "run.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert cli.main([command, "--runs", str(runs)]) == 0
    found = capsys.readouterr()
    assert "done" in found.out
    assert_plain(found.out + found.err)


@pytest.fixture
def locked(runs: Path) -> Iterator[None]:
    """Another program keeps the database of `done`."""
    other = sqlite3.connect(runs / "done" / "run.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("command", sorted(set(ABOUT_A_RUN) - LONG))
def test_a_locked_run(
    command: str, runs: Path, locked: None, refused: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    if command in ("show", "export", "fork"):  # which only read it
        assert cli.main(arguments(command, runs)) == 0
        return
    line = refused(*arguments(command, runs))
    if command not in LIVE:
        assert "locked" in line


@pytest.fixture
def read_only(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs lie on a disk that takes nothing: as the system says it, and as SQLite does."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def guarded(function: Callable[..., object], is_writing: Callable[..., bool]) -> Callable[..., object]:
        def call(path: object, *rest: object, **options: object) -> object:
            if isinstance(path, str | Path) and str(path).startswith(str(runs)) and is_writing(*rest):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return function(path, *rest, **options)

        return call

    monkeypatch.setattr(os, "open", guarded(os.open, lambda flags, *_: bool(flags & writing)))
    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "link", "symlink"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), lambda *_: True))
    connect = schema._connect

    def unwritable(path: Path, parameters: str, *rest: float | None) -> sqlite3.Connection:
        connection = connect(path, parameters, *rest)
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(schema, "_connect", unwritable)


@pytest.mark.parametrize("command", sorted({*ABOUT_A_RUN, "train"}))
def test_a_read_only_folder(
    command: str, runs: Path, read_only: None, refused: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    if command in ("show", "export"):
        assert cli.main(arguments(command, runs)) == 0
        return
    line = refused(*arguments(command, runs), codes=(1, 2))
    if command not in LIVE:
        assert "read-only" in line


@pytest.mark.parametrize("command", sorted({*ABOUT_A_RUN, "train"}))
def test_a_folder_without_rights(command: str, runs: Path, monkeypatch: pytest.MonkeyPatch, refused: Refusal) -> None:
    """No right to open or look at anything of the runs."""

    def forbidden(function: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *rest: object, **options: object) -> object:
            if isinstance(path, str | Path) and str(path).startswith(f"{runs}/"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *rest, **options)

        return call

    for name in ("open", "stat", "mkdir", "rename"):
        monkeypatch.setattr(os, name, forbidden(getattr(os, name)))
    line = refused(*arguments(command, runs), codes=(1, 2))
    if command not in LIVE:
        assert "denied" in line or "no run" in line


@pytest.mark.parametrize("what", ["not UTF-8", "a folder", "absent", "a device"])
def test_configuration_files_that_are_none(what: str, tmp_path: Path, refused: Refusal) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xff\xfe\n")
    path = {"not UTF-8": tmp_path / "latin.yaml", "a folder": tmp_path, "absent": tmp_path / "no.yaml"}.get(what)
    line = refused("train", "--config", str(path or "/proc/self/mem"), "--runs", str(tmp_path / "runs"), codes=(1, 2))
    assert str(path or "/proc/self/mem") in line


@pytest.mark.parametrize("target", ["folder", "missing/out.csv", "file/out.csv"])
@pytest.mark.parametrize("kind", ["csv", "zip", "html"])
def test_exports_to_where_nothing_can_be_written(
    target: str, kind: str, finished: Path, tmp_path: Path, refused: Refusal
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no folder")
    line = refused("export", "done", "--format", kind, "--out", str(tmp_path / target), "--runs", str(finished))
    assert str(tmp_path / target.split("/")[0]) in line
