"""The loop: what a run does obeys the table of its states, and its callbacks are called in the declared order, with a
state of their own in every checkpoint.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
from typing import Any

import pytest

from qcore.base.run_states import RunState, RunStateMachine, Trigger
from qcore.config import Continue, Pause, SetControl, Step, Stop
from qcore.lab import Lab
from qcore.objectives import Total
from qcore.runs.checkpoint_folders import checkpoint_folders
from qcore.store import RunWriter
from qcore.train import loop, text_engine
from qcore.train.callback import Callback
from qcore.train.saving import callback_states, watch_document
from tests.support.configs import eventually, small_config

Move = tuple[RunState, Trigger, RunState]
HOOKS = [name for name, value in vars(Callback).items() if inspect.isfunction(value)]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[Move]:
    """Every move of every run's state machine, as it is made."""
    made: list[Move] = []
    fire = RunStateMachine.fire

    def noted(self: RunStateMachine, trigger: Trigger) -> RunState:
        before = self.state
        made.append((before, trigger, fire(self, trigger)))
        return self.state

    monkeypatch.setattr(RunStateMachine, "fire", noted)
    return made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The state of every status row that is written, in order."""
    states: list[str] = []
    set_status = RunWriter.set_status

    def noted(self: RunWriter, status: Any) -> None:
        states.append(status.state)
        set_status(self, status)

    monkeypatch.setattr(RunWriter, "set_status", noted)
    return states


def is_part_of(part: list[str], whole: list[str]) -> bool:
    """Whether one sequence, without its repetitions, comes in this order in the other."""
    rest = iter(whole)
    return all(any(one == other for other in rest) for one, _ in itertools.groupby(part))


def test_the_states_that_a_live_run_goes_through_and_writes_are_those_of_the_table(
    lab: Lab, moves: list[Move], written: list[str]
) -> None:
    name = lab.start(small_config(steps=100_000, checkpoint_every=50_000, eval_every=50_000, sample_every=50_000))

    def obey(command: Any) -> str:
        return lab.outcome(name, lab.command(name, command), 60).status

    eventually(lambda: lab.info(name).step > 0)
    assert obey(Continue()) == "refused"
    assert obey(Step(2)) == "refused"
    assert obey(Pause()) == "applied"
    at = lab.info(name).step
    assert obey(Step(3)) == "applied"
    eventually(lambda: lab.info(name).step == at + 3 and lab.info(name).state == RunState.PAUSED)
    assert obey(Pause()) == "applied"
    assert obey(Step(90_000)) == "applied"
    assert obey(Continue()) == "applied"
    eventually(lambda: lab.info(name).step > at + 3)
    assert obey(Stop()) == "applied"
    assert lab.wait(name, 60).state == RunState.STOPPED
    lab.resume(name)
    eventually(lambda: lab.info(name).state == RunState.RUNNING)
    lab.stop(name)
    assert lab.wait(name, 60).state == RunState.STOPPED
    S, T = RunState, Trigger
    steps = [(S.PAUSED, T.STEP, S.STEP_QUEUED), (S.STEP_QUEUED, T.PLACE, S.STEPPING)]
    assert moves == [
        (S.QUEUED, T.PLACE, S.RUNNING),
        (S.RUNNING, T.PAUSE, S.PAUSED),
        *steps,
        (S.STEPPING, T.STEPPED, S.PAUSED),
        (S.PAUSED, T.PAUSE, S.PAUSED),
        *steps,
        (S.STEPPING, T.CONTINUE, S.RUNNING),
        (S.RUNNING, T.STOP, S.STOPPED),
        (S.STOPPED, T.RESUME, S.QUEUED),
        (S.QUEUED, T.PLACE, S.RUNNING),
        (S.RUNNING, T.STOP, S.STOPPED),
    ]
    assert is_part_of(written, [RunState.QUEUED, *(after.kept for _, _, after in moves)])


def test_a_run_without_a_place_waits_and_can_be_paused_and_stopped(lab: Lab, moves: list[Move]) -> None:
    first = lab.start(small_config(steps=100_000))
    second = lab.start(small_config(steps=100_000))
    eventually(lambda: lab.info(second).state == RunState.QUEUED and lab.info(first).step > 0)
    assert lab.outcome(second, lab.command(second, SetControl("clip_norm", 0.5)), 60).status == "applied"
    assert lab.info(second).state == RunState.QUEUED  # a command is obeyed and makes no run of it that trains
    assert lab.outcome(second, lab.command(second, Pause()), 60).status == "applied"
    assert lab.outcome(second, lab.command(second, Step(1)), 60).status == "applied"
    assert lab.info(second).state == RunState.QUEUED
    lab.stop(second)
    assert lab.wait(second, 60).state == RunState.STOPPED
    assert lab.info(second).step == 0
    assert [move[1:] for move in moves][1:] == [
        (Trigger.PAUSE, RunState.PAUSED),
        (Trigger.STEP, RunState.STEP_QUEUED),
        (Trigger.STOP, RunState.STOPPED),
    ]


def test_a_run_whose_loss_is_no_number_fails_and_its_next_worker_takes_it_up(
    lab: Lab, moves: list[Move], monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = text_engine.total_loss

    def broken(*arguments: Any) -> Total:
        total = healthy(*arguments)
        return Total(total.loss * math.nan, {**total.parts, "ce": total.parts["ce"] * math.nan})

    with monkeypatch.context() as patch:
        patch.setattr(text_engine, "total_loss", broken)
        name = lab.start(small_config(budget_percent=0, steps=3))
        assert lab.wait(name, 60).state == RunState.FAILED
    lab.resume(name)
    assert lab.wait(name, 60).state == RunState.FINISHED
    assert [trigger for _, trigger, _ in moves] == [
        Trigger.PLACE,
        Trigger.FAIL,
        Trigger.RESUME,
        Trigger.PLACE,
        Trigger.FINISH,
    ]


def check_layout(lab: Lab, name: str) -> None:
    """A checkpoint keeps the state of each callback, in the layout that checkpoints have always had."""
    kept = json.loads((checkpoint_folders(lab.folder(name))[-1] / "watch.json").read_text("utf-8"))
    assert list(kept) == ["watch", "lr_sum", "automation"]
    names = [kind.name for kind in loop.ORDER if kind.name]
    assert sorted(names) == ["automation", "monitor"]
    assert not {"watch", "lr_sum"} & set(names)
    states = callback_states(kept)
    assert states["automation"] == kept["automation"]
    assert states["monitor"]["lr_sum"] == kept["lr_sum"]
    monitor = {key: kept[key] for key in ("watch", "lr_sum")}
    assert watch_document({"automation": kept["automation"], "monitor": monitor}) == kept


def test_the_callbacks_are_called_in_the_declared_order_and_each_keeps_its_state(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, type[Callback]]] = []

    def note(kind: type[Callback], hook: str) -> None:
        hooked = getattr(kind, hook)

        def noted(self: Callback, *arguments: Any) -> Any:
            called.append((hook, kind))
            return hooked(self, *arguments)

        monkeypatch.setattr(kind, hook, noted)

    for kind in loop.ORDER:
        for hook in HOOKS:
            note(kind, hook)
    name = lab.start(small_config(schedule=["3: clip_norm = 0.5"]))
    assert lab.wait(name, 60).state == RunState.FINISHED
    for hook in HOOKS:
        if hook not in ("on_failure", "on_resize", "on_restore", "state_dict", "load_state_dict"):
            kinds = [kind for which, kind in called if which == hook]
            assert kinds
            assert kinds == list(loop.ORDER) * (len(kinds) // len(loop.ORDER)), hook
    check_layout(lab, name)


@pytest.mark.parametrize("watch", [{}, {"lr_sum": 0.5, "watch": {}}])
def test_a_checkpoint_from_before_a_callback_had_a_state_gives_it_none(watch: dict[str, Any]) -> None:
    assert callback_states(watch).get("automation", {}) == {}
    assert callback_states(watch)["monitor"] == watch


def test_every_hook_says_in_a_sentence_when_it_runs() -> None:
    for hook in HOOKS:
        about = inspect.getdoc(getattr(Callback, hook)) or ""
        assert about.startswith(("Runs ", "What ", "Takes ")), hook
