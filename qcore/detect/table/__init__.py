"""The one table of rules: names, faults, explanations, thresholds. Documentation and the page come from it.

A file a kind of mistake; every threshold is in these files; what each means, and how many measurements in a row it
takes, stands beside the detector.
"""

from __future__ import annotations

from qcore.detect.rule import Rule
from qcore.detect.table import (
    clip_sampler,
    clips,
    curves,
    inputs,
    leaks,
    optimizer,
    phases,
    rates,
    sampler,
    targets,
    terms,
    tokens,
    updates,
    video,
)
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
    *targets.RULES,
    *clips.RULES,
    *sampler.RULES,
    *clip_sampler.RULES,
    # after the rules whose findings they explain
    *rates.RULES,
    *curves.RULES,
)
"""Every rule. Those of one call are told in this order."""

__all__ = ["MOTIONS", "RULES"]
