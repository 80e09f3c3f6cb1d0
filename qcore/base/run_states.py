"""The states of a run, and the one table of how it gets from one to the next.

Whoever trains a run holds a `RunStateMachine` and tells it what happened (`Trigger`); what is not in `TRANSITIONS`
cannot happen, and raises. The status row, the pages, the command line and the protocol say `RunState` members, whose
text is what the files have always held.

A trainer knows two states more than a file: what it does while it is paused and has steps to make is kept as `running`
or `queued`, because that is what it looks like from outside. Readers know three that no trainer writes: a run whose
worker was killed, one whose program says nothing of its state, and a folder that cannot be read.

No room is imported here, so that every room can import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self


class _Explained(StrEnum):
    """Members that equal a word, each with a sentence."""

    about: str

    def __new__(cls, word: str, about: str = "") -> Self:
        """A member that is its word."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.about = about
        return member


class RunState(_Explained):
    """What a run is doing. A member equals its word; `about` says it in a sentence, as pages and docs do."""

    QUEUED = "queued", "Waiting until another run has ended or is paused."
    RUNNING = "running", "Training now."
    PAUSED = "paused", "Paused; controls and prompts still work."
    STEPPING = "stepping", "Makes the steps that were asked for while it was paused, then pauses again."
    STEP_QUEUED = "queued to step", "Was asked for steps while it was paused, and waits for its place to make them."
    FINISHED = "finished", "Reached its last step."
    STOPPED = "stopped", "Stopped by a user; it can be resumed."
    FAILED = "failed", "Failed; the reason is on its page."
    INTERRUPTED = "interrupted", "Its process exited unexpectedly; it can be resumed."
    RECORDED = "recorded", "Written by another program that does not report its state."
    UNREADABLE = "unreadable", "The folder holds no run that can be read."

    @property
    def kept(self) -> RunState:
        """The state as the status row has it: one of `KEPT`."""
        return _KEPT_AS.get(self, self)


class Trigger(_Explained):
    """What may happen to a run; `about` says when."""

    PAUSE = "pause", "a user, a rule or the autopilot pauses it"
    CONTINUE = "continue", "a user lets a paused run continue"
    STEP = "step", "a user asks a paused run for so many steps"
    PLACE = "place", "it gets one of the places of the runs that train"
    STEPPED = "stepped", "the last of the steps that were asked for is made"
    REWIND = "rewind", "weights of an earlier step are put back; the count of steps goes on"
    STOP = "stop", "it ends before its last step: a user, the end of the program, or a limit that was set"
    FINISH = "finish", "its last step is made"
    FAIL = "fail", "an error ends it, or the loss is no number"
    KILL = "kill", "its process ends and says nothing; readers find out, nobody writes it"
    RESUME = "resume", "a worker takes it up again"


_S, _T = RunState, Trigger
_ENDS = {_T.STOP: _S.STOPPED, _T.FINISH: _S.FINISHED, _T.FAIL: _S.FAILED, _T.KILL: _S.INTERRUPTED}
# What comes after the last step can fail, too: the folder is gone, or the disk takes no more.
_OVER = {_T.RESUME: _S.QUEUED, _T.FAIL: _S.FAILED}

TRANSITIONS: Mapping[RunState, Mapping[Trigger, RunState]] = {
    _S.QUEUED: {_T.PLACE: _S.RUNNING, _T.PAUSE: _S.PAUSED, _T.REWIND: _S.QUEUED, **_ENDS},
    _S.RUNNING: {_T.PAUSE: _S.PAUSED, _T.REWIND: _S.RUNNING, **_ENDS},
    # Its place is another run's while it is paused, so that it goes on by way of the queue.
    _S.PAUSED: {
        _T.CONTINUE: _S.QUEUED,
        _T.STEP: _S.STEP_QUEUED,
        _T.PAUSE: _S.PAUSED,
        _T.REWIND: _S.PAUSED,
        **_ENDS,
    },
    _S.STEP_QUEUED: {
        _T.PLACE: _S.STEPPING,
        _T.CONTINUE: _S.QUEUED,
        _T.STEP: _S.STEP_QUEUED,
        _T.PAUSE: _S.PAUSED,
        _T.REWIND: _S.STEP_QUEUED,
        **_ENDS,
    },
    _S.STEPPING: {
        _T.STEPPED: _S.PAUSED,
        _T.CONTINUE: _S.RUNNING,
        _T.STEP: _S.STEPPING,
        _T.PAUSE: _S.PAUSED,
        _T.REWIND: _S.STEPPING,
        **_ENDS,
    },
    _S.FINISHED: _OVER,
    _S.STOPPED: _OVER,
    _S.FAILED: _OVER,
    _S.INTERRUPTED: _OVER,
    _S.RECORDED: {},
    _S.UNREADABLE: {},
}
"""state → what may happen in it → the state after it."""

_KEPT_AS = {_S.STEPPING: _S.RUNNING, _S.STEP_QUEUED: _S.QUEUED}
KEPT = (_S.QUEUED, _S.RUNNING, _S.PAUSED, _S.FINISHED, _S.STOPPED, _S.FAILED)
"""The states that a status row may hold."""
ACTIVE = (_S.QUEUED, _S.RUNNING, _S.PAUSED)
"""Those of them in which a worker has the run, or had it when it was killed."""
SHOWN = (*KEPT, _S.INTERRUPTED, _S.RECORDED, _S.UNREADABLE)
"""The states that a reader is told."""


class ImpossibleTransitionError(RuntimeError):
    """Something happened to a run that cannot happen in its state: a fault of this program, never of a person."""


class RunStateMachine:
    """The state of one run in the hands of its worker; every change of it goes through `fire`."""

    def __init__(self, state: RunState = RunState.QUEUED) -> None:
        self._state = state

    @property
    def state(self) -> RunState:
        """The state of now."""
        return self._state

    def allows(self, trigger: Trigger) -> bool:
        """Whether this may happen now."""
        return trigger in TRANSITIONS[self._state]

    def fire(self, trigger: Trigger) -> RunState:
        """This has happened: the state after it. Raises `ImpossibleTransitionError`, and changes nothing, where the
        table has no such transition.
        """
        if not self.allows(trigger):
            known = ", ".join(TRANSITIONS[self._state]) or "nothing"
            raise ImpossibleTransitionError(f"a run that is {self._state} cannot {trigger}: it can {known}")
        self._state = TRANSITIONS[self._state][trigger]
        return self._state
