"""What is asked for many times in a row is done once, and never lost."""

import threading
import time
from types import SimpleNamespace

import pytest

from pages.session import debounce
from pages.session.debounce import Debouncer
from tests.support.configs import eventually


@pytest.fixture
def settling():
    made = Debouncer()
    yield made
    made.close()
    assert not [one for one in threading.enumerate() if one.name == "settling knobs"]


class Asked:
    """Notes what was done, and what went wrong."""

    def __init__(self):
        self.done, self.failed = [], []

    def act(self, value):
        return lambda: self.done.append(value)


def test_the_last_of_many_is_done_once_it_is_quiet(settling, monkeypatch):
    now, asked = 100.0, Asked()
    monkeypatch.setattr(debounce, "time", SimpleNamespace(monotonic=lambda: now))
    for value in range(8):
        settling.put(("run", "weight"), asked.act(value), asked.failed.append, 0.03)
        now += 0.029
    time.sleep(0.1)  # which the thread uses to look, and nothing is due
    assert asked.done == []
    now += 0.01
    eventually(lambda: asked.done == [7])
    monkeypatch.undo()
    eventually(lambda: settling._thread is None)  # nothing waits, nothing runs
    settling.put(("run", "weight"), asked.act(8), asked.failed.append, 0.01)
    eventually(lambda: asked.done == [7, 8])


def test_what_is_held_waits_until_it_is_released(settling):
    """On a busy machine a script runs for seconds: what a person presses meanwhile comes only after it."""
    asked = Asked()
    settling.put(("run", "a"), asked.act(1), asked.failed.append, 60)
    settling.put(("other", "a"), asked.act(2), asked.failed.append, 60)
    time.sleep(0.1)
    assert asked.done == []
    settling.release(("run",), 0.05)
    settling.release(("run",), 60)  # a later word makes nothing wait longer
    eventually(lambda: asked.done == [1])
    time.sleep(0.1)
    assert asked.done == [1]


def test_keys_do_not_wait_for_one_another(settling):
    asked = Asked()
    settling.put(("run", "a"), asked.act("a"), asked.failed.append, 60)
    settling.put(("run", "b"), asked.act("b"), asked.failed.append, 0.01)
    eventually(lambda: asked.done == ["b"])


def test_what_waits_is_done_before_what_is_sent_next_and_only_that_of_the_run(settling):
    asked = Asked()
    settling.put(("one", "b"), asked.act("one b"), asked.failed.append, 50)
    settling.put(("one", "a"), asked.act("one a"), asked.failed.append, 60)
    settling.put(("two", "a"), asked.act("two a"), asked.failed.append, 60)
    settling.flush(("one",))
    assert asked.done == ["one b", "one a"]
    settling.close()
    assert asked.done == ["one b", "one a", "two a"]
    settling.close()
    settling.put(("one", "a"), asked.act("late"), asked.failed.append, 60)
    assert asked.done[-1] == "late"


def test_what_is_dropped_is_not_done(settling):
    asked = Asked()
    settling.put(("run", "a"), asked.act(1), asked.failed.append, 0.05)
    settling.drop(("run", "a"))
    settling.put(("run", "b"), asked.act(2), asked.failed.append, 0.05)
    eventually(lambda: asked.done == [2])
    settling.put(("run", "a"), asked.act(3), asked.failed.append, 0)
    assert asked.done == [2, 3]


def test_who_is_displaced_is_told_and_who_was_done_is_not(settling):
    asked, told = Asked(), []
    settling.put(("run", "a"), asked.act(1), asked.failed.append, 60, lambda: told.append(1))
    settling.put(("run", "a"), asked.act(2), asked.failed.append, 60, lambda: told.append(2))
    assert told == [1]
    settling.drop(("run", "a"))
    assert told == [1, 2]
    settling.put(("run", "a"), asked.act(3), asked.failed.append, 60, lambda: told.append(3))
    settling.flush()
    settling.put(("run", "a"), asked.act(4), asked.failed.append, 0, lambda: told.append(4))
    assert (told, asked.done, asked.failed) == ([1, 2], [3, 4], [])


def test_a_failure_is_told_and_ends_nothing(settling):
    asked = Asked()

    def broken():
        raise ValueError("no such run")

    settling.put(("run", "a"), broken, asked.failed.append, 0.01)
    settling.put(("run", "b"), asked.act("b"), asked.failed.append, 0.02)
    eventually(lambda: asked.done == ["b"])
    assert [str(error) for error in asked.failed] == ["no such run"]
