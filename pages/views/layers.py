"""The map of the layers: one measurement of every layer or module, over the steps at which it was taken.

Only what was measured is shown: how far the optimizer moved each module, and what flowed behind each layer. All of it
is read in the page's one moment; title, unit and meaning of a measurement are those of its series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pages.widgets.chart import chart
from qcore.lab import RunInfo
from qcore.probes import catalog
from qcore.viz import layer_map, layer_values

MOST_COLUMNS = 60
MOVEMENT, LAYERS = "movement", "layers"


@dataclass(frozen=True)
class LayerMeasurement:
    """What the map can show.

    Attributes:
        arrays: the name under which a run keeps it.
        key: which of those arrays.
        series: whose words it has; the series itself is one number for all layers.
    """

    arrays: str
    key: str
    series: str


MEASUREMENTS = (
    LayerMeasurement(MOVEMENT, "update_ratio", catalog.UPDATE_RATIO),
    LayerMeasurement(MOVEMENT, "update_rms", catalog.UPDATE_RMS),
    LayerMeasurement(MOVEMENT, "weight_rms", catalog.UPDATE_WEIGHT_RMS),
    LayerMeasurement(MOVEMENT, "gradient_rms", catalog.UPDATE_GRADIENT_RMS),
    LayerMeasurement(MOVEMENT, "still_share", catalog.UPDATE_STILL_SHARE),
    LayerMeasurement(MOVEMENT, "lost_share", catalog.UPDATE_LOST_SHARE),
    LayerMeasurement(LAYERS, "rms", catalog.LAYERS_RMS),
    LayerMeasurement(LAYERS, "largest", catalog.LAYERS_LARGEST),
    LayerMeasurement(LAYERS, "kurtosis", catalog.LAYERS_KURTOSIS),
)


def draw(info: RunInfo, reader: Any, shown: int | None) -> None:
    """The choice of a measurement and its map; nothing for a run that has measured none of them.

    Args:
        shown: the step that the rest of the page shows.
    """
    there = {name: reader.array_steps(name) for name in (MOVEMENT, LAYERS)}
    known = {_words(one): one for one in MEASUREMENTS if there[one.arrays]}
    if not known:
        return
    st.subheader("Layers", anchor=False)
    said = st.selectbox(
        "Shown for each layer",
        list(known),
        key="layers_show",
        help="Each row is a layer or a module in the model's order, each column a measurement.",
    )
    chosen = known[said if said in known else next(iter(known))]
    steps = _spread(there[chosen.arrays])
    columns = [_values(reader, chosen, step) for step in steps]
    words = catalog.series_words(chosen.series)
    values = layer_values(_names(reader, chosen, max(map(len, columns))), steps, columns)
    figure = layer_map(values, words, uirevision=info.name, shown=shown)
    chart(figure, "chart:layers", f"{words.heading} of each layer over the measured steps")
    st.caption(f"{words.meaning} Here it is shown for each layer or module by itself; the frame is the step above.")


def _words(one: LayerMeasurement) -> str:
    return catalog.series_words(one.series).heading


def _spread(steps: Sequence[int]) -> list[int]:
    """At most 60 of the steps, the first and the newest among them."""
    if len(steps) <= MOST_COLUMNS:
        return list(steps)
    last = len(steps) - 1
    return [steps[place * last // (MOST_COLUMNS - 1)] for place in range(MOST_COLUMNS)]


def _values(reader: Any, chosen: LayerMeasurement, step: int) -> Sequence[float]:
    found = reader.arrays(chosen.arrays, step)
    return [] if found is None else found[1].get(chosen.key, [])


def _names(reader: Any, chosen: LayerMeasurement, rows: int) -> list[str]:
    if chosen.arrays == LAYERS:
        return [f"layer {place + 1}" for place in range(rows)]
    names = list(reader.meta().get("module_names") or [])
    return [str(names[place]) if place < len(names) else f"module {place}" for place in range(rows)]
