"""Charts of a benchmark: speed of generation against position, and held-out bits per byte on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from qcore.viz.curves import NO_STEPS, Line, Reference, YAxis, curves
from qcore.viz.figure import Figure
from qcore.viz.theme import DASHES, LINE_COLORS


@dataclass(frozen=True)
class QualityCurve:
    """One run's way.

    Attributes:
        x: tokens seen, or seconds of training.
        bits: held-out bits per byte.
        seed: of the run.
    """

    label: str
    seed: int
    x: ArrayLike
    bits: ArrayLike


def generation_speed(rates: Mapping[str, Sequence[tuple[int, float]]], *, uirevision: str) -> Figure:
    """Tokens a second of one row against the position of the token that is written; a line a model."""
    lines = [
        Line(label, [position for position, _ in points], [rate for _, rate in points], _style(index, 0))
        for index, (label, points) in enumerate(rates.items())
    ]
    figure = curves(
        lines,
        uirevision=uirevision,
        title="Generation against position",
        y_title="tokens per second, one row",
        x=NO_STEPS,
        y=YAxis(format=",.0f"),
        message="Generation was not measured.",
        height=320,
    )
    return _with_x_axis(figure, "position of the token", "position %{x:,d}")


def quality_curves(
    found: Sequence[QualityCurve],
    *,
    against: str,
    references: Mapping[str, float | None],
    uirevision: str,
) -> Figure:
    """Held-out bits per byte against `tokens` or `seconds`: one colour a model, one dash a seed, n-grams as lines."""
    labels = list(dict.fromkeys(curve.label for curve in found))
    lines = [
        Line(
            curve.label if curve.seed == 0 else f"{curve.label}, seed {curve.seed}",
            curve.x,
            curve.bits,
            _style(labels.index(curve.label), curve.seed),
        )
        for curve in found
    ]
    known = [Reference(name, value) for name, value in references.items() if value is not None]
    figure = curves(
        lines,
        uirevision=f"{uirevision}:{against}",
        title=f"Held-out bits per byte against {against}",
        y_title="bits per byte",
        references=known,
        x=NO_STEPS,
        message="No run has finished yet.",
        height=360,
    )
    what = "tokens seen" if against == "tokens" else "seconds of training"
    return _with_x_axis(figure, what, "%{x:,.3~s} " + against)


def _style(index: int, seed: int) -> dict[str, str]:
    return {"color": LINE_COLORS[index % len(LINE_COLORS)], "dash": DASHES[seed % len(DASHES)]}


def _with_x_axis(figure: Figure, title: str, hover: str) -> Figure:
    """The same figure with another horizontal axis than steps; an empty one stays as it is."""
    if "title" in figure.layout["xaxis"]:
        figure.layout["xaxis"] |= {"title": {"text": title, "standoff": 8}, "unifiedhovertitle": {"text": hover}}
    return figure
