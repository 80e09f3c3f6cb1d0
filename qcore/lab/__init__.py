"""The façade of the lab: what app, CLI and tests use to start, watch and steer runs."""

from qcore.automation.dry_run import DryChange, HeldBack, dry_run, held_back_findings
from qcore.detect import GUIDE, Band, Causality, Fix, causality_of, healthy_range, motion_choice
from qcore.lab.exact_flow import exact_flow
from qcore.lab.lab import Lab, close_shared, shared_lab
from qcore.runs.errors import LabError
from qcore.runs.exact_flow_records import ExactFlowResult, ExactFlowSettings
from qcore.runs.findings import FindingInfo, RuleInfo, rule_infos, tried_words
from qcore.runs.info import CheckpointInfo, ControlState, RunInfo
from qcore.runs.lineage import RunNode
from qcore.runs.moment import Moment
from qcore.store import StoreBusyError, StoreError

__all__ = [
    "GUIDE",
    "Band",
    "Causality",
    "CheckpointInfo",
    "ControlState",
    "DryChange",
    "ExactFlowResult",
    "ExactFlowSettings",
    "FindingInfo",
    "Fix",
    "HeldBack",
    "Lab",
    "LabError",
    "Moment",
    "RuleInfo",
    "RunInfo",
    "RunNode",
    "StoreBusyError",
    "StoreError",
    "causality_of",
    "close_shared",
    "dry_run",
    "exact_flow",
    "healthy_range",
    "held_back_findings",
    "motion_choice",
    "rule_infos",
    "shared_lab",
    "tried_words",
]
