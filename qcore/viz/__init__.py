"""Pure data → Plotly figure, and the look that the figures share. No I/O, no Streamlit; inputs are never changed."""

from qcore.viz.curves import Line, Mark, Reference, curves, ema
from qcore.viz.figure import Figure, script_file
from qcore.viz.theme import LINE_COLORS, empty_figure, label, line_style
from qcore.viz.tokens import histogram, leading, race, shares
from qcore.viz.units import UNIT_LABELS, UNITS, Unit, convert

__all__ = [
    "LINE_COLORS",
    "UNITS",
    "UNIT_LABELS",
    "Figure",
    "Line",
    "Mark",
    "Reference",
    "Unit",
    "convert",
    "curves",
    "ema",
    "empty_figure",
    "histogram",
    "label",
    "leading",
    "line_style",
    "race",
    "script_file",
    "shares",
]
