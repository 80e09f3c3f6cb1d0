"""What forks and rewinds ask of the store: a copy of a live run, a meta value from outside, events that are let go."""

import pytest

from qcore.store import Event, Inbox, RunReader, RunWriter, copy_database


def test_a_copy_of_a_run_that_is_being_written_is_whole(tmp_path):
    source, target = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    with RunWriter(source) as writer:
        for step in range(1, 200):
            writer.log_scalars(step, {"loss": 1 / step})
        writer.flush()
        copy_database(source, target)
        writer.log_scalars(200, {"loss": 0.0})
        with pytest.raises(FileExistsError, match="never writes over a run"):
            copy_database(source, target)
    with RunReader(source) as ours, RunReader(target) as theirs:
        assert theirs.scalars("loss").values.tolist() == ours.scalars("loss").values.tolist()[:-1]
    with RunWriter(target) as writer:
        writer.log_scalars(200, {"loss": 2.0})
    with RunReader(target) as theirs:
        assert theirs.last("loss") == (200, 2.0)
    with pytest.raises(FileNotFoundError):
        copy_database(tmp_path / "nothing.sqlite", tmp_path / "c.sqlite")


def test_a_meta_value_is_set_beside_a_living_writer(tmp_path):
    path = tmp_path / "run.sqlite"
    with RunWriter(path) as writer:
        writer.set_meta("kind", "phase_lm")
        writer.flush()
        with Inbox(path) as inbox:
            inbox.set_meta("remark", {"parent": "a"})
            with pytest.raises(ValueError, match="belongs to the store"):
                inbox.set_meta("writer", "me")
        writer.set_meta("kind", "transformer")
    with RunReader(path) as reader:
        meta = reader.meta()
    assert (meta["remark"], meta["kind"]) == ({"parent": "a"}, "transformer")


def test_events_are_forgotten_by_their_number(tmp_path):
    path = tmp_path / "run.sqlite"
    with RunWriter(path) as writer:
        for seq in range(1, 6):
            writer.add_event(Event(seq, 10 - seq, 0.0, "person", "pause", {}))
        writer.forget_events([2, 4, 99])
    with RunReader(path) as reader:
        assert [event.seq for event in reader.events()] == [1, 3, 5]
