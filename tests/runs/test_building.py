"""Run folders are made aside: no kill leaves a name taken, and leftovers go when nobody holds them."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from qcore.lab import Lab, LabError
from qcore.lab.export import export_run, import_run
from qcore.runs import building
from qcore.runs.building import (
    FORKING,
    IMPORTING,
    OLD_SECONDS,
    STARTING,
    TakenError,
    is_run_folder,
    sweep,
)
from qcore.runs.layout import LOCK_FILE, RunLock
from tests.support.configs import small_config

MAKER = """
import sys, time
from pathlib import Path
from qcore.runs.building import building
with building(Path(sys.argv[1]), sys.argv[2]) as site:
    (site.path / "config.yaml").write_text("seed: 1")
    print(site.path.name, flush=True)
    time.sleep(600)
"""


def maker(runs, kind):
    """A process that makes a run and does not end; its process and the hidden folder's name."""
    process = subprocess.Popen([sys.executable, "-c", MAKER, str(runs), kind], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", [STARTING, FORKING, IMPORTING])
def test_leftovers_of_a_dead_maker_go_and_a_living_one_keeps_its_own(tmp_path, kind):
    dead, left = maker(tmp_path, kind)
    end(dead)
    living, kept = maker(tmp_path, kind)
    try:
        assert entries(tmp_path) == sorted([left, kept])
        with Lab(tmp_path) as lab:
            assert entries(tmp_path) == [kept]
            assert lab.runs() == []
        assert sweep(tmp_path) == []
        assert (tmp_path / kept / "config.yaml").exists()
    finally:
        end(living)
    assert sweep(tmp_path) == [kept]


def test_a_strangers_files_are_left(tmp_path):
    strangers = [
        ".importing-notes",
        ".starting-0123456789ab",
        ".forking-0123456789ab",
        ".cache",
        "work",
        ".deleting-00000000aaaa",
    ]
    for name in strangers:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("mine")
    (tmp_path / ".starting-0123456789ab" / LOCK_FILE).touch()
    (tmp_path / ".importing-abcdefgh").write_text("a file")
    (tmp_path / ".importing-abcdefgi").symlink_to(tmp_path / "work", target_is_directory=True)
    for path in [*tmp_path.rglob("*"), *tmp_path.iterdir()]:
        os.utime(path, (1e9, 1e9))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert sweep(tmp_path) == []
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_leftovers_of_earlier_versions_go_when_nothing_in_them_has_changed_for_long(tmp_path):
    old, fresh = tmp_path / ".importing-ab_d3fgh", tmp_path / ".forking-0123456789ab"
    for folder in (old, fresh):
        (folder / "step-000010").mkdir(parents=True)
        (folder / "step-000010" / "model.safetensors").write_bytes(b"weights")
        (folder / "run.sqlite").write_bytes(b"")
        long_ago = time.time() - OLD_SECONDS - 60
        for path in (
            folder / "step-000010" / "model.safetensors",
            folder / "step-000010",
            folder / "run.sqlite",
            folder,
        ):
            os.utime(path, (long_ago, long_ago))
    os.utime(fresh / "step-000010" / "model.safetensors")  # still being unpacked
    assert sweep(tmp_path) == [old.name]
    assert entries(tmp_path) == [fresh.name]


def test_makers_and_sweepers_side_by_side_lose_nothing(tmp_path):
    """Whoever sweeps meanwhile, every folder that is being made stays until its maker moves it in."""
    over, problems = threading.Event(), []

    def sweeping():
        while not over.is_set():
            sweep(tmp_path)

    def making(number):
        try:
            for turn in range(30):
                with building.building(tmp_path, STARTING) as site:
                    (site.path / "config.yaml").write_text("seed: 1")
                    assert (site.path / "config.yaml").exists()
                    site.move_in(tmp_path / f"run-{number}-{turn}")
                    site.keep()
        except (OSError, LabError, AssertionError) as error:
            problems.append(error)

    sweepers = [threading.Thread(target=sweeping) for _ in range(2)]
    makers = [threading.Thread(target=making, args=(number,)) for number in range(3)]
    for thread in (*sweepers, *makers):
        thread.start()
    for thread in makers:
        thread.join()
    over.set()
    for thread in sweepers:
        thread.join()
    assert problems == []
    assert len(entries(tmp_path)) == 90
    assert all(is_run_folder(path) for path in tmp_path.iterdir())


GHOSTS = {
    "empty": [],
    "start killed": ["config.yaml"],
    "start killed with the lock": ["config.yaml", "run.lock"],
    "start killed in the database": ["config.yaml", "run.lock", "run.sqlite.new", "run.sqlite.new-wal"],
}


@pytest.mark.parametrize("ghost", GHOSTS)
@pytest.mark.parametrize("way", ["start", "fork", "import"])
def test_a_ghost_of_an_earlier_version_gives_its_name_back(lab, tmp_path, ghost, way):
    if way != "start":
        lab.start(small_config(), name="base")
        lab.wait("base", 60)
    folder = lab.runs_dir / "a"
    folder.mkdir()
    for name in GHOSTS[ghost]:
        (folder / name).write_text("seed: 1")
    if way == "start":
        lab.start(small_config(), name="a")
        assert lab.wait("a", 60).state == "finished"
    elif way == "fork":
        lab.fork("base", step=5, new_name="a")
        assert lab.wait("a", 60).state == "finished"
    else:
        export_run(lab, "base", tmp_path / "base.zip")
        import_run(lab, tmp_path / "base.zip", "a")
        assert lab.info("a").state == "finished"
    assert not [name for name in entries(lab.runs_dir) if name.startswith((".deleting", ".starting", ".forking"))]


def test_a_ghost_is_listed_with_what_to_do_and_can_be_deleted(lab):
    folder = lab.runs_dir / "a"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 1")
    (folder / "step-000010").mkdir()  # somebody deleted the database of a run: nothing to take over
    [info] = lab.runs()
    assert (info.name, info.state) == ("a", "unreadable")
    assert "delete the run" in info.remedy
    with pytest.raises(TakenError):
        lab.start(small_config(), name="a")
    lab.delete("a")
    assert entries(lab.runs_dir) == []


def test_what_is_no_run_keeps_its_name(lab, tmp_path):
    (lab.runs_dir / "notes").mkdir()
    (lab.runs_dir / "notes" / "thesis.tex").write_text("mine")
    (lab.runs_dir / "file").write_text("mine")
    (lab.runs_dir / "link").symlink_to(tmp_path / "elsewhere")
    (lab.runs_dir / "held").mkdir()
    (lab.runs_dir / "held" / "config.yaml").write_text("seed: 1")
    lock = RunLock(lab.runs_dir / "held")
    assert lock.acquire()
    before = sorted(str(path) for path in lab.runs_dir.rglob("*"))
    for name in ("notes", "file", "link", "held"):
        with pytest.raises(LabError, match="taken"):
            lab.start(small_config(), name=name)
    lock.release()
    assert sorted(str(path) for path in lab.runs_dir.rglob("*")) == before


def test_two_that_start_one_name_make_one_run(tmp_path):
    with Lab(tmp_path) as one, Lab(tmp_path) as other:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "config.yaml").write_text("seed: 1")  # and both find a ghost
        answers = []

        def start(lab):
            try:
                answers.append(lab.start(small_config(), name="a"))
            except LabError as error:
                answers.append(str(error))

        threads = [threading.Thread(target=start, args=(lab,)) for lab in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted("taken" in answer for answer in answers) == [False, True]
        for lab in (one, other):
            lab.wait("a", 60)
        assert one.info("a").state == "finished"


def test_unnamed_runs_of_one_second_all_start(lab):
    names = [lab.start(small_config(steps=1)) for _ in range(3)]
    assert len(set(names)) == 3


def test_a_delete_that_is_killed_half_way_leaves_no_run(lab, monkeypatch):
    name = lab.start(small_config(), name="a")
    lab.wait(name, 60)

    def killed(path):
        (path / "run.sqlite").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        lab.delete(name)
    monkeypatch.undo()
    assert lab.runs() == []
    assert [path for path in entries(lab.runs_dir) if path.startswith(".deleting-")]
    with Lab(lab.runs_dir):
        assert entries(lab.runs_dir) == [".cache"]


def test_of_a_link_to_a_run_the_link_alone_is_deleted(lab, tmp_path):
    name = lab.start(small_config(steps=1), name="a")
    lab.wait(name, 60)
    os.rename(lab.runs_dir / name, tmp_path / "elsewhere")
    before = entries(tmp_path / "elsewhere")
    (lab.runs_dir / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    lab.delete(name)
    assert entries(lab.runs_dir) == [".cache"]
    assert entries(tmp_path / "elsewhere") == before


def test_an_export_that_was_killed_leaves_nothing_for_long(lab, tmp_path):
    name = lab.start(small_config(), name="a")
    lab.wait(name, 60)
    out = tmp_path / "out"
    out.mkdir()
    dead, left = maker(out, building.EXPORTING)
    end(dead)
    export_run(lab, name, out / "a.zip")
    assert left
    assert entries(out) == ["a.zip"]
