"""What a page or the CLI shows of a run, as plain dataclasses, read from its folder without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcore.base.run_states import ACTIVE, TRANSITIONS, RunState, Trigger
from qcore.base.words import number_words
from qcore.config import FAMILIES, Capability, Control, RunConfig, live_controls
from qcore.probes import catalog
from qcore.runs.checkpoint_folders import can_resume
from qcore.runs.control_changes import changes_that_hold
from qcore.runs.failures import CAUSES
from qcore.runs.last_words import Failure, read_words
from qcore.runs.layout import CATCH_UP, has_recent_heartbeat, lock_state
from qcore.store import RunReader, Status

ENDED = "process ended"
IMPORTED = "imported"
"""Meta value of a run that was brought in from a file."""


@dataclass(frozen=True)
class RunInfo:
    """One row of the runs table.

    Attributes:
        state: queued, running, paused, finished, stopped, failed, interrupted (its worker died), unreadable, or
            recorded (another program wrote it and says nothing of its state).
        created: epoch seconds.
        family: text or video, empty where a run has neither.
        capabilities: what the run has to show.
        alive: a worker of some process holds it.
        here: that worker is in this process.
        step: of the newest scalars that the run's database holds, whose loss is `loss`.
        remedy: what to do about an unreadable one.
        loss, eval_ce: nats per token.
        eval_flow: mean squared error of the velocity.
        held_out_step: when the last of these was measured.
        cause: of a failure or interruption, one of `qcore.runs.failures.CAUSES`; empty when it is not known.
        waits_for: of a queued run of this process, the runs that hold the places.
        place: its own in the queue, from 1.
        source: of a run that another program wrote, what it says it is.
    """

    name: str
    state: RunState
    step: int = 0
    total_steps: int = 0
    created: float = 0.0
    kind: str = ""
    family: str = ""
    capabilities: frozenset[Capability] = frozenset()
    preset: str = ""
    parameters: int = 0
    message: str = ""
    alive: bool = False
    here: bool = False
    pid: int = 0
    loss: float | None = None
    eval_ce: float | None = None
    eval_flow: float | None = None
    held_out_step: int | None = None
    tokens_per_second: float | None = None
    frames_per_second: float | None = None
    seconds_left: float | None = None
    seconds_trained: float = 0.0
    memory_mb: float | None = None
    drops: int = 0
    remedy: str = ""
    cause: str = ""
    waits_for: tuple[str, ...] = ()
    place: int = 0
    source: str = ""

    @property
    def held_out(self) -> float | None:
        """The newest held-out loss, whatever the family measures."""
        return self.eval_flow if self.family == "video" else self.eval_ce

    @property
    def loss_unit(self) -> str:
        """Unit of the held-out loss."""
        if self.held_out is None and not self.family:
            return ""
        return "velocity error" if self.family == "video" else "nats per token"

    @property
    def model_text(self) -> str:
        """The model in words, such as `transformer, 12,345 parameters`; of a run that another program wrote, what that
        says of itself.
        """
        size = f"{self.parameters:,} parameters" if self.parameters or "trainer" in self.capabilities else ""
        return ", ".join(filter(None, (self.kind, self.source, size)))

    @property
    def rate_text(self) -> str:
        """Speed of training, such as `1,234 tokens/s`; empty before it is known."""
        rate, unit = (
            (self.frames_per_second, "frames") if self.family == "video" else (self.tokens_per_second, "tokens")
        )
        return "" if not rate else f"{number_words(rate, places=0)} {unit}/s"


@dataclass(frozen=True)
class ControlState:
    """A live control of a run: value now, initial value, number of changes, and the step and author of the last one."""

    control: Control
    value: Any
    default: Any
    version: int
    step: int | None
    author: str


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint on disk.

    Attributes:
        reason: interval, requested, risky change, stopped, end of run, last good state.
        bytes: size.
    """

    step: int
    reason: str
    created: float
    bytes: int
    path: Path


@dataclass(frozen=True)
class Hold:
    """Who has a run, asked before its rows are read: one that ends in between is then still shown at work, not as one
    that was killed.

    Attributes:
        here: a worker of this process.
        held: of any process; None where the file system has no locks.
        failure: what this process knows of the end of the run's last worker, should the database not have taken it.
    """

    here: bool
    held: bool | None
    failure: Failure | None = None

    @staticmethod
    def of(run_dir: Path, here: bool, failure: Failure | None = None) -> Hold:
        """As it is now."""
        return Hold(here, here or lock_state(run_dir), failure)


def run_info(run_dir: Path, reader: RunReader, config: RunConfig, hold: Hold) -> RunInfo:
    """Collect one run's row, all of one snapshot. A run that was active when its worker vanished is `interrupted`."""
    with reader.moment():
        info = _row(run_dir, reader, config, hold)
    # the hold was asked before the rows: a worker that began in between would look like one that was killed
    if info.state == RunState.INTERRUPTED and hold.held is False and lock_state(run_dir):  # it has begun since
        return run_info(run_dir, reader, config, replace(hold, held=True))
    return info


def _row(run_dir: Path, reader: RunReader, config: RunConfig, hold: Hold) -> RunInfo:
    meta, status, name = reader.meta(), reader.status(), run_dir.name
    alive = (
        bool(hold.held)
        if status is None or hold.held is not None
        else has_recent_heartbeat(status.state, status.heartbeat)
    )
    capabilities = FAMILIES[config.kind].capabilities
    family = "video" if "clips" in capabilities else "text"
    created, preset = float(meta.get("created", 0.0)), str(meta.get("preset", ""))
    # what a worker said at its end may not have got into the database: the disk that failed it was the same
    words = None if alive else hold.failure or read_words(run_dir)
    if words is not None and status is not None and status.heartbeat > words.wall:
        words = None  # another worker has had the run since
    if status is None:
        # no status yet: the worker waits for its turn, or never got to it
        state = RunState.QUEUED if alive else RunState.FAILED if words else RunState.INTERRUPTED
        return RunInfo(
            name,
            state,
            total_steps=config.optim.steps,
            created=created,
            kind=config.kind,
            family=family,
            capabilities=capabilities,
            preset=preset,
            alive=alive,
            here=hold.here,
            message=words.message if words else "",
            cause=words.cause if words else "" if alive else ENDED,
        )
    state, message, extra = RunState(status.state), status.message, status.extra
    cause = str(extra.get("cause", "")) if state == RunState.FAILED and extra.get("cause") in CAUSES else ""
    # its own last words say more than that it is gone
    if words is not None:
        state, message, cause = RunState.FAILED, words.message, words.cause
    elif state in ACTIVE and not alive:
        state, cause = TRANSITIONS[state][Trigger.KILL], ENDED
        message = f"its worker exited without an error message; {_resume_text(stranded_steps(run_dir, reader))}"
    step, extra = _newest(reader, status, catalog.EVAL_FLOW if family == "video" else catalog.EVAL_CE)
    return RunInfo(
        name=name,
        state=state,
        step=step,
        total_steps=status.total_steps,
        created=created,
        kind=config.kind,
        family=family,
        capabilities=capabilities,
        preset=preset,
        parameters=int(meta.get("parameters", 0)),
        message=message,
        alive=alive,
        here=hold.here,
        pid=status.pid,
        loss=extra.get("loss"),
        eval_ce=extra.get("eval_ce"),
        eval_flow=extra.get("eval_flow"),
        held_out_step=extra.get("eval_step"),
        tokens_per_second=extra.get("tokens_per_second"),
        frames_per_second=extra.get("frames_per_second"),
        # a forecast of a run that does not run is no forecast
        seconds_left=extra.get("seconds_left") if state == RunState.RUNNING else None,
        seconds_trained=float(extra.get("seconds_trained") or 0.0),
        memory_mb=extra.get("memory_mb"),
        drops=status.drops,
        cause=cause,
    )


def stranded_steps(run_dir: Path, reader: RunReader) -> int:
    """Recorded steps that resuming a run would erase and train again, as no checkpoint of it can be read.

    0 where it can go on from one, where it has made no step yet, and where it is on its way to the step that a fork or
    a rewind has put it at: what it makes again there is kept by its parent, or by the branch that was left.
    """
    recorded = reader.newest_step()
    if recorded < 1 or can_resume(run_dir):
        return 0
    meta = reader.meta()
    goal = meta.get(CATCH_UP)
    return 0 if goal is not None and recorded <= goal and IMPORTED not in meta else recorded


def _resume_text(lost: int) -> str:
    if lost:
        return f"it has recorded {lost} steps and no checkpoint to be resumed from: start a new run from it"
    return "resume continues from the newest checkpoint"


def _newest(reader: RunReader, status: Status, held_out: str) -> tuple[int, dict[str, Any]]:
    """Step and figures of the newest scalars; the status row is written twice a second only and may be behind them."""
    newest = reader.newest_step()
    if newest <= status.step:
        return status.step, status.extra
    loss, held = reader.last(catalog.TRAIN_LOSS), reader.last(held_out)
    found: dict[str, Any] = {} if loss is None else {"loss": loss[1]}
    if held is not None:
        found |= {"eval_step": held[0], held_out.replace("/", "_"): held[1]}
    return newest, status.extra | found


def control_states(config: RunConfig, reader: RunReader) -> dict[str, ControlState]:
    """Live controls that apply to a run's model: its configuration and what its control events made of it."""
    initial = config.live_values()
    states = {
        name: ControlState(control, initial[name], initial[name], 0, None, "")
        for name, control in live_controls(config.kind).items()
        if not control.models or config.kind in control.models
    }
    for event in changes_that_hold(config, reader.events()):
        if (old := states.get(event.payload["name"])) is not None:
            new = event.payload["new"]
            states[old.control.name] = replace(
                old, value=new, version=old.version + 1, step=event.step, author=event.author
            )
    return states
