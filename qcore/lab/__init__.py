"""The façade of the lab: what app, CLI and tests use to start, watch and steer runs."""

from qcore.lab.errors import LabError
from qcore.lab.exact import exact_flow
from qcore.lab.findings import FindingInfo, RuleInfo, rule_infos
from qcore.lab.guide import guide
from qcore.lab.lab import Lab, shared_lab
from qcore.lab.runs import CheckpointInfo, ControlState, RunInfo
from qcore.train.exact_records import ExactFlowResult, ExactFlowSettings

__all__ = [
    "CheckpointInfo",
    "ControlState",
    "ExactFlowResult",
    "ExactFlowSettings",
    "FindingInfo",
    "Lab",
    "LabError",
    "RuleInfo",
    "RunInfo",
    "exact_flow",
    "guide",
    "rule_infos",
    "shared_lab",
]
