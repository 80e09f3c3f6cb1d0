"""Detectors: measurements of a run in, findings with evidence and remedies out; pure, without torch, one table.

`GUIDE` is what the published guide of collapse flow advises, as data, each advice with the verdict that was measured.
"""

from qcore.detect.causality import Causality, causality_of
from qcore.detect.causes import GRADES, clears_of, grade_of, role_of
from qcore.detect.finding import Facts, Verdict
from qcore.detect.healthy import healthy_range
from qcore.detect.judge import judge_curves
from qcore.detect.motions import motion_choice
from qcore.detect.published_guide import GUIDE, Band, Fix, Guide
from qcore.detect.remedies import Tried, helps, measured_remedies, offered, remedy_key, tried_words
from qcore.detect.rule import Clear, Rule
from qcore.detect.table import RULES
from qcore.detect.watch import Watch

__all__ = [
    "GRADES",
    "GUIDE",
    "RULES",
    "Band",
    "Causality",
    "Clear",
    "Facts",
    "Fix",
    "Guide",
    "Rule",
    "Tried",
    "Verdict",
    "Watch",
    "causality_of",
    "clears_of",
    "grade_of",
    "healthy_range",
    "helps",
    "judge_curves",
    "measured_remedies",
    "motion_choice",
    "offered",
    "remedy_key",
    "role_of",
    "tried_words",
]
