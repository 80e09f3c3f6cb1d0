"""Loss terms and their live-weighted sum: pure functions of tensors, usable on anyone's model."""

from qcore.objectives.inputs import Derived, Inputs, TermInputs
from qcore.objectives.total import (
    TERMS,
    VIDEO_TERMS,
    Controls,
    Term,
    TermFunction,
    Total,
    measure_terms,
    nonfinite_parts,
    term_weights,
    total_loss,
)
from qcore.objectives.video import VideoDerived, VideoTermInputs

__all__ = [
    "TERMS",
    "VIDEO_TERMS",
    "Controls",
    "Derived",
    "Inputs",
    "Term",
    "TermFunction",
    "TermInputs",
    "Total",
    "VideoDerived",
    "VideoTermInputs",
    "measure_terms",
    "nonfinite_parts",
    "term_weights",
    "total_loss",
]
