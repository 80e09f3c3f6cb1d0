"""Reads that never change once written, kept for all sessions of the process: token histograms, finished samples and
their clips.

A rewind of a run may replace them, so the run's count of rewinds is part of every key. All caches are bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from qcore.lab import Lab
from qcore.viz import stored_clips

CLIPS = 64
HISTOGRAMS = 512
RUNS = 8
TIMELINE = 400
_NEWEST = 8


@dataclass(frozen=True)
class TimelineSample:
    """One finished sample of the timeline, without its tokens."""

    id: str
    step: int
    prompt: str
    text: str
    stats: dict[str, Any]


def run_version(lab: Lab, run: str) -> tuple[str, float, int]:
    """What tells this state of a run from one before a rewind, or from another run that had the same name."""
    meta = lab.reader(run).meta()
    return run, float(meta.get("created", 0.0)), int(meta.get("epoch", 0))


@lru_cache(maxsize=HISTOGRAMS)
def predicted_counts(lab: Lab, state: tuple[str, float, int], step: int) -> Any:
    """Counts of the tokens predicted at real positions, at a step that has arrays."""
    found = lab.reader(state[0]).arrays("tokens", step)
    assert found is not None
    return found[1]["tokens/predicted"]


@lru_cache(maxsize=CLIPS)
def clips(lab: Lab, state: tuple[str, float, int], generation: str) -> Any:
    """Clips [N, F, H, W, C] of a finished generation.

    Raises:
        ValueError: for damaged ones.
    """
    found = lab.reader(state[0]).generation(generation)
    return stored_clips(found.tokens if found else [])


def spread_steps(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return steps
    return [steps[index * (len(steps) - 1) // (most - 1)] for index in range(most)]


_timelines: OrderedDict[tuple[str, float, int], dict[str, TimelineSample]] = OrderedDict()
_lock = Lock()


def timeline(lab: Lab, state: tuple[str, float, int]) -> list[TimelineSample]:
    """Finished timeline samples in order of creation, at most the newest 400. Reads only what is new."""
    with _lock:
        known = _timelines.setdefault(state, {})
        _timelines.move_to_end(state)
        while len(_timelines) > RUNS:
            _timelines.popitem(last=False)
        limit = _NEWEST if known else TIMELINE
        while True:
            newest = lab.reader(state[0]).generations("timeline", limit=limit)
            if limit >= TIMELINE or len(newest) < limit or any(sample.id in known for sample in newest):
                break
            limit *= 4
        for sample in newest:
            if sample.status != "running":
                known.setdefault(
                    sample.id, TimelineSample(sample.id, sample.step, sample.prompt, sample.text, sample.stats)
                )
        # Another page may have seen more by now than this one's moment holds.
        last = max((sample.step for sample in newest if sample.status != "running"), default=-1)
        return [sample for sample in known.values() if sample.step <= last][-TIMELINE:]
