"""A moment of a lab: one snapshot a run, whoever asks and however often, until an action ends it."""

import threading
from pathlib import Path

import pytest

from qcore.lab import Lab, Moment
from qcore.store import DATABASE_NAME, RunWriter, Status
from qcore.store.records import Event
from qcore.train.files import RunLock
from tests.helpers import small_config


class Growing:
    """A run that is written by hand, a step at a time."""

    def __init__(self, lab: Lab, name: str = "run") -> None:
        self.folder = lab.runs_dir / name
        self.folder.mkdir()
        (self.folder / "config.yaml").write_text(small_config().to_yaml())
        self.writer = RunWriter(self.folder / DATABASE_NAME)
        self.at = 0
        self.step()

    def step(self, state: str = "running", status_behind: int = 0) -> None:
        self.at += 1
        self.writer.log_scalars(self.at, {"train/loss": 10.0 / self.at})
        self.writer.add_event(Event(self.at, self.at, 1.0 * self.at, "person", "pause", {}))
        self.writer.set_status(Status(state, self.at - status_behind, 99, 0.0, 1, "here", extra={"loss": 99.0}))
        self.writer.flush()


@pytest.fixture
def lab(tmp_path: Path):
    with Lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def run(lab: Lab):
    growing = Growing(lab)
    yield growing
    growing.writer.close()


def test_whatever_is_asked_is_of_the_first_question(lab: Lab, run: Growing):
    moment = Moment(lab)
    before = moment.info("run")
    run.step()
    run.step("paused")
    assert moment.info("run") is before
    assert moment.listed("run") is before
    assert moment.reader("run").last("train/loss") == (before.step, 10.0)
    assert len(moment.reader("run").events()) == 1
    assert moment.reader("run").status().step == 1
    assert [info.step for info in moment.runs()] == [1]
    moment.close()
    assert moment.info("run").step == 3
    moment.close()
    assert lab.info("run").step == 3


def test_a_run_that_cannot_be_read_is_listed_with_its_reason(lab: Lab, run: Growing):
    broken = lab.runs_dir / "broken"
    broken.mkdir()
    (broken / DATABASE_NAME).write_bytes(b"no database at all")
    moment = Moment(lab)
    found = moment.listed("broken")
    assert (found.state, found.name) == ("unreadable", "broken")
    assert found.message
    assert moment.listed("run").state == moment.info("run").state
    moment.close()


def test_another_thread_is_not_held_back_nor_up(lab: Lab, run: Growing):
    moment = Moment(lab)
    moment.info("run")
    run.step()
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(lab.info("run").step))
    other.start()
    other.join(20)
    assert seen == [2]
    assert moment.info("run").step == 1
    moment.close()


def test_every_run_has_a_snapshot_of_its_own(lab: Lab, run: Growing):
    other = Growing(lab, "other")
    moment = Moment(lab)
    moment.info("run")
    run.step()
    other.step()
    assert (moment.info("run").step, moment.info("other").step) == (1, 2)
    other.step()
    assert {info.name: info.step for info in moment.runs()} == {"run": 1, "other": 2}
    moment.close()
    other.writer.close()


def test_the_step_is_that_of_the_newest_scalars_and_the_loss_belongs_to_it(lab: Lab, run: Growing):
    run.step(status_behind=1)
    info = lab.info("run")
    assert (info.step, info.loss) == (2, 5.0)
    assert lab.reader("run").status().step == 1


def test_a_run_that_ends_while_it_is_looked_at_is_not_one_that_was_killed(lab: Lab, run: Growing, monkeypatch):
    """Its worker lets go between the look at the lock and the look at the rows, or the other way round."""
    lock = RunLock(run.folder)
    assert lock.acquire()
    moment = Moment(lab)
    reader = moment.reader("run")
    reader.status()
    lock.release()
    run.step("finished")
    assert moment.info("run").state == "running"
    moment.close()
    assert moment.info("run").state == "finished"
    moment.close()


def test_waiting_for_an_answer_ends_the_moment(lab: Lab, run: Growing):
    from qcore.config import Pause
    from qcore.lab.lab import Inbox, to_row

    kind, payload = to_row(Pause())
    with Inbox(run.folder / DATABASE_NAME) as inbox:
        identity = inbox.submit(kind, payload, "person")
    moment = Moment(lab)
    assert moment.outcome("run", identity).status == "pending"
    run.writer.resolve_command(identity, "applied", 1, "done")
    run.writer.flush()
    assert moment.outcome("run", identity).status == "pending"
    assert moment.outcome("run", identity, 5.0).status == "applied"
    moment.close()
