"""Measures of sets of clips in words and as curves, in two groups: those that flicker can fake, and those that it
cannot; and the bands that the published guide calls healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.lab import guide
from qcore.probes import catalog
from qcore.probes.catalog import Declared
from qcore.viz import SOURCES, Figure, Line, Reference, YAxis, curves, number_words, source_style


@dataclass(frozen=True)
class Measure:
    """One number of a set of clips.

    Attributes:
        words: of the catalogue.
        ratio: it is ÷ that of the data, whose own value is then 1.
        y_range: fixed limits, or none.
    """

    words: Declared
    ratio: bool = False
    y_range: tuple[float, float] | None = None


MOTION = {
    "coherence": Measure(catalog.frame_measure("coherence"), y_range=(-1.05, 1.05)),
    "lag_ratio": Measure(catalog.frame_measure("lag_ratio"), ratio=True),
    "motion_ratio": Measure(catalog.frame_measure("motion_ratio"), ratio=True),
}
PICTURES = {
    "divergence": Measure(catalog.frame_measure("divergence")),
    "cosine": Measure(catalog.frame_measure("cosine"), y_range=(-1.05, 1.05)),
    "orthogonality": Measure(catalog.frame_measure("orthogonality"), y_range=(-0.03, 1.03)),
    "energy": Measure(catalog.frame_measure("energy")),
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
            about = f"{measure.words.heading}: {measure.words.unit}. {measure.words.meaning}"
            found.append((measure.words.label, shown(measured[name]) + beside, about))
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
        title=measure.words.heading,
        y_title=measure.words.unit,
        y=YAxis(limits=measure.y_range),
        references=[*references, *limits],
        height=290,
        message="Not measured so far.",
        **shared,
    )


@dataclass(frozen=True)
class Band:
    """What the guide says of one measure.

    Attributes:
        series: where a run keeps it.
        low, high: limits, None where there is none.
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
