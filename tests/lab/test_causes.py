"""Why a run failed and for whom it waits, as declared facts that a page can act on."""

import errno
import math
import sqlite3

import pytest
import torch

from qcore.config import ConfigError, Continue, Pause, Stop
from qcore.data.text.files import read_files
from qcore.data.text.tables import ColumnChoice
from qcore.objectives import Total
from qcore.runs.failures import CAUSES, RunError, cause_of, sentence
from qcore.runs.last_words import WORDS_FILE, Failure, store_failure
from qcore.store import StoreTimeoutError
from qcore.train import text_engine
from tests.support.configs import eventually, small_config


def test_a_numeric_failure_says_its_cause(lab, monkeypatch):
    healthy = text_engine.total_loss

    def broken(inputs, controls, terms):
        total = healthy(inputs, controls, terms)
        return Total(total.loss * math.nan, {**total.parts, "ce": total.parts["ce"] * math.nan})

    monkeypatch.setattr(text_engine, "total_loss", broken)
    name = lab.start(small_config(budget_percent=0), name="nan")
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "numeric")


def test_data_that_are_not_there_are_the_cause(lab, tmp_path):
    text = tmp_path / "absent.txt"
    text.write_text("\n\n".join(f"the dog number {n} walks home" for n in range(80)))
    name = lab.start(small_config(source="text", path=str(text)), name="no-data")
    lab.wait(name, 60)
    text.unlink()
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "data")
    assert "absent.txt" in info.message


def test_data_that_changed_since_are_the_cause(lab, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"the dog number {n} walks home" for n in range(80)))
    name = lab.start(small_config(source="text", path=str(text)), name="changed")
    assert lab.wait(name, 60).state == "finished"
    text.write_text("\n\n".join(f"the cat number {n} sits there" for n in range(80)))
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "data")


def test_a_device_that_is_not_there_is_the_configuration(lab, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name = lab.start(small_config(device="cuda"), name="no-device")
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "configuration")
    assert "use auto or cpu" in info.message


def test_what_nobody_foresaw_is_a_bug_with_its_traceback(lab, monkeypatch):
    monkeypatch.setattr(text_engine, "total_loss", lambda *rest: [][0])
    name = lab.start(small_config(), name="bug")
    info = lab.wait(name, 60)
    assert (info.state, info.cause) == ("failed", "bug")
    assert "IndexError" in info.message
    assert any("Traceback" in line.message for line in lab.reader(name).log())


def test_an_interrupted_run_says_that_its_process_ended(lab):
    name = lab.start(small_config(), name="cut")
    lab.wait(name, 60)
    with sqlite3.connect(lab.runs_dir / name / "run.sqlite") as connection:
        connection.execute("UPDATE status SET state = 'running'")
    connection.close()
    info = lab.info(name)
    assert (info.state, info.cause) == ("interrupted", "process ended")


def test_queued_runs_say_for_whom_they_wait(lab):
    lab.start(small_config(steps=100_000), name="first")
    lab.start(small_config(), name="second")
    lab.start(small_config(), name="third")
    eventually(lambda: lab.info("first").state == "running")
    eventually(lambda: lab.info("third").state == "queued")
    second, third = lab.info("second"), lab.info("third")
    assert (second.waits_for, second.place) == (("first",), 1)
    assert (third.waits_for, third.place) == (("first",), 2)
    assert lab.info("first").waits_for == ()
    assert {info.name: info.waits_for for info in lab.runs()}["third"] == ("first",)
    lab.command("first", Pause())  # a paused run gives its place up
    assert lab.wait("second", 60).state == "finished"
    assert lab.wait("third", 60).state == "finished"
    assert lab.info("third").waits_for == ()
    lab.command("first", Continue())
    lab.command("first", Stop())
    lab.wait("first", 60)


def test_what_the_database_did_not_take_is_read_beside_it_until_the_next_worker(lab):
    name = lab.start(small_config(), name="words")
    lab.wait(name, 60)
    folder = lab.runs_dir / name
    blocker = sqlite3.connect(folder / "run.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store_failure(folder, Failure.of(OSError(errno.ENOSPC, "No space left on device", str(folder / "x")), 7, 12))
    assert (folder / WORDS_FILE).exists()
    info = lab.info(name)
    assert (info.state, info.cause) == ("failed", "disk")
    assert "the disk is full" in info.message
    blocker.execute("ROLLBACK")
    blocker.close()
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert (info.state, info.step, info.cause) == ("finished", 20, "")
    assert not (folder / WORDS_FILE).exists()


def test_words_of_an_earlier_life_and_junk_are_not_believed(lab):
    name = lab.start(small_config(), name="old")
    lab.wait(name, 60)
    words = lab.runs_dir / name / WORDS_FILE
    words.write_text('{"message": "the disk was full", "cause": "disk", "wall": 5.0}')
    assert lab.info(name).state == "finished"
    for junk in (
        b"",
        b"\xff",
        b"[" * 50_000,
        b"5",
        b'{"message": 5, "cause": "disk", "wall": 9e999}',
        b'{"message": "x", "cause": [], "wall": 1}',
        b'{"message": "x", "cause": "disk", "wall": ' + b"9" * 400 + b"}",
        b'{"message": "x", "cause": "disk", "wall": true}',
        b'{"message": "x", "cause": "disk", "wall": 1e15}',
    ):
        words.write_bytes(junk)
        assert lab.info(name).state == "finished"
        assert [info.state for info in lab.runs()] == ["finished"]
    words.write_text('{"message": "half \\ud83d", "cause": "disk", "wall": 9e10}')
    assert (lab.info(name).state, lab.info(name).message) == ("failed", "half ?")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_number_becomes_a_sentence(number):
    error = OSError(number, "strange words", "/runs/a/run.lock")
    text = sentence(error, "run 'a'")
    assert text.startswith("run 'a': ")
    assert "/runs/a/run.lock" in text
    assert "Errno" not in text
    assert text.count(": ") >= 2, "it says no remedy"
    assert cause_of(error) in CAUSES


def test_causes_of_errors():
    assert cause_of(MemoryError()) == "memory"
    assert cause_of(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")) == "memory"
    assert cause_of(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes")) == "memory"
    assert cause_of(ConfigError("x")) == "configuration"
    assert cause_of(ValueError("device = cuda: there is none"), opening=True) == "configuration"
    assert cause_of(RuntimeError("index out of range")) == "bug"
    assert cause_of(RunError("data", "x")) == "data"
    assert cause_of(sqlite3.ProgrammingError("Cannot operate on a closed database.")) == "bug"


def test_a_drive_that_does_not_answer_is_the_data_or_the_disk(tmp_path):
    late = StoreTimeoutError(tmp_path / "a" / "run.sqlite", 10.0)
    assert cause_of(late) == "disk"
    assert sentence(late).startswith("a/run.sqlite was not written within 10 s: ")
    assert cause_of(TimeoutError(errno.ETIMEDOUT, "late", "/runs/a")) == "disk"

    def listed():
        raise TimeoutError(errno.ETIMEDOUT, "late", "/share/text.txt")
        yield

    with pytest.raises(TimeoutError) as caught:
        read_files(listed(), ColumnChoice(), tmp_path, divided=True)
    assert cause_of(caught.value) == "data"
    assert "did not answer in time: check the share" in sentence(caught.value)


def test_long_errors_are_bounded():
    assert len(sentence(ValueError("x" * 100_000))) < 1000
    assert len(sentence(OSError(errno.ENOENT, "x", "/" + "y" * 100_000))) < 1000
