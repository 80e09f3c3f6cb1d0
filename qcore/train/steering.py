"""What changes a run between two steps, as callbacks, in the order in which the loop asks them.

First what has been changed before (a resume, a fork and a replay make those changes again), then the schedule, the
rules and the autopilot, then the commands of people. So a person has the last word at a step, and sees what the
automation has just done to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.automation.apply import Steering
from qcore.base.run_states import Trigger
from qcore.config import ConfigError, command_from_row
from qcore.config import commands as requests
from qcore.runs.checkpoint_folders import folder_name
from qcore.store import Command, CommandReader, Event
from qcore.train.callback import Callback, LoopContext
from qcore.train.checkpoint import Weights, load_checkpoint, put_back, snapshot
from qcore.train.monitor import Monitor
from qcore.train.samples import Samples

_OF_THE_MODEL = (requests.Grow.kind, requests.Restore.kind)


class RepeatedChanges(Callback):
    """Makes the changes again that the state which the run went on from does not hold, each at its step."""

    def __init__(self, context: LoopContext) -> None:
        self._context = context
        self._passed: dict[int, Weights] = {}

    def before_step(self) -> None:
        context, loop = self._context, self._context.loop
        if context.orders.catching_up and loop.has_arrived:
            return  # what comes at this step is the fork's own affair
        # A change ahead may put the weights of this very step back, and a replay keeps no checkpoints: it remembers.
        if loop.step in context.history.states_ahead and loop.step not in self._passed:
            engine = context.workload.engine
            self._passed[loop.step] = snapshot(engine.saved, engine.model, engine.optimizer)
        if loop.is_busy:
            return
        for event in context.history.due(loop.step):
            try:
                self._make_again(event)
            except ValueError as error:  # a state or a size that there is no more
                if context.orders.catching_up:  # a fork that went another way would be no fork
                    raise
                context.history.refuse(loop.step, event, str(error))

    def _make_again(self, event: Event) -> None:
        context, loop = self._context, self._context.loop
        if event.kind == "grow":
            context.workload.grow(event.payload["model"])
            loop.tell_resize()
        elif event.kind == "restore":
            step, engine = event.payload["from_step"], context.workload.engine
            weights = self._passed.get(step) or load_checkpoint(context.run_dir / folder_name(step))
            put_back(engine.saved, engine.model, engine.optimizer, weights)
            loop.tell_restore()
        elif (wanted := context.history.redo_change(loop.step, event, context.board)) is not None:
            loop.tell_control_change({**event.payload, "name": wanted.name})


class AutomaticChanges(Callback):
    """The schedule, the rules and the autopilot. Their memory is the automation's entry in a checkpoint."""

    name = "automation"

    def __init__(self, context: LoopContext, monitor: Monitor) -> None:
        self._context = context
        self._detectors = monitor.detectors
        self._steering = Steering(context.loop, context.board, context.history.events, context.writer)
        self._detectors.listener = self._steering.automation.observe

    def before_step(self) -> None:
        orders, loop = self._context.orders, self._context.loop
        if orders.catching_up and loop.has_arrived:
            return
        self._steering.schedule()
        # What rules did is in the events, which a fork on its way and a replay repeat: asked again, they act twice.
        if not orders.catching_up and orders.recording is None and not loop.is_busy:
            self._steering.act(self._detectors.active, self._context.history.muted)

    def state_dict(self) -> dict[str, Any]:
        return self._steering.automation.state()

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        self._steering.restore(state, step)


class Commands(Callback):
    """Obeys the commands that pages, the terminal and the protocol have written into the run's database."""

    def __init__(self, context: LoopContext, reader: CommandReader, samples: Samples, since: float) -> None:
        self._context = context
        self._reader = reader
        self._samples = samples
        self._since = since
        self._waiting: list[Command] = []

    def before_training(self, resumed: bool) -> None:
        """Answers commands from before this worker: a change of a control or of a finding still holds, a "stop" does
        not.

        A command that has an event was obeyed by a worker that was killed before it could say so.
        """
        if self._context.orders.catching_up:
            return
        writer, step = self._context.writer, self._context.loop.step
        obeyed = {event.command_id: event for event in self._context.history.events}
        for row in self._reader.pending():
            if event := obeyed.get(row.id):
                writer.resolve_command(row.id, "applied", event.step, f"at step {event.step}")
            elif row.kind in requests.KEPT_KINDS or row.created >= self._since:
                self._waiting.append(row)
            else:
                writer.resolve_command(row.id, "refused", step, "the run's worker ended before it could answer")

    def before_step(self) -> None:
        if self._context.orders.catching_up:
            return
        writer, loop = self._context.writer, self._context.loop
        # A copy, as a command that must wait once more goes back into the list, in its order.
        waiting, self._waiting = self._waiting, []
        for row in [*waiting, *self._reader.pending()]:
            if loop.is_busy and row.kind in _OF_THE_MODEL:  # a sample is being drawn from the model as it is
                self._waiting.append(row)
                continue
            try:
                message = self._apply(row)
            except ConfigError as error:
                writer.resolve_command(row.id, "refused", loop.step, str(error))
            else:
                writer.resolve_command(row.id, "applied", loop.step, message)

    def _apply(self, row: Command) -> str:
        """Obey one command and say what happened. Raises `ConfigError` when it is refused."""
        loop = self._context.loop
        match command_from_row(row.kind, row.payload):
            case requests.SetControl(name, value):
                return loop.set_control(name, value, row.author, command=row.id)
            case requests.Pause():
                loop.hold()
            case requests.Continue():
                if not loop.allows(Trigger.CONTINUE):
                    raise ConfigError("the run is not paused")
                loop.go_on()
            case requests.Step(count):
                if not loop.allows(Trigger.STEP):
                    raise ConfigError("the run is not paused: pause it before stepping")
                loop.make_steps(count)
            case requests.Stop():
                loop.end(row.author)
                return f"stopping at step {loop.step}"
            case requests.SaveCheckpoint():
                loop.save("requested", row.author, row.id)
                return f"checkpoint of step {loop.step}"
            case requests.Acknowledge() | requests.Mute():
                pass  # the row itself is what readers go by
            case requests.Restore(before):
                return loop.put_back(loop.state_before(before), row.author, "", row.id)
            case requests.Grow(changes):
                return loop.grow(changes, row.author, row.id)
            case requests.Sample(generation, prompt, settings):
                chosen = self._context.workload.settings(settings)
                loop.queue(self._samples.asked(generation, loop.step, prompt, chosen, row.id))
                return f"sampling at step {loop.step}"
        loop.add_event(row.kind, row.payload, row.author, row.id)
        loop.publish(force=True)
        return f"at step {loop.step}"
