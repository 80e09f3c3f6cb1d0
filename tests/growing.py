"""A run that is written by hand, a step at a time: what is asked of it between two steps has one right answer."""

from __future__ import annotations

from qcore.lab import Lab
from qcore.store import DATABASE_NAME, RunWriter, Status
from qcore.store.records import Event
from tests.support.configs import small_config


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
