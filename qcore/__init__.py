"""Collapse Lab's core: trains generative models that may collapse, and measures why. See docs/architecture.md for the
rooms.

The public names, each loaded when it is first used, so that `import qcore` costs nothing and needs no torch:

    Lab           the runs of a folder: start, watch, steer, rewind, fork, sample
    RunConfig     all that a run is, besides its events
    RunInfo       state and newest figures of a run
    FindingInfo   what a detector found in a run
    QcoreError    root of the errors below and of all others that name a remedy
    LabError      a request that is refused, or a run that cannot be read
    ConfigError   a value that cannot be right
    StoreError    a run's database is damaged, busy or out of reach
    CheckpointError   a checkpoint is damaged or was cut off
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.base.version import VERSION as __version__

if TYPE_CHECKING:
    from qcore.base import LabError, QcoreError
    from qcore.config import ConfigError, RunConfig
    from qcore.lab import Lab
    from qcore.runs.checkpoint_folders import CheckpointError
    from qcore.runs.findings import FindingInfo
    from qcore.runs.info import RunInfo
    from qcore.store import StoreError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "FindingInfo",
    "Lab",
    "LabError",
    "QcoreError",
    "RunConfig",
    "RunInfo",
    "StoreError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home: Any
    match name:
        case "LabError" | "QcoreError":
            from qcore import base as home
        case "ConfigError" | "RunConfig":
            from qcore import config as home
        case "StoreError":
            from qcore import store as home
        case "CheckpointError":
            from qcore.runs import checkpoint_folders as home
        case "FindingInfo":
            from qcore.runs import findings as home
        case "RunInfo":
            from qcore.runs import info as home
        case "Lab":
            from qcore import lab as home
        case _:
            raise AttributeError(f"module 'qcore' has no attribute {name!r}; public are {', '.join(__all__)}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
