"""Measures of sets of clips in words and as curves, in two groups: those that flicker can fake, and those that it
cannot; and the bands that the published guide calls healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.lab import GUIDE
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


def measure_text(value: float | None) -> str:
    """A measure with two digits, a dash where there is none."""
    return number_words(value, places=2)


def cells(measured: Mapping[str, float | None], data: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """(title, value beside the data's, help) of every measure that is named; None is one that was not measured."""
    found = []
    for name, measure in MEASURES.items():
        if name in measured:
            of_data = 1.0 if measure.ratio else data.get(name)
            beside = "" if of_data is None else f" · {measure_text(of_data)}"
            about = f"{measure.words.heading}: {measure.words.unit}. {measure.words.meaning}"
            found.append((measure.words.label, measure_text(measured[name]) + beside, about))
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


def guide_limits() -> dict[str, list[Reference]]:
    """Limits of the guide's bands of clips as reference lines, by measure."""
    found: dict[str, list[Reference]] = {}
    for band in GUIDE.bands:
        for side, limit in band.limits if band.measure in MEASURES else ():
            said = f"the guide, {band.grade}: {side} {number_words(limit)}"
            found.setdefault(band.measure, []).append(Reference(f"guide: {side}", limit, said))
    return found
