"""A moment of a lab: one snapshot a run, whoever asks and however often, until an action ends it."""

import threading

from qcore.lab import Lab, Moment
from qcore.runs.layout import RunLock
from qcore.store import DATABASE_NAME
from tests.growing import Growing


def test_whatever_is_asked_is_of_the_first_question(bare_lab: Lab, growing: Growing):
    moment = Moment(bare_lab)
    before = moment.info("run")
    growing.step()
    growing.step("paused")
    assert moment.info("run") is before
    assert moment.listed("run") is before
    assert moment.reader("run").last("train/loss") == (before.step, 10.0)
    assert len(moment.reader("run").events()) == 1
    assert moment.reader("run").status().step == 1
    assert [info.step for info in moment.runs()] == [1]
    moment.close()
    assert moment.info("run").step == 3
    moment.close()
    assert bare_lab.info("run").step == 3


def test_a_run_that_cannot_be_read_is_listed_with_its_reason(bare_lab: Lab, growing: Growing):
    broken = bare_lab.runs_dir / "broken"
    broken.mkdir()
    (broken / DATABASE_NAME).write_bytes(b"no database at all")
    moment = Moment(bare_lab)
    found = moment.listed("broken")
    assert (found.state, found.name) == ("unreadable", "broken")
    assert found.message
    assert moment.listed("run").state == moment.info("run").state
    moment.close()


def test_another_thread_is_not_held_back_nor_up(bare_lab: Lab, growing: Growing):
    moment = Moment(bare_lab)
    moment.info("run")
    growing.step()
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(bare_lab.info("run").step))
    other.start()
    other.join(20)
    assert seen == [2]
    assert moment.info("run").step == 1
    moment.close()


def test_every_run_has_a_snapshot_of_its_own(bare_lab: Lab, growing: Growing):
    other = Growing(bare_lab, "other")
    moment = Moment(bare_lab)
    moment.info("run")
    growing.step()
    other.step()
    assert (moment.info("run").step, moment.info("other").step) == (1, 2)
    other.step()
    assert {info.name: info.step for info in moment.runs()} == {"run": 1, "other": 2}
    moment.close()
    other.writer.close()


def test_the_step_is_that_of_the_newest_scalars_and_the_loss_belongs_to_it(bare_lab: Lab, growing: Growing):
    growing.step(status_behind=1)
    info = bare_lab.info("run")
    assert (info.step, info.loss) == (2, 5.0)
    assert bare_lab.reader("run").status().step == 1


def test_a_run_that_ends_while_it_is_looked_at_is_not_one_that_was_killed(bare_lab: Lab, growing: Growing, monkeypatch):
    """Its worker lets go between the look at the lock and the look at the rows, or the other way round."""
    lock = RunLock(growing.folder)
    assert lock.acquire()
    moment = Moment(bare_lab)
    reader = moment.reader("run")
    reader.status()
    lock.release()
    growing.step("finished")
    assert moment.info("run").state == "running"
    moment.close()
    assert moment.info("run").state == "finished"
    moment.close()


def test_waiting_for_an_answer_ends_the_moment(bare_lab: Lab, growing: Growing):
    from qcore.config import Pause, to_row
    from qcore.store import Inbox

    kind, payload = to_row(Pause())
    with Inbox(growing.folder / DATABASE_NAME) as inbox:
        identity = inbox.submit(kind, payload, "person")
    moment = Moment(bare_lab)
    assert moment.outcome("run", identity).status == "pending"
    growing.writer.resolve_command(identity, "applied", 1, "done")
    growing.writer.flush()
    assert moment.outcome("run", identity).status == "pending"
    assert moment.outcome("run", identity, 5.0).status == "applied"
    moment.close()
