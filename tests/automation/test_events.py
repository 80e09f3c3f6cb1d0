"""The trainer's events: what a checkpoint holds, what lies ahead of it, and what replaces it."""

import pytest

from qcore.automation.events import EventLog
from qcore.store import DATABASE_NAME, Event, RunReader, RunWriter


@pytest.fixture
def writer(tmp_path):
    with RunWriter(tmp_path / DATABASE_NAME) as opened:
        yield opened


def control(seq, step, name="clip_norm", value=0.5, kind="control"):
    return Event(seq, step, 0.0, "person", kind, {"name": name, "old": 1.0, "new": value})


def due(history, *steps):
    return [[event.seq for event in history.due(step)] for step in steps]


def test_changes_after_a_state_lie_ahead_in_the_order_of_their_steps(writer):
    history = EventLog([control(1, 3), control(5, 9), control(6, 7), control(7, 4, kind="pause")], writer)
    history.plan(3, 1)
    assert due(history, 3, 6, 7, 8, 9, 10) == [[], [], [6], [], [5], []]
    history.plan(0, 0)
    assert due(history, 100) == [[1, 6, 5]]


def test_a_state_does_not_hold_what_is_still_ahead_of_it(writer):
    """A checkpoint written on the way to a change of an earlier worker: the next resume must make it, too."""
    history = EventLog([control(1, 3), control(2, 9)], writer)
    history.plan(3, 1)
    history.add(5, "control", control(0, 5).payload, "person")
    at_six = history.seq_at(6)
    assert at_six == 3
    history.plan(6, at_six)
    assert due(history, 8, 9) == [[], [2]]
    history.plan(3, 1)
    assert history.seq_at(9) == 1, "the change of step 9 is not made yet"
    assert due(history, 9) == [[3, 2]]
    assert history.seq_at(9) == 3


def test_a_new_change_replaces_the_ones_ahead(writer, tmp_path):
    history = EventLog([control(1, 3), control(2, 9), control(3, 9, "eos_weight")], writer)
    history.plan(3, 1)
    history.supersede(5, "clip_norm")
    assert due(history, 9) == [[3]]
    history.plan(3, 1)
    assert due(history, 9) == [[3]], "also for the next resume"
    writer.flush()
    with RunReader(tmp_path / DATABASE_NAME) as reader:
        assert [(event.seq, event.kind) for event in reader.events()] == [(2, "superseded")]
        assert "superseded" in reader.log()[0].message


def test_new_events_go_on_counting(writer):
    history = EventLog([control(4, 3)], writer)
    history.add(5, "pause", {}, "person")
    assert history.newest_event("pause", "control").seq == 5
    assert history.has_event("pause")
    assert not history.has_event("stop", "finish")
