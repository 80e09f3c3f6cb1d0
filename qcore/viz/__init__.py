"""Pure data → Plotly figure, and the look that the figures share. No I/O, no Streamlit; inputs are never changed."""

from qcore.viz.curves import Line, Mark, Reference, curves, ema
from qcore.viz.figure import Figure, script_file
from qcore.viz.gradients import cosine_matrix, eigenvalues, module_tree, term_bars, term_style, update_bars
from qcore.viz.heat import Axis, Scale, heat, with_cursor
from qcore.viz.kernels import Causality, all_heads, causality_map, causality_of, kernel, kernel_difference
from qcore.viz.phases import coherence_map, layer_name, layer_style, layers_shown, portrait, rose, spectrum
from qcore.viz.theme import LINE_COLORS, empty_figure, label, line_style
from qcore.viz.tokens import histogram, leading, race, shares
from qcore.viz.units import UNIT_LABELS, UNITS, Unit, convert

__all__ = [
    "LINE_COLORS",
    "UNITS",
    "UNIT_LABELS",
    "Axis",
    "Causality",
    "Figure",
    "Line",
    "Mark",
    "Reference",
    "Scale",
    "Unit",
    "all_heads",
    "causality_map",
    "causality_of",
    "coherence_map",
    "convert",
    "cosine_matrix",
    "curves",
    "eigenvalues",
    "ema",
    "empty_figure",
    "heat",
    "histogram",
    "kernel",
    "kernel_difference",
    "label",
    "layer_name",
    "layer_style",
    "layers_shown",
    "leading",
    "line_style",
    "module_tree",
    "portrait",
    "race",
    "rose",
    "script_file",
    "shares",
    "spectrum",
    "term_bars",
    "term_style",
    "update_bars",
    "with_cursor",
]
