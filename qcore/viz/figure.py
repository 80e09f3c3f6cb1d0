"""A Plotly figure as plain data, and its JSON as Plotly's JavaScript reads it.

Building `plotly.graph_objects.Figure` checks and copies every attribute; without it a refresh of 93 ms took 24.
Figures are therefore kept as the dicts that Plotly defines them by; `to_plotly` gives the checked object, and the
tests build it for every kind there is. Arrays of one or two dimensions travel as base64 of their bytes, row by row,
so numbers arrive bit for bit.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly
from numpy.typing import NDArray

_TYPES = {np.dtype(np.float64): "f8", np.dtype(np.float32): "f4", np.dtype(np.int32): "i4"}


@dataclass(frozen=True)
class Figure:
    """Traces and layout, each as Plotly's reference defines them. Array attributes may be NumPy arrays."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]

    def to_plotly(self) -> Any:
        """The same as `plotly.graph_objects.Figure`.

        Raises:
            ValueError: for an attribute that Plotly does not know.
        """
        from plotly.graph_objects import Figure as PlotlyFigure

        return PlotlyFigure(data=self.data, layout=self.layout)

    def to_json(self) -> str:
        """JSON with `data` and `layout`."""
        parts = {"data": self.data, "layout": self.layout}
        return json.dumps(parts, default=_plain_json, separators=(",", ":"), allow_nan=False)


def script_file() -> tuple[Path, str]:
    """The JavaScript library that draws these figures, as the plotly package brings it, and a name with its version."""
    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js", f"plotly-{plotly.__version__}.min.js"


def _plain_json(value: object) -> Any:
    """Arrays as Plotly's typed arrays; whole numbers as 32 bits where they fit, else as float64."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim in (1, 2) and value.dtype.kind in "iuf":
        array = _portable(value)
        if array.ndim == 2 and not array.size:
            return array.tolist()  # Plotly cannot cut no bytes into rows
        shape = {"shape": f"{array.shape[0]}, {array.shape[1]}"} if array.ndim == 2 else {}
        return {"dtype": _TYPES[array.dtype], "bdata": base64.b64encode(array.tobytes()).decode("ascii"), **shape}
    raise TypeError(f"a figure cannot hold a {type(value).__name__}")


def _portable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype in _TYPES:
        return array
    fits = array.dtype.kind in "iu" and (not array.size or (array.min() >= -(2**31) and array.max() < 2**31))
    return array.astype(np.int32 if fits else np.float64)
