"""The door for a program with a training loop of its own: a run of its own in a lab's folder.

    from qcore.runs.external_run import ExternalRun

    with ExternalRun("checkpoints", "my-gpt", source="train.py", settings={"learning_rate": 6e-4}) as run:
        for step in range(1000):
            ...
            run.writer.log_scalars(step, {"loss": loss})
            run.tell(step, 1000)

No trainer, no configuration and no torch: the name is checked and taken, the folder is locked as long as the run is
open, so that every page knows that it lives, and `writer` is the `RunWriter` of its database.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qcore.config import EXTERNAL, Domain, ExternalConfig
from qcore.runs.building import STARTING, TakenError, building
from qcore.runs.errors import lab_errors
from qcore.runs.external import CONTROLS, declared_controls
from qcore.runs.layout import CONFIG_FILE, write_text
from qcore.runs.names import check_name, open_folder
from qcore.store import DATABASE_NAME, RunWriter, Status


class ExternalRun:
    """A run that this program writes. Raises `LabError` for a name that is refused or taken, `ConfigError` for a
    description that cannot be, ValueError for a control that is not one; then nothing is made.

    source: what writes it, in a few words · domain: `text` or `video`, what its model makes · settings: values that are
    worth knowing, nested or flat · controls: declared ones, each a mapping with name and value, and what is known of
    low, high, unit, help, choices and scale; pages show them and their changes (events of kind `control`).
    """

    def __init__(
        self,
        runs_dir: Path | str,
        name: str,
        *,
        source: str = "",
        domain: Domain = "",
        settings: Mapping[str, Any] | None = None,
        controls: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.name = check_name(name)
        config = ExternalConfig.from_dict(
            {"kind": EXTERNAL, "source": source, "domain": domain, "settings": dict(settings or {})}
        )
        declared = _checked_controls(controls)
        folder = open_folder(runs_dir)
        if (folder / self.name / DATABASE_NAME).exists():
            raise TakenError(self.name)
        with lab_errors("the run cannot be started"), building(folder, STARTING) as site:
            write_text(site.path / CONFIG_FILE, config.to_yaml())
            with RunWriter(site.path / DATABASE_NAME) as writer:
                writer.set_meta("kind", EXTERNAL)
                writer.set_status(_status("running", 0, 0, ""))  # before anybody can look
                if declared:
                    writer.set_meta(CONTROLS, declared)
            site.move_in(folder / self.name)
            self.writer = RunWriter(folder / self.name / DATABASE_NAME)
            self._lock = site.lock
            site.lock = None  # this run's from here on
            site.keep()
        self._step = self._total = 0
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if error is None else "failed", "" if error is None else f"{kind.__name__}: {error}")  # type: ignore[union-attr]

    def tell(self, step: int, total_steps: int | None = None, *, state: str = "running", message: str = "") -> None:
        """Say how far the program is; a sign of life, too.

        Args:
            total_steps: as told before when it is left out.
        """
        self._step, self._total = step, self._total if total_steps is None else total_steps
        self.writer.set_status(_status(state, self._step, self._total, message))

    def close(self, state: str = "finished", message: str = "") -> None:
        """Say how it ended (finished, stopped or failed), write all that is queued, and give the lock back; a second
        call does nothing.
        """
        if not self._open:
            return
        self._open = False
        try:
            self.tell(self._step, state=state, message=message)
            self.writer.close()
        finally:
            if self._lock is not None:
                self._lock.release()


def _status(state: str, step: int, total_steps: int, message: str) -> Status:
    return Status(state, step, total_steps, time.time(), os.getpid(), socket.gethostname(), message)


def _checked_controls(controls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = [dict(one) for one in controls]
    names = [row.get("name") for row in rows]
    for row in rows:
        if "value" not in row or not isinstance(row.get("name"), str) or not declared_controls({CONTROLS: [row]}):
            raise ValueError(
                f"the control {row!r} is refused: give it a name of letters, digits and _ that begins with a letter, "
                "and the value that it begins with"
            )
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise ValueError(f"the control {twice[0]!r} is declared twice: leave one out")
    return rows
