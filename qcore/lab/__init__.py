"""The façade of the lab: what app, CLI and tests use to start, watch and steer runs."""

from qcore.lab.dryrun import DryChange, dry_run
from qcore.lab.errors import LabError
from qcore.lab.exact import exact_flow
from qcore.lab.findings import FindingInfo, RuleInfo, rule_infos
from qcore.lab.guide import guide
from qcore.lab.lab import Lab, close_shared, shared_lab
from qcore.lab.lineage import RunNode
from qcore.lab.moment import Moment
from qcore.lab.questions import Asked, Question, ask, asked, end
from qcore.lab.runs import CheckpointInfo, ControlState, RunInfo
from qcore.store import StoreBusyError, StoreError
from qcore.train.exact_records import ExactFlowResult, ExactFlowSettings

__all__ = [
    "Asked",
    "CheckpointInfo",
    "ControlState",
    "DryChange",
    "ExactFlowResult",
    "ExactFlowSettings",
    "FindingInfo",
    "Lab",
    "LabError",
    "Moment",
    "Question",
    "RuleInfo",
    "RunInfo",
    "RunNode",
    "StoreBusyError",
    "StoreError",
    "ask",
    "asked",
    "close_shared",
    "dry_run",
    "end",
    "exact_flow",
    "guide",
    "rule_infos",
    "shared_lab",
]
