"""Findings as a page or the CLI shows them: what the run's worker wrote, and what a person said about each.

The worker alone writes findings. That a person has seen or muted one is a command like any other, so it can be said of
a finished run too: the newest command about a finding is what counts, whether a worker has taken it or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qcore.config import Acknowledge, Mute
from qcore.store import Command as CommandRow
from qcore.store import Finding


@dataclass(frozen=True)
class FindingInfo:
    """One finding. state: active or resolved · evidence: {"numbers": […], "figure": …} · remedies: {"label", "why",
    "kind", "changes"} each · acknowledged, muted: said by a person."""

    id: str
    name: str
    since_step: int
    last_step: int
    state: str
    evidence: dict[str, Any]
    title: str
    explanation: str
    remedies: list[dict[str, Any]]
    acknowledged: bool = False
    muted: bool = False

    @property
    def calls(self) -> bool:
        """Whether it calls for attention: active, not muted, and nobody has acknowledged it."""
        return self.state == "active" and not self.acknowledged and not self.muted


def finding_infos(findings: Iterable[Finding], commands: Iterable[CommandRow]) -> list[FindingInfo]:
    """Findings with what was said about them: active before resolved, the earliest first."""
    acknowledged: set[str] = set()
    muted: set[str] = set()
    for row in commands:
        if row.status == "refused":
            continue
        if row.kind == Acknowledge.kind:
            acknowledged.add(row.payload["finding"])
        elif row.kind == Mute.kind:
            (muted.add if row.payload["muted"] else muted.discard)(row.payload["finding"])
    infos = [
        FindingInfo(**vars(finding), acknowledged=finding.id in acknowledged, muted=finding.id in muted)
        for finding in findings
    ]
    return sorted(infos, key=lambda info: (info.state != "active", info.since_step, info.id))
