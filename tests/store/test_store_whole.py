"""What belongs together gets into one commit, and of many looks at one thing the last one alone is written."""

import threading
from dataclasses import replace
from pathlib import Path

from qcore.store import Finding, RunReader, RunWriter
from qcore.store.backlog import Backlog, Row, Scalars, Truncate, Write
from qcore.store.records import PUT_FINDING

FOUND = Finding("stuck", "stuck", 10, 10, "active", {"numbers": [], "figure": None}, "Stuck at 1", "", [])


def look(step: int) -> Finding:
    return replace(FOUND, last_step=step, title=f"Stuck at {step}")


def test_nothing_is_taken_while_a_step_is_being_told() -> None:
    backlog = Backlog(1000, 0.0)
    taken: list[object] = []
    taker = threading.Thread(target=lambda: taken.extend(backlog.take()))
    with backlog.whole:
        backlog.add_scalars(1, ("a",), b"12345678")
        taker.start()
        backlog.put("stuck", Row(PUT_FINDING, look(1)))
        taker.join(0.2)
        assert taken == []
    taker.join(20)
    assert [type(item) for item in taken] == [Scalars, Row]


def test_readers_see_a_step_with_all_that_was_said_of_it(tmp_path: Path) -> None:
    """At any instant: the newest scalars and the last look are of the same step."""
    path = tmp_path / "run" / "run.sqlite"
    with RunWriter(path, commit_interval=0.001) as writer, RunReader(path) as reader:
        writer.put_finding(FOUND)
        over = threading.Event()
        wrong: list[tuple[int, int]] = []

        def compare() -> None:
            while not over.is_set():
                with reader.moment():
                    step, finding = reader.newest_step(), reader.findings()
                if step > 10 and finding[0].last_step != step:
                    wrong.append((step, finding[0].last_step))

        watcher = threading.Thread(target=compare)
        watcher.start()
        for step in range(11, 3000):
            with writer.whole:
                writer.log_scalars(step, {"a": 1.0})
                writer.update_finding(look(step))
        writer.flush()
        over.set()
        watcher.join(20)
        assert wrong == []
        assert reader.findings() == [look(2999)]


def test_of_many_looks_the_last_is_written_and_news_are_not_overtaken(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.sqlite"
    with RunWriter(path, commit_interval=60) as writer, RunReader(path) as reader:
        writer.put_finding(FOUND)
        for step in (11, 12, 13):
            writer.update_finding(look(step))
        writer.flush()
        assert reader.findings() == [look(13)]
        writer.update_finding(look(14))
        writer.put_finding(replace(look(15), state="resolved"))
        writer.flush()
        assert reader.findings() == [replace(look(15), state="resolved")]


def test_a_look_from_before_a_rewind_does_not_come_back_after_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.sqlite"
    with RunWriter(path, commit_interval=60) as writer, RunReader(path) as reader:
        writer.put_finding(FOUND)
        writer.update_finding(look(14))
        writer.truncate_after(5, event_seq=0)
        writer.flush()
        assert reader.findings() == []


def test_a_look_that_could_not_be_written_is_older_than_what_came_since() -> None:
    backlog = Backlog(1000, 0.0)
    backlog.put("stuck", Row(PUT_FINDING, look(1)))
    failed = backlog.take()
    backlog.put("stuck", Row(PUT_FINDING, look(2)))
    backlog.put_back(failed)
    assert len(backlog) == 2
    assert [item.record.last_step for item in backlog.take() if isinstance(item, Row)] == [1, 2]
    backlog.put("stuck", Row(PUT_FINDING, look(3)))
    backlog.add(Truncate(0, 0))
    backlog.add(Write("", ()))
    assert [type(item) for item in backlog.take()] == [Row, Truncate, Write]
