"""A case of the fault bank: its story, what must name it, and the small runs in which it shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

EXAM_BASE: dict[str, Any] = {
    "width": 48,
    "layers": 2,
    "heads": 4,
    "phases": 16,
    "context": 64,
    "batch_size": 8,
    "documents": 1500,
    "steps": 150,
    "learning_rate": 1e-2,
    "warmup_steps": 20,
    "eval_every": 25,
    "eval_batches": 2,
    "sample_every": 50,
    "sample_length": 40,
    "checkpoint_every": 1000,
    "tokens_every": 5,
    "phase_every": 10,
    "gradients_every": 10,
    "checks_every": 50,
    "budget_percent": 100.0,
}
"""The small runs of the exam: models of both kinds pass the trigram within 150 steps of 10–25 ms on one
thread, and every probe runs often enough to speak in that time."""

VIDEO_EXAM_BASE: dict[str, Any] = {
    "kind": "video_flow",
    "clips": 1024,
    "steps": 300,
    "warmup_steps": 20,
    "eval_every": 50,
    "eval_batches": 1,
    "sample_every": 25,
    "checkpoint_every": 1000,
    "frames_every": 10,
    "gradients_every": 25,
    "checks_every": 50,
    "budget_percent": 100.0,
}
"""The same for video, on the default model: samples of a healthy run move within 150 steps of 25–30 ms."""

EXAM_KINDS = ("transformer", "phase_lm", "pam", "flux_lm", "video_flow")
"""The families of the healthy zoo, that of clips last."""
EXAM_KIND_CHANGES: dict[str, dict[str, Any]] = {"flux_lm": {"heads": 2}}
"""What a family needs beside `EXAM_BASE`: the planes of Quantum Flux are divided among its heads."""
PLAIN_EXAM_BASE: dict[str, Any] = {
    **{name: value for name, value in EXAM_BASE.items() if name != "phases"},
    "kind": "transformer",
}
"""`EXAM_BASE` for the plainest model."""


@dataclass(frozen=True)
class FaultCase:
    """One fault.

    Attributes:
        findings: names of which at least one must be raised.
        within: steps in which it must be found (0: before the first optimizer step).
        changes: configuration beside `base`.
        planted: a mistake in code that `qcore.faults` plants; False: the configuration alone does it.
    """

    code: str
    title: str
    seen: str
    tell: str
    findings: tuple[str, ...]
    within: int
    changes: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=lambda: EXAM_BASE)
    planted: bool = True

    @property
    def preset_changes(self) -> dict[str, Any]:
        """All changes to the default configuration that make the run of this case."""
        changes = {**self.base, **self.changes}
        if changes.get("kind", "phase_lm") != "phase_lm":
            changes.pop("phases", None)
        return {**changes, "fault": self.code} if self.planted else changes


def video_case(
    code: str, *story: str, findings: tuple[str, ...], within: int, planted: bool, **changes: Any
) -> FaultCase:
    """A case of a video model; its story is title, what was seen, and what gives it away."""
    title, seen, tell = story
    return FaultCase(code, title, seen, tell, findings, within, changes, VIDEO_EXAM_BASE, planted)
