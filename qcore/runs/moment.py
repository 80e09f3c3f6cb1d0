"""Runs as they were at one moment: what is read of a run comes from one snapshot of its database, whoever asks.

A page says the same thing in many places: a badge, a sentence, a slider, a title, the end of a curve. Each of them read
by itself shows another age of a run that trains. Inside a moment everything that this thread reads of a run comes from
the one snapshot that began with the first question about it; the run's state, which also depends on whether a worker
holds it, is settled at that question. Each further run has a snapshot of its own.

A moment ends with an action (a command, a sample, a fork): what is read afterwards is of a new one, or the answer to
the action could never be seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from qcore.runs.errors import LabError
from qcore.runs.info import Hold, RunInfo
from qcore.runs.reader_set import RunReaderSet
from qcore.store import Command as CommandRow
from qcore.store import RunReader

MOST = 16
"""Runs that can be held at once, as each takes an open file; any more are read as they are when they are asked for."""


class Moment(RunReaderSet):
    """A lab to be read from, at one moment. It belongs to one thread; `close` it, or `renew` it to read anew."""

    def __init__(self, lab: RunReaderSet) -> None:  # not RunReaderSet's own: folder and caches are the lab's
        self.lab = lab
        self._readers_held: dict[str, RunReader] = {}
        self._holds: dict[str, Hold] = {}
        self._infos: dict[str, RunInfo] = {}
        self._listed: list[RunInfo] | None = None
        self._open = contextlib.ExitStack()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lab, name)

    def renew(self) -> None:
        """Let go of all that is held: what is read from now on is of a new moment."""
        self._readers_held.clear()
        self._holds.clear()
        self._infos.clear()
        self._listed = None
        self._open.close()

    close = renew

    def reader(self, name: str) -> RunReader:
        """The run's reader, which in this thread reads one snapshot until the moment ends."""
        if name in self._readers_held:
            return self._readers_held[name]
        reader = self.lab.reader(name)
        if len(self._readers_held) < MOST:
            self._holds[name] = self.lab.hold(name)  # before the snapshot begins
            self._open.enter_context(reader.moment())
            self._readers_held[name] = reader
        return reader

    def info(self, name: str) -> RunInfo:
        """State and newest figures of one run, the same however often it is asked for."""
        if name not in self._infos:
            reader = self.reader(name)
            if name not in self._holds:
                return self.lab.info(name)
            self._infos[name] = self.lab._info(name, reader, self._holds[name])
        return self._infos[name]

    def listed(self, name: str) -> RunInfo:
        """As `info` gives it; a run that cannot be read as the lab lists it."""
        try:
            return self.info(name)
        except (LabError, OSError):
            return self.lab.listed(name)

    def runs(self) -> list[RunInfo]:
        """Every run, newest first, as they were when this was first asked; runs that are held, as they are held."""
        if self._listed is None:
            self._listed = self.lab.runs()
        return [self._infos.get(info.name, info) for info in self._listed]

    def outcome(self, name: str, command_id: int, timeout: float = 0.0) -> CommandRow:
        """A command's row as `Lab.outcome` gives it; waiting for an answer ends the moment."""
        outcome: Callable[..., CommandRow] = self.lab.outcome  # type: ignore[attr-defined]
        if timeout:
            self.renew()
        else:
            self.reader(name)
        return outcome(name, command_id, timeout)

    def _is_here(self, name: str) -> bool:
        return self.lab._is_here(name)
