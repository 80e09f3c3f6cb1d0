"""What the published guide of collapse flow says a run should show and what to do when it does not, with our verdicts.

The guide's numbers are kept as it states them. Each stands beside a verdict: what was measured when the advice was
tried on moving digits (8 frames of 8 × 8, 300 steps, or 1000 where said), or what follows from the definition. So a
page can show both, and a remedy says what it is worth before anybody clicks on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qcore.base.words import number_words
from qcore.detect.finding import remedy
from qcore.probes import catalog

Symptom = Literal["averaging", "nan", "jitter"]


@dataclass(frozen=True)
class Band:
    """A range of a measure that the guide calls healthy, excellent or a warning.

    Attributes:
        low, high: its bounds, which are outside it, None where open.
        data: what the data's own frames measure, None where that says nothing.
    """

    measure: str
    grade: Literal["healthy", "excellent", "warning"]
    low: float | None
    high: float | None
    data: float | None
    verdict: str

    def holds(self, value: float) -> bool:
        """Whether a value lies between the bounds; a bound itself does not, nor does NaN."""
        return (self.low is None or value > self.low) and (self.high is None or value < self.high) and value == value

    @property
    def limits(self) -> tuple[tuple[str, float], ...]:
        """(`above` or `below`, bound) of each bound."""
        both = (("above", self.low), ("below", self.high))
        return tuple((side, bound) for side, bound in both if bound is not None)

    @property
    def range_text(self) -> str:
        """`above 2`, `below 0.9` or `between 1.5 and 3`."""
        if self.low is not None and self.high is not None:
            return f"between {number_words(self.low)} and {number_words(self.high)}"
        return " ".join(f"{side} {number_words(bound)}" for side, bound in self.limits)


@dataclass(frozen=True)
class Fix:
    """An emergency fix: a control and the value that the guide gives it against a symptom."""

    symptom: Symptom
    control: str
    value: float
    verdict: str


@dataclass(frozen=True)
class Guide:
    """All bands and fixes, in the guide's order."""

    bands: tuple[Band, ...]
    fixes: tuple[Fix, ...]

    def against(self, symptom: Symptom) -> tuple[Fix, ...]:
        """The fixes for a symptom."""
        return tuple(fix for fix in self.fixes if fix.symptom == symptom)

    @property
    def promises(self) -> dict[str, Band]:
        """What the guide wants a good run to measure: for each measure its best band, `excellent` before `healthy`."""
        best = {band.measure: band for band in self.bands if band.grade == "healthy"}
        return best | {band.measure: band for band in self.bands if band.grade == "excellent"}


GUIDE = Guide(
    bands=(
        Band(
            "divergence",
            "healthy",
            1.0,
            None,
            0.85,
            "The data's own frames are .85 apart: what moves as they do stays below 1, and noise passes it.",
        ),
        Band(
            "divergence",
            "excellent",
            2.0,
            None,
            0.85,
            "White noise gives √(2C/HW) = 2 at 128 × 8 × 8, as the guide counts; a wrong velocity passes it with clips "
            "that do not move.",
        ),
        Band(
            "divergence",
            "warning",
            None,
            0.5,
            0.85,
            "Holds on moving digits: shared noise ends at .2, noise of their own at .7; for data that move less it is "
            "the data's value that counts.",
        ),
        Band(
            "orthogonality",
            "healthy",
            0.8,
            None,
            0.41,
            "Frames of one scene resemble each other: the data have .41. A clip above .8 shows something else in every "
            "frame.",
        ),
        Band(
            "energy",
            "healthy",
            1.5,
            3.0,
            0.57,
            "Counted with its factor √C. No clip of one standardised channel reaches it, and a still of 128 channels "
            "passes.",
        ),
        Band(
            "cosine",
            "healthy",
            None,
            0.9,
            0.57,
            "Right as a warning, since ghosts have .92 to .96, and too mild as a goal: the data have .57.",
        ),
        Band(
            catalog.term("orthogonality"),
            "warning",
            0.3,
            None,
            0.57,
            "The data's own frames score .57, so every faithful model is warned; the target 'data' asks for no more.",
        ),
    ),
    fixes=(
        Fix(
            "averaging",
            "t_star",
            0.15,
            "Measured with shared noise: frames .18 apart instead of .19 (data .86). t* is a path weight, and none "
            "selects a motion.",
        ),
        Fix(
            "averaging",
            "repulsion",
            7.0,
            "Measured with shared noise: frames .19 apart, as before (data .86). It scales the difference of frames, "
            "which stays one and the same for all samples.",
        ),
        Fix(
            "averaging",
            "frame_amplification",
            7.0,
            "Measured with shared noise: frames .19 apart, as before (data .86). The model knows which frame is which; "
            "nothing tells it how they differ.",
        ),
        Fix(
            "averaging",
            "orthogonality_weight",
            0.2,
            "Measured with shared noise: frames .26 apart instead of .19 (data .86), still without motion. All five "
            "fixes together: .24.",
        ),
        Fix(
            "averaging",
            "anchor_decay",
            30.0,
            "Measured with shared noise: frames .19 apart, as before (data .86). The anchor is not what averages them.",
        ),
        Fix(
            "nan",
            "clip_norm",
            0.5,
            "Measured on a healthy run: held-out flow loss .570 instead of .571 after 300 steps. It costs nothing, and "
            "Adam's step hardly depends on it.",
        ),
        Fix(
            "nan",
            "learning_rate",
            5e-5,
            "Measured on a healthy run: an eightieth of the rate leaves the held-out flow loss at 1.74 instead of .57 "
            "after 300 steps. A tenth is enough to pass a bad place.",
        ),
        Fix(
            "nan",
            "log_variance_limit",
            6.0,
            "Measured with an anchor network: held-out flow loss .495 instead of .483 after 300 steps, and no NaN with "
            "either. Without such a network it does nothing.",
        ),
        Fix(
            "jitter",
            "frame_amplification",
            3.0,
            "Measured on frames pushed apart by orthogonality: coherence −.34 as before, change 1.8 times the data's "
            "instead of 1.6.",
        ),
    ),
)
"""All of the guide's health bands and emergency fixes."""


def guide_remedies(symptom: Symptom, controls: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The guide's fixes against a symptom as remedies, each with its verdict; those that the run can take and that are
    not in force.
    """
    return [
        remedy(
            f"The guide: set {fix.control} to {number_words(fix.value)}", fix.verdict, "set", {fix.control: fix.value}
        )
        for fix in GUIDE.against(symptom)
        if fix.control in controls and controls[fix.control] != fix.value
    ]
