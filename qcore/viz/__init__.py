"""Pure data → Plotly figure, and the look that the figures share. No I/O, no Streamlit; inputs are never changed."""

from qcore.base.words import (
    NOT_FINITE,
    NOT_MEASURED,
    change_words,
    changes_words,
    limit_words,
    name_words,
    number_words,
    percent_words,
    prose,
    value_words,
)
from qcore.probes.catalog import distinct_words, group_words, series_words
from qcore.viz.branches import Branch, branches
from qcore.viz.clips import ClipRow, averaged, clip_bytes, spread_frames, stored_clips
from qcore.viz.compare import pairs, side_by_side, sweep
from qcore.viz.curves import Line, Mark, Reference, curves, ema, heading
from qcore.viz.figure import Figure, script_file
from qcore.viz.gradients import cosine_matrix, eigenvalues, module_tree, term_bars, term_style, update_bars
from qcore.viz.heat import Axis, Scale, heat, with_cursor
from qcore.viz.kernels import all_heads, causality_map, kernel, kernel_difference
from qcore.viz.phases import coherence_map, layer_name, layer_style, layers_shown, portrait, rose, spectrum
from qcore.viz.theme import LINE_COLORS, empty_figure, label, line_style
from qcore.viz.tokens import histogram, leading, race, shares
from qcore.viz.units import UNIT_LABELS, UNITS, Unit, convert
from qcore.viz.video import (
    SOURCES,
    anchor_spread,
    frame_spectrum,
    lag_changes,
    over_time,
    path_weights,
    similarity_map,
    source_style,
    tomography,
)
from qcore.viz.words import event_words

__all__ = [
    "LINE_COLORS",
    "NOT_FINITE",
    "NOT_MEASURED",
    "SOURCES",
    "UNITS",
    "UNIT_LABELS",
    "Axis",
    "Branch",
    "ClipRow",
    "Figure",
    "Line",
    "Mark",
    "Reference",
    "Scale",
    "Unit",
    "all_heads",
    "anchor_spread",
    "averaged",
    "branches",
    "causality_map",
    "change_words",
    "changes_words",
    "clip_bytes",
    "coherence_map",
    "convert",
    "cosine_matrix",
    "curves",
    "distinct_words",
    "eigenvalues",
    "ema",
    "empty_figure",
    "event_words",
    "frame_spectrum",
    "group_words",
    "heading",
    "heat",
    "histogram",
    "kernel",
    "kernel_difference",
    "label",
    "lag_changes",
    "layer_name",
    "layer_style",
    "layers_shown",
    "leading",
    "limit_words",
    "line_style",
    "module_tree",
    "name_words",
    "number_words",
    "over_time",
    "pairs",
    "path_weights",
    "percent_words",
    "portrait",
    "prose",
    "race",
    "rose",
    "script_file",
    "series_words",
    "shares",
    "side_by_side",
    "similarity_map",
    "source_style",
    "spectrum",
    "spread_frames",
    "stored_clips",
    "sweep",
    "term_bars",
    "term_style",
    "tomography",
    "update_bars",
    "value_words",
    "with_cursor",
]
