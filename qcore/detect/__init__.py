"""Detectors: measurements of a run in, findings with evidence and remedies out; pure, without torch, one table."""

from qcore.detect.rule import Rule
from qcore.detect.table import RULES
from qcore.detect.verdict import Facts, Verdict
from qcore.detect.watch import Watch

__all__ = ["RULES", "Facts", "Rule", "Verdict", "Watch"]
