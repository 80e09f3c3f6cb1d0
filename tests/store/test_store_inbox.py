"""The door: commands in, handed out once, from threads, for live and finished runs."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qcore.store import CommandReader, Generation, Inbox, RunReader, RunWriter

Open = Callable[..., RunWriter]


def test_commands_are_handed_out_once_in_order(path: Path, open_writer: Open) -> None:
    writer = open_writer()
    inbox, commands = Inbox(path), CommandReader(path)
    assert commands.pending() == []
    first = inbox.submit("set_control", {"name": "lr", "value": 0.1}, "browser")
    second = inbox.submit("pause", {}, "cli")
    found = commands.pending()
    assert [(c.id, c.kind, c.author, c.status) for c in found] == [
        (first, "set_control", "browser", "pending"),
        (second, "pause", "cli", "pending"),
    ]
    assert found[0].payload == {"name": "lr", "value": 0.1}
    third = inbox.submit("stop", {}, "cli")  # the first two are still unresolved in the database
    assert [c.id for c in commands.pending()] == [third]
    assert commands.pending() == []
    writer.resolve_command(first, "applied", 5)
    writer.flush()
    assert commands.pending() == []
    commands.close()
    later = CommandReader(path)  # a resumed run sees what was never resolved
    assert [c.id for c in later.pending()] == [second, third]
    later.close()
    inbox.close()
    inbox.close()


def test_a_poll_reads_no_table_until_someone_commits(path: Path, open_writer: Open) -> None:
    open_writer()
    commands = CommandReader(path)
    commands.pending()
    statements: list[str] = []
    commands._connection.set_trace_callback(statements.append)
    commands.pending()
    assert statements == ["PRAGMA data_version"]
    with Inbox(path) as inbox:
        inbox.submit("stop", {}, "me")
    assert [command.kind for command in commands.pending()] == ["stop"]
    commands.close()


def test_an_idempotency_key_returns_the_same_command(path: Path, open_writer: Open) -> None:
    open_writer()
    with Inbox(path) as inbox, Inbox(path) as other, RunReader(path) as reader:
        first = inbox.submit("pause", {}, "me", "key-1")
        assert other.submit("pause", {}, "me", "key-1") == first
        assert inbox.submit("pause", {}, "me", "key-2") != first
        assert inbox.submit("pause", {}, "me") != inbox.submit("pause", {}, "me")
        assert len(reader.commands()) == 4
        with pytest.raises(ValueError, match="payload"):
            inbox.submit("pause", {"x": object()}, "me")
        with pytest.raises(ValueError, match="'odd'"):
            reader.commands("odd")


def test_an_inbox_serves_threads_and_finished_runs(path: Path, open_writer: Open) -> None:
    open_writer().close()
    with Inbox(path) as inbox, RunReader(path) as reader:
        threads = [
            threading.Thread(
                target=lambda: [inbox.submit("k", {}, "me", f"key-{n}") for n in range(20)], name=f"test-{i}"
            )
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(reader.commands("pending")) == 20
        inbox.put_generation(Generation("g", 5, 1.0, "prompt", "from a checkpoint", status="done"))
        assert [g.prompt for g in reader.generations()] == ["from a checkpoint"]
