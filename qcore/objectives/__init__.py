"""Loss terms and their live-weighted sum: pure functions of tensors, usable on anyone's model."""

from qcore.objectives.inputs import Derived, TermInputs
from qcore.objectives.total import TERMS, Term, Total, measure_terms, nonfinite_parts, term_weights, total_loss

__all__ = [
    "TERMS",
    "Derived",
    "Term",
    "TermInputs",
    "Total",
    "measure_terms",
    "nonfinite_parts",
    "term_weights",
    "total_loss",
]
