"""The one table of rules: names, faults, explanations, thresholds. Documentation and the page come from it.

A file a kind of mistake; every threshold is in these files; what each means, and how many measurements in a row it
takes, stands beside the detector.
"""

from __future__ import annotations

from qcore.detect.rule import Rule
from qcore.detect.table import inputs, leaks, optimizer, phases, rates, terms, tokens, updates, video
from qcore.detect.table.video import MOTIONS

RULES: tuple[Rule, ...] = (
    *leaks.RULES,
    *terms.RULES,
    *optimizer.RULES,
    *updates.RULES,
    *phases.RULES,
    *tokens.RULES,
    *inputs.RULES,
    *video.RULES,
    # after the rules whose findings they explain
    *rates.RULES,
)
"""Every rule. Those of one call are told in this order."""

__all__ = ["MOTIONS", "RULES"]
