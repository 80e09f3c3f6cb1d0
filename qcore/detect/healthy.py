"""Where a healthy run's measurements lie, by series: the limits of the table of rules, for charts and documents.

Only series that one limit judges in every run have a range; what is judged against the run's own past, its references
or its data has none. No number stands here: a row names the rule and which of its thresholds is the lower and the upper
limit. A series from outside brings its range with its declaration.
"""

from __future__ import annotations

from qcore.detect.table import RULES
from qcore.probes import catalog
from qcore.probes.catalog import Range

_LIMITS: dict[str, tuple[str, str, str]] = {
    catalog.CAUSALITY_LEAK: ("future_leak", "", "leak"),
    catalog.BATCH_DEPENDENCE: ("batch_dependence", "", "change"),
    catalog.CAUSALITY_CONTEXT_RESPONSE: ("context_ignored", "response", ""),
    catalog.TOKENS_ROW_VARIANCE: ("context_ignored", "row_variance", ""),
    catalog.WEIGHTS_FROZEN_BLOCKS: ("frozen_blocks", "", "blocks"),
    catalog.WEIGHTS_DEAD_SHARE: ("unused_weights", "", "share"),
    catalog.PHASE_COVERAGE: ("half_circle", "coverage", ""),
    catalog.PHASE_R: ("aligned_phases", "", "R"),
    catalog.PHASE_DIMENSION_VARIANCE: ("aligned_phases", "variance", ""),
    catalog.PHASE_IM_RE_RATIO: ("dead_imaginary", "ratio", ""),
    catalog.DATA_TARGET_TOP1_SHARE: ("padding_targets", "", "top1"),
    catalog.DATA_PAD_IS_TARGET: ("padding_targets", "", "padding"),
    catalog.SHIFT_TARGETS_ARE_INPUTS: ("unshifted_labels", "", "same"),
    catalog.FLOW_VELOCITY_ERROR: ("wrong_velocity", "", "error"),
    catalog.FLOW_POSITION_RESPONSE: ("frames_unordered", "response", ""),
}
"""Series → (rule, threshold that healthy values are at least, threshold that they are at most)."""
_THRESHOLDS = {rule.name: rule.thresholds for rule in RULES}


def threshold(rule: str, name: str) -> float:
    """One number of the table. KeyError for a rule or a threshold that it does not have."""
    return _THRESHOLDS[rule][name]


def limits_of(rule: str) -> list[tuple[str, str, str]]:
    """The series that one rule judges in every run: name, lower and upper threshold, "" for an open end."""
    return [(series, low, high) for series, (name, low, high) in _LIMITS.items() if name == rule]


def healthy_range(series: str) -> Range | None:
    """Lowest and highest value of a healthy run, None for an open end; None for a series without such limits.

    >>> healthy_range("phase/coverage")
    (0.55, None)
    """
    if series not in _LIMITS:
        declared = catalog.find(series)
        return declared.healthy if declared else None
    rule, low, high = _LIMITS[series]
    return threshold(rule, low) if low else None, threshold(rule, high) if high else None
