"""Detectors: measurements of a run in, findings with evidence and remedies out; pure, without torch, one table.

`GUIDE` is what the published guide of collapse flow advises, as data, each advice with the verdict that was measured.
"""

from qcore.detect.causality import Causality, causality_of
from qcore.detect.finding import Facts, Verdict
from qcore.detect.healthy import healthy_range
from qcore.detect.judge import judge_curves
from qcore.detect.motions import motion_choice
from qcore.detect.published_guide import GUIDE, Band, Fix, Guide
from qcore.detect.rule import Rule
from qcore.detect.table import RULES
from qcore.detect.watch import Watch

__all__ = [
    "GUIDE",
    "RULES",
    "Band",
    "Causality",
    "Facts",
    "Fix",
    "Guide",
    "Rule",
    "Verdict",
    "Watch",
    "causality_of",
    "healthy_range",
    "judge_curves",
    "motion_choice",
]
