"""Small runs for tests: a model that trains in milliseconds, and polling with a deadline instead of sleeping."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from qcore.config import RunConfig, VideoRunConfig, default_run

SMALL: dict[str, Any] = {
    "width": 16,
    "layers": 1,
    "heads": 2,
    "phases": 4,
    "context": 16,
    "documents": 80,
    "batch_size": 4,
    "steps": 12,
    "warmup_steps": 2,
    "eval_every": 4,
    "eval_batches": 1,
    "sample_every": 6,
    "sample_length": 4,
    "tokens_every": 2,
    "checkpoint_every": 5,
    "budget_percent": 100.0,
}


def small_config(**changes: Any) -> RunConfig:
    """A configuration that trains a step in a few milliseconds, with `changes` applied."""
    values = {**SMALL, **changes}
    if values.get("kind", "phase_lm") != "phase_lm":
        del values["phases"]
    return default_run().with_values(values)


SMALL_VIDEO: dict[str, Any] = {
    "kind": "video_flow",
    "width": 16,
    "layers": 1,
    "heads": 2,
    "clips": 64,
    "frames": 4,
    "batch_size": 4,
    "steps": 12,
    "warmup_steps": 2,
    "eval_every": 4,
    "eval_batches": 1,
    "sample_every": 6,
    "measured_clips": 4,
    "sampled_clips": 2,
    "solver_steps": 3,
    "frames_every": 2,
    "checkpoint_every": 5,
    "budget_percent": 100.0,
}


def small_video(**changes: Any) -> VideoRunConfig:
    """A video run that trains a step in a few milliseconds, with `changes` applied."""
    config = default_run().with_values({**SMALL_VIDEO, **changes})
    assert isinstance(config, VideoRunConfig)
    return config


@contextlib.contextmanager
def alarmed(seconds: int = 30) -> Iterator[None]:
    """Fail instead of waiting for ever, in a call that should not wait at all."""

    def ring(number: int, frame: object) -> None:
        raise AssertionError(f"it waited for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def eventually(condition: Callable[[], Any], timeout: float = 90.0) -> Any:
    """Poll `condition` until it is true and return it; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return found


def has_ltx() -> bool:
    """Whether the packages of the LTX-Video adapter are here; asked without loading them, which takes seconds."""
    return all(importlib.util.find_spec(name) for name in ("diffusers", "peft"))
