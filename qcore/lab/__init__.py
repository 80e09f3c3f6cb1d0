"""The façade of the lab: what app, CLI and tests use to start, watch and steer runs."""

from qcore.lab.errors import LabError
from qcore.lab.findings import FindingInfo, RuleInfo, rule_infos
from qcore.lab.lab import Lab, shared_lab
from qcore.lab.runs import CheckpointInfo, ControlState, RunInfo

__all__ = [
    "CheckpointInfo",
    "ControlState",
    "FindingInfo",
    "Lab",
    "LabError",
    "RuleInfo",
    "RunInfo",
    "rule_infos",
    "shared_lab",
]
