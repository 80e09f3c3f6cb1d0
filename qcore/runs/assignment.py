"""What a worker was started to do, and the ways to reach it meanwhile: one record from the worker to its trainer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from qcore.runs.last_words import Ending
from qcore.runs.replay_plan import ReplayPlan
from qcore.runs.slots import Slots


@dataclass(frozen=True)
class Assignment:
    """One run to train, by the worker that holds its lock since `since` (epoch seconds).

    Attributes:
        slots: the places of the runs that train.
        author: who started it.
        orders: what to do beside training.
        stopping: set by whoever wants the run to end.
        nudge: set with each command, so that a waiting trainer looks at once.
        ending: told what ends the run, before anything is written of it.
    """

    run_dir: Path
    slots: Slots
    author: str
    since: float
    orders: ReplayPlan = field(default_factory=ReplayPlan)
    stopping: threading.Event = field(default_factory=threading.Event)
    nudge: threading.Event = field(default_factory=threading.Event)
    ending: Ending = field(default_factory=Ending)
