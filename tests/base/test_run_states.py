"""The table of a run's states: whole, and the only way from one state to another."""

from __future__ import annotations

import itertools

import pytest

from qcore.base.run_states import (
    ACTIVE,
    KEPT,
    SHOWN,
    TRANSITIONS,
    ImpossibleTransitionError,
    RunState,
    RunStateMachine,
    Trigger,
)

OVER = {RunState.FINISHED, RunState.STOPPED, RunState.FAILED, RunState.INTERRUPTED}


NEVER_WRITTEN = {RunState.INTERRUPTED, RunState.RECORDED, RunState.UNREADABLE}


def test_the_words_are_those_that_files_have_always_held() -> None:
    assert KEPT == ("queued", "running", "paused", "finished", "stopped", "failed")
    assert (*KEPT, "interrupted", "recorded", "unreadable") == SHOWN
    assert {state.kept for state in RunState if state not in NEVER_WRITTEN} == set(KEPT)
    assert [f"{state}" for state in KEPT] == [str.__str__(state) for state in KEPT]


@pytest.mark.parametrize("state", RunState)
def test_the_table_is_walked_and_nothing_else_can_be(state: RunState) -> None:
    for trigger in Trigger:
        machine = RunStateMachine(state)
        if trigger in TRANSITIONS[state]:
            assert machine.allows(trigger)
            assert machine.fire(trigger) is machine.state is TRANSITIONS[state][trigger]
        else:
            assert not machine.allows(trigger)
            with pytest.raises(ImpossibleTransitionError, match=f"a run that is {state} cannot {trigger}"):
                machine.fire(trigger)
            assert machine.state is state


def test_every_state_says_what_it_is_and_every_trigger_does_something() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert all(word.about for word in (*RunState, *Trigger))
    assert {trigger for row in TRANSITIONS.values() for trigger in row} == set(Trigger)


def test_every_state_of_a_run_is_reached_from_its_first_and_only_a_new_worker_leaves_its_end() -> None:
    reached, edge = {RunState.QUEUED}, {RunState.QUEUED}
    while edge:
        edge = set(itertools.chain.from_iterable(TRANSITIONS[state].values() for state in edge)) - reached
        reached |= edge
    assert reached == set(RunState) - {RunState.RECORDED, RunState.UNREADABLE}
    for state in OVER:
        leaving = {trigger for trigger, after in TRANSITIONS[state].items() if after not in OVER}
        assert leaving == {Trigger.RESUME}
    for state in set(RunState) - OVER - {RunState.RECORDED, RunState.UNREADABLE}:
        assert state.kept in ACTIVE
        assert {Trigger.STOP, Trigger.FINISH, Trigger.FAIL, Trigger.KILL} <= set(TRANSITIONS[state])
