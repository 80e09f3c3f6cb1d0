"""What fails half way gives everything back: the run is not kept, its name is free, and it goes on once the cause is
gone."""

import contextlib
import errno
import math
import os
import shutil
import sqlite3
import threading

import pytest

from qcore.config import ConfigError, Stop
from qcore.lab import Lab, LabError
from qcore.lab import workers as module
from qcore.lab.export import export_run, import_run
from qcore.objectives import Total
from qcore.runs import checkpoint_folders, last_words, layout
from qcore.runs.building import Site
from qcore.runs.layout import CONFIG_FILE, is_held, lock_state
from qcore.store import RunWriter, schema
from qcore.train import text_engine
from tests.support.configs import eventually, small_config
from tests.support.trained import finished_run


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A locked database is given up after a moment, not after five seconds."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)


@contextlib.contextmanager
def locked(lab, name):
    """Another program keeps the run's database."""
    other = sqlite3.connect(lab.runs_dir / name / "run.sqlite", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def finished(lab, name="base", **changes):
    return finished_run(lab, small_config(**changes), name)


def losses(lab, name):
    found = lab.reader(name).scalars("train/loss")
    return found.steps.tolist(), found.values.tolist()


def is_free(lab, name):
    """Whether nothing holds the run, in this process or any."""
    return not lab.info(name).alive and not is_held(lab.runs_dir / name) and not lab._slots.waiting("?")[0]


def let_go(lab, name):
    """Wait for the run's worker, if it came to one."""
    if name in lab._workers:
        lab._workers[name].join(30)


def test_a_refused_resume_of_a_locked_run_holds_and_changes_nothing(lab):
    name = finished(lab)
    with locked(lab, name), pytest.raises(LabError, match="locked"):
        lab.resume(name, steps=30, changes={"learning_rate": 0.002, "ce_weight": 0.5})
    assert is_free(lab, name)
    assert [row for row in lab.reader(name).commands() if row.status == "pending"] == []
    lab.resume(name, steps=20)
    assert lab.wait(name, 60).step == 20


@pytest.mark.parametrize("act", ["delete", "rewind", "fork"])
def test_after_a_refused_resume_everything_else_works(lab, act):
    name = finished(lab)
    with locked(lab, name), pytest.raises(LabError):
        lab.resume(name, steps=30, changes={"learning_rate": 0.002})
    if act == "delete":
        lab.delete(name)
        assert lab.runs() == []
    elif act == "rewind":
        lab.rewind(name, 5, start=True)
        assert lab.wait(name, 60).state == "finished"
    else:
        child = lab.fork(name, step=5)
        assert lab.wait(child, 60).state == "finished"


def test_a_worker_that_finds_the_run_locked_says_so_and_lets_go(lab):
    name = lab.fork(finished(lab), step=5, start=False)
    with locked(lab, name):
        lab.resume(name)
        info = lab.wait(name, 60)
        assert (info.state, info.cause) == ("failed", "locked")
        assert not is_held(lab.runs_dir / name)
    lab.resume(name)
    info = lab.wait(name, 60)
    assert (info.state, info.step, info.cause) == ("finished", 12, "")


def test_a_rewind_of_a_locked_run_leaves_it_as_it_was(lab):
    name = finished(lab)
    with locked(lab, name), pytest.raises(LabError, match="locked"):
        lab.rewind(name, 5)
    assert [info.name for info in lab.runs()] == [name]
    assert is_free(lab, name)
    branch = lab.rewind(name, 5)
    assert branch == "base-until-12"


def test_a_damaged_run_ends_no_other(lab):
    finished(lab)
    other = lab.start(small_config(steps=100_000), name="other")
    eventually(lambda: lab.info(other).state == "running")
    database = lab.runs_dir / "base" / "run.sqlite"
    raw = database.read_bytes()
    database.write_bytes(raw[:100] + os.urandom(len(raw) - 100))
    for act in (
        lambda: lab.resume("base", steps=30),
        lambda: lab.resume("base", steps=30, changes={"learning_rate": 0.002}),
        lambda: lab.fork("base", step=5),
        lambda: lab.rewind("base", 5),
    ):
        with contextlib.suppress(LabError):
            act()
        let_go(lab, "base")
    assert not is_held(lab.runs_dir / "base")
    before = lab.info(other).step
    eventually(lambda: lab.info(other).step > before)
    lab.delete("base")
    lab.command(other, Stop())
    assert lab.wait(other, 60).state == "stopped"


def full(*rest, **options):
    raise OSError(errno.ENOSPC, "No space left on device", "x")


def many(*rest, **options):
    raise OSError(errno.EMFILE, "Too many open files", "x")


def forbidden(*rest, **options):
    raise PermissionError(errno.EACCES, "Permission denied", "x")


def no_locks(*rest):
    raise OSError(errno.ENOLCK, "No locks available")


def full_database(*rest, **options):
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


FAULTS = {
    "config cannot be written": (module, "write_text", full, "full"),
    "too many files": (layout.os, "open", many, "too many files"),
    "no right": (layout.os, "open", forbidden, "permission"),
    "no locks": (layout.fcntl, "flock", no_locks, "no locks"),
    "database full": (schema, "_connect", full_database, "full"),
    "no rename": (Site, "move_in", forbidden, "permission"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_that_fails_leaves_nothing(lab, fault):
    target, name, broken, words = FAULTS[fault]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, broken)
        with pytest.raises(LabError, match=words) as refusal:
            lab.start(small_config(), name="a")
    assert "Errno" not in str(refusal.value)
    assert ".starting" not in str(refusal.value)
    assert list(lab.runs_dir.iterdir()) == []
    lab.start(small_config(), name="a")
    assert lab.wait("a", 60).state == "finished"


@pytest.mark.parametrize("fault", ["too many files", "no right", "no locks", "database full"])
def test_a_resume_that_fails_gives_the_run_back(lab, fault):
    target, attribute, broken, _ = FAULTS[fault]
    name = finished(lab)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, attribute, broken)
        with contextlib.suppress(LabError):
            lab.resume(name, steps=30, changes={"learning_rate": 0.002})
        let_go(lab, name)
    assert is_free(lab, name)
    lab.resume(name, steps=20)
    assert lab.wait(name, 60).step == 20


@pytest.mark.parametrize("fault", ["database full", "no locks", "no right", "too many files"])
def test_a_fork_that_fails_leaves_nothing(lab, fault):
    target, attribute, broken, _ = FAULTS[fault]
    name = finished(lab)
    there = sorted(path.name for path in lab.runs_dir.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, attribute, broken)
        with pytest.raises(LabError):
            lab.fork(name, step=5, new_name="child")
        left = sorted(path.name for path in lab.runs_dir.iterdir() if path.name != "child")
    assert left == there
    if fault == "no locks":  # where nothing can train, a run can still be made, and says that it could not be started
        assert lab.info("child").state == "stopped"
        lab.delete("child")
    lab.fork(name, step=5, new_name="child")
    assert lab.wait("child", 60).state == "finished"


def test_a_thread_that_cannot_be_had_leaves_nothing(lab, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("train-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(LabError, match="no further thread"):
        lab.start(small_config(), name="a")
    assert list(lab.runs_dir.iterdir()) == []
    monkeypatch.setattr(threading.Thread, "start", start)
    lab.start(small_config(), name="a")
    assert lab.wait("a", 60).state == "finished", "a place was kept by the run that never began"


def test_a_finished_run_is_read_where_there_are_no_locks(lab, monkeypatch):
    name = finished(lab)
    monkeypatch.setattr(layout.fcntl, "flock", no_locks)
    assert lock_state(lab.runs_dir / name) is None
    assert lab.info(name).state == "finished"
    assert not lab.info(name).alive
    with pytest.raises(LabError, match="no locks"):
        lab.resume(name, steps=20)
    with Lab(lab.runs_dir) as other:
        assert [info.state for info in other.runs()] == ["finished"]
        other.delete(name)
        assert other.runs() == []


def test_a_run_that_speaks_is_believed_where_there_are_no_locks(lab, monkeypatch):
    name = lab.start(small_config(steps=100_000), name="live")
    eventually(lambda: lab.info(name).state == "running")
    with Lab(lab.runs_dir) as other, monkeypatch.context() as patch:
        patch.setattr(layout.fcntl, "flock", no_locks)
        assert other.info(name).state == "running"
        with pytest.raises(LabError, match="training"):
            other.delete(name)
    lab.command(name, Stop())
    lab.wait(name, 60)


def test_a_folder_moved_while_it_trains_is_said_and_can_go_on(lab, tmp_path):
    name = lab.start(small_config(steps=100_000, checkpoint_every=5), name="moved")
    eventually(lambda: lab.info(name).step > 10)
    os.rename(lab.runs_dir / name, tmp_path / "elsewhere")
    assert lab.info(name).here
    info = lab.wait(name, 60)
    assert (info.state, info.cause, info.here) == ("failed", "folder gone", False)
    assert "moved or deleted" in info.message
    os.rename(tmp_path / "elsewhere", lab.runs_dir / name)
    again = lab.info(name)
    assert (again.state, again.cause) == ("failed", "folder gone")
    lab.resume(name, steps=again.step + 5)
    assert lab.wait(name, 60).state == "finished"


def test_a_folder_deleted_while_it_trains_is_said(lab):
    name = lab.start(small_config(steps=100_000), name="deleted")
    eventually(lambda: lab.info(name).step > 3)
    shutil.rmtree(lab.runs_dir / name, ignore_errors=True)
    shutil.rmtree(lab.runs_dir / name, ignore_errors=True)
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "folder gone")
    lab.start(small_config(), name="deleted")
    assert lab.wait(name, 60).state == "finished"


def test_what_breaks_while_half_of_the_folder_is_gone_is_said_as_that(lab, monkeypatch):
    def broken(assignment):
        (assignment.run_dir / "run.sqlite").unlink()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("qcore.train.session.train_run", broken)
    lab.start(small_config(), name="halved")
    info = lab.wait("halved", 60)
    assert (info.state, info.cause) == ("failed", "folder gone")


# disk full


def test_a_checkpoint_that_finds_the_disk_full_fails_the_run_and_it_goes_on_bit_for_bit(lab, monkeypatch):
    write = checkpoint_folders._write_synced

    def sometimes(path, data):
        if "step-000010" in str(path):
            full()
        write(path, data)

    monkeypatch.setattr(checkpoint_folders, "_write_synced", sometimes)
    lab.start(small_config(steps=20), name="full")
    info = lab.wait("full", 60)
    assert (info.state, info.cause, info.step) == ("failed", "disk", 10)
    assert "the disk is full: free space" in info.message
    assert info.loss is not None
    assert not (lab.runs_dir / "full" / last_words.RESERVE_FILE).exists()
    assert [saved.step for saved in lab.checkpoints("full")] == [5]
    monkeypatch.setattr(checkpoint_folders, "_write_synced", write)
    lab.resume("full")
    assert lab.wait("full", 60).state == "finished"
    finished(lab, "twin", steps=20)
    assert losses(lab, "full") == losses(lab, "twin")


def test_a_numeric_failure_keeps_its_reason_where_its_last_state_finds_the_disk_full(lab, monkeypatch):
    healthy, write = text_engine.total_loss, checkpoint_folders._write_synced

    def broken(inputs, controls, terms):
        total = healthy(inputs, controls, terms)
        return Total(total.loss * math.nan, {**total.parts, "ce": total.parts["ce"] * math.nan})

    monkeypatch.setattr(text_engine, "total_loss", broken)
    monkeypatch.setattr(
        checkpoint_folders, "_write_synced", lambda path, data: full() if "step-" in str(path) else write(path, data)
    )
    name = lab.start(small_config(budget_percent=0), name="nan")
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "numeric")
    assert "the loss is not finite at step 1: ce" in info.message
    assert any("the disk is full" in line.message for line in lab.reader(name).log())
    with Lab(lab.runs_dir) as other:
        assert other.info(name).message == info.message


@pytest.fixture
def small_disk(monkeypatch):
    """Databases that take a few pages more than they have, as on a full disk; its two knobs."""
    room = {"pages": 8, "words": True}
    connect = schema._connect

    def limited(path, parameters, *rest):
        connection = connect(path, parameters, *rest)
        if "rw" in parameters and room["pages"] is not None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + room['pages']}")
        return connection

    read_reserve = last_words.store_failure

    def leave(run_dir, failure):
        room["pages"] = 0
        read_reserve(run_dir, failure)

    monkeypatch.setattr(schema, "_connect", limited)
    monkeypatch.setattr("qcore.train.worker.store_failure", leave)
    return room


def test_a_database_that_takes_no_more_fails_the_run_with_the_reason(lab, small_disk):
    name = lab.start(small_config(steps=3000, tokens_every=1, checkpoint_every=20), name="full")
    info = lab.wait(name, 100)
    assert (info.state, info.cause) == ("failed", "disk")
    assert "the disk is full" in info.message
    with Lab(lab.runs_dir) as other:  # who knows only what was written
        assert [(found.state, found.cause) for found in other.runs()] == [("failed", "disk")]
    small_disk["pages"] = None
    lab.resume(name, steps=max(60, info.step + 10), from_start=bool(lab.stranded_steps(name)))
    assert lab.wait(name, 60).state == "finished"


def test_the_worker_remembers_what_nothing_could_be_written_of(lab, small_disk, monkeypatch):
    monkeypatch.setattr(last_words, "write_words", full)
    name = lab.start(small_config(steps=3000, tokens_every=1, checkpoint_every=20), name="full")
    info = lab.wait(name, 100)
    assert (info.state, info.cause) == ("failed", "disk")
    assert [(found.state, found.cause) for found in lab.runs()] == [("failed", "disk")]


def test_room_is_kept_while_a_run_trains_and_given_back(lab):
    name = lab.start(small_config(steps=100_000), name="a")
    eventually(lambda: lab.info(name).state == "running")
    reserve = lab.runs_dir / name / last_words.RESERVE_FILE
    assert reserve.stat().st_size == last_words.RESERVE_BYTES
    lab.command(name, Stop())
    lab.wait(name, 60)
    assert not reserve.exists()


def test_the_room_is_given_back_before_a_run_says_that_it_is_finished(lab, monkeypatch):
    """No worker comes again to a finished run: what a kill leaves there would stay for ever."""
    kept = []
    set_status = RunWriter.set_status

    def watched(writer, status):
        if status.state == "finished":
            kept.append((lab.runs_dir / "a" / last_words.RESERVE_FILE).exists())
        set_status(writer, status)

    monkeypatch.setattr(RunWriter, "set_status", watched)
    lab.start(small_config(steps=3), name="a")
    assert lab.wait("a", 60).state == "finished"
    assert kept == [False]


# what stands in the way of nobody else


def test_new_runs_are_their_owners_alone_and_old_ones_stay_as_they_are(lab):
    name = finished(lab)
    folder = lab.runs_dir / name
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    lab.fork(name, step=5, start=False, new_name="child")
    branch = lab.rewind(lab.fork(name, step=10, new_name="back", start=False), 10)
    export_run(lab, name, lab.runs_dir.parent / "a.zip")
    import_run(lab, lab.runs_dir.parent / "a.zip", "imported")
    for made in ("child", branch, "imported"):
        for path in (lab.runs_dir / made, *(lab.runs_dir / made).rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
    folder.chmod(0o750)
    (folder / CONFIG_FILE).chmod(0o640)
    lab.resume(name, steps=20)
    lab.wait(name, 60)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / CONFIG_FILE).stat().st_mode & 0o777 == 0o640
    assert (folder / "step-000020").stat().st_mode & 0o070 == 0o050
    assert (folder / "step-000020" / "state.json").stat().st_mode & 0o070 == 0o040


def test_a_configuration_that_could_not_be_read_again_makes_no_run(lab):
    base = small_config()
    for prompts in (["a"] * 19_990, ["\x01" * 70_000]):  # each within its bounds; the file is not
        config = base.with_values({"prompts": prompts})
        with pytest.raises(
            ConfigError, match=r"could not be read again .*its longest value: probes\.prompts, [0-9,]+ letters"
        ):
            lab.start(config, name="large")
        assert os.listdir(lab.runs_dir) == []
    name = finished(lab)
    before = sorted(os.listdir(lab.runs_dir))
    with pytest.raises(ConfigError, match="could not be read again"):
        lab.fork(name, step=5, config_changes={"prompts": ["a"] * 19_990})
    assert sorted(os.listdir(lab.runs_dir)) == before
