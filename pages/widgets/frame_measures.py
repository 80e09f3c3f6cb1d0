"""Measures of sets of clips in words and as curves, in two groups: those that flicker can fake, and those that it
cannot; and the bands that the published guide calls healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.lab import guide
from qcore.probes import catalog
from qcore.viz import SOURCES, Figure, Line, Reference, curves, number_words, source_style


@dataclass(frozen=True)
class Measure:
    """One number of a set of clips. short: name above a figure · ratio: it is ÷ that of the data, whose own value is
    then 1 · y_range: fixed limits, or none.
    """

    title: str
    short: str
    y_title: str
    about: str
    ratio: bool = False
    y_range: tuple[float, float] | None = None


MOTION = {
    "coherence": Measure(
        "Motion coherence",
        "Coherence",
        "cosine of successive changes",
        "Whether the next change goes on in the direction of the last one. Real motion is above 0; random jumps give "
        "about −0.5.",
        y_range=(-1.05, 1.05),
    ),
    "lag_ratio": Measure(
        "Change from frame to frame",
        "Change",
        "change ÷ data's",
        "1: things move as far as in the data. Below: a ghost that stands still. Above: flicker.",
        ratio=True,
    ),
    "motion_ratio": Measure(
        "Variance of the motion across clips",
        "Variety",
        "variance ÷ data's",
        "1: clips move in as many different ways as the data do. Near 0: all of them make the same movement.",
        ratio=True,
    ),
}
PICTURES = {
    "divergence": Measure(
        "Frame divergence",
        "Divergence",
        "RMS, standardised pixels",
        "Mean distance of every pair of frames of a clip.",
    ),
    "cosine": Measure(
        "Cosine of frames",
        "Cosine",
        "mean cosine of pairs",
        "1: all frames are the same picture up to brightness.",
        y_range=(-1.05, 1.05),
    ),
    "orthogonality": Measure(
        "Orthogonality",
        "Orthogonality",
        "1 − mean |cosine|",
        "Unrelated pictures have 1, and so has noise. Frames of one scene are not unrelated.",
        y_range=(-0.03, 1.03),
    ),
    "energy": Measure(
        "Collapse energy",
        "Energy",
        "RMS distance, standardised pixels",
        "How far the frames of a clip are from their mean frame. It falls when frames collapse into one; frames that "
        "jump about raise it as motion does.",
    ),
}
MEASURES = MOTION | PICTURES
_GENERATED = catalog.frames("generated", "")


def shown(value: float | None) -> str:
    """A measure with two digits, a dash where there is none."""
    return number_words(value, places=2)


def cells(measured: Mapping[str, float | None], data: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """(title, value beside the data's, help) of every measure that is named; None is one that was not measured."""
    found = []
    for name, measure in MEASURES.items():
        if name in measured:
            of_data = 1.0 if measure.ratio else data.get(name)
            beside = "" if of_data is None else f" · {shown(of_data)}"
            about = f"{measure.title}: {measure.y_title}. {measure.about}"
            found.append((measure.short, shown(measured[name]) + beside, about))
    return found


def measure_figure(
    name: str,
    measure: Measure,
    series: dict[str, Any],
    data: dict[str, float],
    limits: Sequence[Reference] = (),
    **shared: Any,
) -> Figure:
    """One measure over steps: the batch's data, denoised and generated, and the held-out data as a line."""
    of_data = 1.0 if measure.ratio else data.get(name)
    references = (
        []
        if of_data is None
        else [Reference("data", of_data, f"held-out clips of the data: {number_words(of_data, 3)}")]
    )
    sources = [source for source in SOURCES if not (measure.ratio and source == "data")]
    return curves(
        [
            Line.of(source, found, source_style(source))
            for source in sources
            for found in [series[catalog.frames(source, name)]]
        ],
        title=measure.title,
        y_title=measure.y_title,
        y_range=measure.y_range,
        references=[*references, *limits],
        height=290,
        message="Not measured so far.",
        **shared,
    )


@dataclass(frozen=True)
class Band:
    """What the guide says of one measure. series: where a run keeps it · low, high: limits, None where there is none ·
    verdict: what was measured here.
    """

    name: str
    series: str
    low: float | None
    high: float | None
    says: str
    verdict: str

    @property
    def measure(self) -> str:
        """Name of the measure of clips; empty when the band is about something else."""
        return self.series.removeprefix(_GENERATED) if self.series.startswith(_GENERATED) else ""

    @property
    def range_text(self) -> str:
        """The band in words; empty for advice without limits."""
        if self.low is not None and self.high is not None:
            return f"{number_words(self.low)} to {number_words(self.high)}"
        if self.low is not None:
            return f"above {number_words(self.low)}"
        return "" if self.high is None else f"below {number_words(self.high)}"

    def holds(self, value: float) -> bool:
        """Whether a value is inside the band."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def bands() -> list[Band]:
    """The guide's bands and emergency fixes, in its order. A bare measure is that of generated clips."""
    return [
        Band(
            str(row["name"]),
            measure if "/" in measure or not measure else f"{_GENERATED}{measure}",
            row.get("low"),
            row.get("high"),
            str(row["guide"]),
            str(row["verdict"]),
        )
        for row in guide()
        for measure in [str(row.get("measure") or "")]
    ]


def guide_limits() -> dict[str, list[Reference]]:
    """Limits of the guide's bands as reference lines, by measure."""
    found: dict[str, list[Reference]] = {}
    for band in bands():
        for sign, limit in (("≥", band.low), ("≤", band.high)):
            if limit is not None and band.measure:
                line = Reference(f"guide {sign}", limit, f"the guide, {band.name}: {sign} {number_words(limit)}")
                found.setdefault(band.measure, []).append(line)
    return found
