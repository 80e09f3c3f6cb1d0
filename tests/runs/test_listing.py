"""Lists of many runs: what one of them is does not matter to the others, and looking again costs only what changed."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qcore.cli import main
from qcore.lab import Lab, LabError
from qcore.runs.listing import READERS
from qcore.store import DATABASE_NAME, RunReader, RunWriter
from qcore.store.schema import GuardedConnection
from tests.attacks.planted import whole_run
from tests.support.configs import alarmed


def copies(source: Path, runs: Path, count: int, age: float = 60.0) -> None:
    """So many copies of a run, by one database, as they would lie there after a while."""
    then = time.time() - age
    for place in range(count):
        folder = runs / f"run-{place:04}"
        folder.mkdir(parents=True)
        for name in (DATABASE_NAME, "config.yaml"):
            shutil.copy(source / name, folder / name)
            os.utime(folder / name, (then, then))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(tmp_path_factory.mktemp("one") / "run")


def descriptors() -> int:
    """How many descriptors of runs' databases this process has."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += "run.sqlite" in str(entry.readlink())
        except OSError:
            continue
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The databases that are opened from now on, one entry an opening."""
    found: list[str] = []
    plain = GuardedConnection.__init__

    def noted(self: GuardedConnection, *arguments: object, **settings: object) -> None:
        found.append(str(arguments[0]))
        plain(self, *arguments, **settings)

    monkeypatch.setattr(GuardedConnection, "__init__", noted)
    return found


def test_a_second_look_opens_only_what_has_changed(run: Path, tmp_path: Path, opened: list[str]) -> None:
    copies(run, tmp_path, 20)
    with Lab(tmp_path) as lab:
        first = lab.runs()
        assert len(opened) == 20
        assert lab.runs() == first
        assert lab.runs() == first
        assert len(opened) == 20
        assert len(lab.all_findings()) == len(lab.run_tree()) == 20
        many = len(opened)
        assert len(lab.all_findings()) == len(lab.run_tree()) == 20
        assert len(opened) == many
        with RunWriter(tmp_path / "run-0007" / DATABASE_NAME) as writer:
            writer.set_meta("preset", "another")
        del opened[:]
        changed = {info.name for info in lab.runs() if info.preset == "another"}
        assert changed == {"run-0007"}
        assert [Path(path).parent.name for path in opened] == ["run-0007"]


def test_what_is_new_gone_or_held_is_seen_at_the_next_look(run: Path, tmp_path: Path) -> None:
    copies(run, tmp_path, 3)
    with Lab(tmp_path) as lab:
        assert len(lab.runs()) == 3
        shutil.rmtree(tmp_path / "run-0001")
        shutil.copytree(run, tmp_path / "new")
        assert sorted(info.name for info in lab.runs()) == ["new", "run-0000", "run-0002"]
        # Another run at the same place, with the same times and size.
        with lab.holding("run-0002"):
            assert {info.name: info.alive for info in lab.runs()}["run-0002"]
        assert not {info.name: info.alive for info in lab.runs()}["run-0002"]


def test_fifty_runs_take_few_descriptors_and_all_are_given_back(run: Path, tmp_path: Path) -> None:
    copies(run, tmp_path, 50)
    before = descriptors()
    with Lab(tmp_path) as lab:
        lab.runs()
        lab.all_findings()
        assert descriptors() == before
        held = [lab.reader(f"run-{place:04}") for place in range(50)]
        assert descriptors() - before <= 60
        assert len(lab._readers) == READERS
        for reader in held:  # those that were let go still answer
            assert len(reader.events()) == 5
        assert descriptors() - before <= 60
    assert descriptors() == before


def test_a_reader_that_is_let_go_in_the_middle_of_a_read_finishes_it(run: Path, tmp_path: Path) -> None:
    copies(run, tmp_path, READERS + 4)
    with Lab(tmp_path) as lab:
        reader = lab.reader("run-0000")
        failures: list[BaseException] = []
        stop = threading.Event()

        def read() -> None:
            try:
                while not stop.is_set():
                    with reader.moment():
                        assert len(reader.events()) == 5
                        assert len(reader.scalars("train/loss")) == 12
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            for place in range(READERS + 4):
                lab.reader(f"run-{place:04}").meta()
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []


def test_another_run_at_the_same_place_is_read_anew(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "a")
    with Lab(tmp_path) as lab:
        assert len(lab.reader("a").events()) == 5
        shutil.rmtree(tmp_path / "a")
        with RunWriter(tmp_path / "a" / DATABASE_NAME) as writer:
            writer.set_meta("preset", "second")
        assert lab.reader("a").events() == []


_LIST = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from qcore.cli import main
assert main(["list", "--runs", sys.argv[1]]) == 0
"""


@pytest.mark.slow
def test_two_thousand_runs_are_listed_with_few_descriptors(run: Path, tmp_path: Path) -> None:
    copies(run, tmp_path, 2000)
    done = subprocess.run([sys.executable, "-c", _LIST, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("finished") == 2000
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 128


def _zeroed(folder: Path) -> None:
    data = bytearray((folder / DATABASE_NAME).read_bytes())
    data[16384:] = bytes(len(data) - 16384)
    (folder / DATABASE_NAME).write_bytes(data)


def _sql(statement: str):
    def spoil(folder: Path) -> None:
        with sqlite3.connect(folder / DATABASE_NAME) as connection:
            connection.execute(statement)
        connection.close()

    return spoil


DAMAGES = {
    "zeros": (_zeroed, "damaged"),
    "cut": (lambda folder: os.truncate(folder / DATABASE_NAME, 20_000), "damaged"),
    "half a page": (lambda folder: os.truncate(folder / DATABASE_NAME, 5000), "damaged"),
    "empty": (lambda folder: os.truncate(folder / DATABASE_NAME, 0), "belongs to another program"),
    "no database": (lambda folder: (folder / DATABASE_NAME).write_text("not one" * 99), "not an SQLite database"),
    "newer": (_sql("PRAGMA user_version = 99"), "update Collapse Lab"),
    "foreign": (_sql("PRAGMA application_id = 7"), "another program"),
    "a trigger": (_sql("CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM log; END"), "trigger 't'"),
    "created": (_sql("UPDATE meta SET value = 'null' WHERE key = 'created'"), "meta.created is None"),
    "state": (_sql("UPDATE status SET state = 'x'"), "run state 'x'"),
    "config bytes": (
        lambda folder: (folder / "config.yaml").write_bytes(b"seed: \xff\xfe"),
        "config.yaml is not UTF-8",
    ),
    "config values": (lambda folder: (folder / "config.yaml").write_text("model: {width: -3}"), "width = -3"),
    "config deep": (lambda folder: (folder / "config.yaml").write_text("[" * 900), "config.yaml"),
    "config gone": (lambda folder: (folder / "config.yaml").unlink(), "cannot be read"),
    "config a folder": (
        lambda folder: ((folder / "config.yaml").unlink(), (folder / "config.yaml").mkdir()),
        "cannot be read",
    ),
}


def test_runs_of_every_damage_are_listed_beside_good_ones(run: Path, tmp_path: Path, capsys) -> None:
    copies(run, tmp_path, 2)
    for name, (spoil, _) in DAMAGES.items():
        folder = tmp_path / name
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
        spoil(folder)
    with Lab(tmp_path) as lab:
        for _ in range(2):
            infos = {info.name: info for info in lab.runs()}
            for name, (_, words) in DAMAGES.items():
                assert infos[name].state == "unreadable", name
                assert words in infos[name].message, infos[name].message
                assert name in infos[name].message
                assert infos[name].remedy
            assert infos["run-0000"].state == infos["run-0001"].state == "finished"
        assert len(lab.run_tree()) == 2
        assert len(lab.all_findings()) >= 2
        for name in DAMAGES:
            with pytest.raises(LabError):
                lab.info(name)
    for command in (["list"], ["list", "--json"], ["tree"]):
        assert main([*command, "--runs", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert "run-0000" in out
        assert "Traceback" not in out
    assert main(["list", "--runs", str(tmp_path)]) == 0
    assert "newer cannot be read: newer/run.sqlite has schema version 99" in capsys.readouterr().out
    for name in DAMAGES:
        assert main(["show", name, "--runs", str(tmp_path)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("qcore: ")


def test_pipes_in_place_of_files_hide_and_hold_up_nothing(run: Path, tmp_path: Path) -> None:
    for name in ("run.lock", "config.yaml", "last-words.json", "labels.json"):
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
        (tmp_path / name / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name / name)
    with alarmed(), Lab(tmp_path) as lab:
        states = {info.name: info.state for info in lab.runs()}
        assert states.pop("config.yaml") == "unreadable"
        assert set(states.values()) == {"finished"}
        with pytest.raises(LabError, match="pipe or a device"):
            lab.token_labels("labels.json")
        with pytest.raises(LabError, match="pipe or a device"):
            lab.resume("run.lock", steps=10_000, from_start=True)


def test_what_nobody_foresaw_of_one_run_hides_no_other(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(run, tmp_path, 2)
    plain = Lab._read_listed_info

    def looked(self: Lab, name: str) -> object:
        return {}["key"] if name == "run-0000" else plain(self, name)

    monkeypatch.setattr(Lab, "_read_listed_info", looked)
    with Lab(tmp_path) as lab:
        assert {info.name: info.state for info in lab.runs()} == {"run-0000": "unreadable", "run-0001": "finished"}


def test_a_locked_run_is_unreadable_for_now(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcore.runs.reader_set.LIST_PATIENCE", 0.02)
    copies(run, tmp_path, 2)
    lock = sqlite3.connect(tmp_path / "run-0000" / DATABASE_NAME, isolation_level=None)
    lock.execute("PRAGMA locking_mode = EXCLUSIVE")
    lock.execute("BEGIN EXCLUSIVE")
    with Lab(tmp_path) as lab:
        infos = {info.name: info for info in lab.runs()}
        assert (infos["run-0000"].state, infos["run-0001"].state) == ("unreadable", "finished")
        assert "locked" in infos["run-0000"].message
        assert "Try again" in infos["run-0000"].remedy
        lock.execute("ROLLBACK")
        lock.close()
        assert {info.state for info in lab.runs()} == {"finished"}


@pytest.mark.parametrize(
    "name",
    ["a:b", "what?", " led", "trailing.", "x" * 130, "cafe\u0301", b"\xff\xfe".decode("utf-8", "surrogateescape")],
)
def test_a_folder_whose_name_is_refused_is_offered_another(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / name)
    shutil.copytree(run, tmp_path / "good")
    with Lab(tmp_path) as lab:
        infos = {info.name: info for info in lab.runs()}
        assert infos.pop("good").state == "finished"
        [info] = infos.values()
        info.name.encode()
        assert info.state == "unreadable"
        assert "is refused" in info.message
        assert "intact" in info.remedy
        new = info.remedy.split("'")[1]
        os.rename(tmp_path / name, tmp_path / new)
        assert {one.name: one.state for one in lab.runs()} == {"good": "finished", new: "finished"}


def test_a_reader_never_writes(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "a", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    before = (tmp_path / "a" / DATABASE_NAME).read_bytes()
    with RunReader(tmp_path / "a" / DATABASE_NAME) as reader:
        reader.meta()
    assert (tmp_path / "a" / DATABASE_NAME).read_bytes() == before
