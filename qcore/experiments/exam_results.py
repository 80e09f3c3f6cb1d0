"""What came of the exam's cases, and the table that is told of them.

A fault counts once, as one of four: named by a rule that says what is wrong (`cause`) · something was seen, and nobody
was accused (`symptom`) · something else was accused (`wrong`) · nothing was said (`silent`). Which rule says what is
wrong and which says what follows from it is the table of rules' own word (`Rule.role`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qcore.base.run_states import RunState
from qcore.detect import RULES
from qcore.experiments.halves import HALVES

OUTCOMES = ("cause", "symptom", "wrong", "silent")
_SYMPTOMS = frozenset(rule.name for rule in RULES if rule.role == "symptom")


@dataclass(frozen=True)
class ExamResult:
    """What came of a case.

    Attributes:
        expected: findings that name the fault.
        within: steps in which one of them must be raised.
        found: name → step at which it was raised, of all that were.
        collapsed_at: step from which on one token took more than half of the predictions, to the end.
        seconds: wall time.
        part: bank, weakened, healthy or zoo.
        budget: of the diagnostics, percent of step time.
        half: of its part, a or b.
        true: findings that are true of a healthy run's data.
        evidence: of each finding its title, numbers and role.
        held_out: last held-out loss; unigram: what token frequencies alone score.
    """

    name: str
    fault: str
    kind: str
    state: str
    steps: int
    expected: tuple[str, ...]
    within: int
    found: dict[str, int]
    collapsed_at: int | None
    seconds: float
    part: str = "bank"
    budget: float = 100.0
    half: str = ""
    true: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    held_out: float | None = None
    unigram: float | None = None

    @property
    def detected_at(self) -> int | None:
        """Step of the first finding that names the fault."""
        steps = [step for name, step in self.found.items() if name in self.expected]
        return min(steps, default=None)

    @property
    def false(self) -> dict[str, int]:
        """Findings of a healthy run that are not true of its data; none of a run with a fault."""
        return {} if self.fault else {name: step for name, step in self.found.items() if name not in self.true}

    def is_symptom(self, name: str) -> bool:
        """Whether a finding says what follows from something: by its own word, else by the table's."""
        own = self.evidence.get(name, {}).get("role")
        return own == "symptom" if own else name in _SYMPTOMS

    @property
    def others(self) -> list[str]:
        """Causes that were named beside the fault, or in its place."""
        return [name for name in self.found if name not in self.expected and not self.is_symptom(name)]

    @property
    def outcome(self) -> str:
        """Of a fault one of `OUTCOMES`; "" of a healthy run."""
        if not self.fault:
            return ""
        if any(name in self.expected and not self.is_symptom(name) for name in self.found):
            return "cause"
        if self.detected_at is None and self.others:
            return "wrong"
        return "symptom" if self.found else "silent"

    @property
    def passed(self) -> bool:
        """A fault is named in time; a healthy run finishes and is silent. A weakened fault may pass unseen."""
        if self.part == "weakened":
            return True
        if not self.fault:
            return not self.false and self.state == RunState.FINISHED
        return self.detected_at is not None and self.detected_at <= self.within


def result_to(result: ExamResult) -> dict[str, Any]:
    """A result as JSON-able values, with what follows from them."""
    follows = {"detected_at": result.detected_at, "outcome": result.outcome, "passed": result.passed}
    return {**asdict(result), **follows}


def result_from(values: dict[str, Any]) -> ExamResult:
    """The result that `result_to` wrote."""
    kept = {key: value for key, value in values.items() if key not in ("detected_at", "outcome", "passed")}
    return ExamResult(**{**kept, "expected": tuple(kept["expected"]), "true": tuple(kept["true"])})


def summarize(results: Sequence[ExamResult]) -> dict[str, Any]:
    """Counts, the median step of detection, healthy runs with a finding; and a row for each part, half and budget."""
    faults = [result for result in results if result.fault and result.part == "bank"]
    healthy = [result for result in results if not result.fault]
    return {
        "faults": len(faults),
        "named": sum(result.detected_at is not None for result in faults),
        "named_in_time": sum(result.passed for result in faults),
        "median_step": _median_step(faults),
        "healthy": len(healthy),
        "healthy_with_findings": sum(bool(result.false) for result in healthy),
        "false_findings": sum(len(result.false) for result in healthy),
        "rows": [*_fault_rows(results), *_healthy_rows(results)],
    }


def _fault_rows(results: Sequence[ExamResult]) -> Iterable[dict[str, Any]]:
    """Counts of the faults by part, half and budget, and of both halves together."""
    for part in ("bank", "weakened"):
        own = [result for result in results if result.fault and result.part == part]
        for budget in sorted({result.budget for result in own}):
            for half in (*HALVES, ""):
                cases = [one for one in own if one.budget == budget and half in ("", one.half)]
                if cases:
                    yield {
                        "part": part,
                        "half": half,
                        "budget": budget,
                        "cases": len(cases),
                        **{name: sum(one.outcome == name for one in cases) for name in OUTCOMES},
                        "in_time": sum(one.detected_at is not None and one.detected_at <= one.within for one in cases),
                        "median_step": _median_step(cases),
                    }


def _healthy_rows(results: Sequence[ExamResult]) -> Iterable[dict[str, Any]]:
    for part in ("healthy", "zoo"):
        own = [result for result in results if result.part == part]
        for half in (*HALVES, ""):
            runs = [one for one in own if half in ("", one.half)]
            if runs:
                yield {
                    "part": part,
                    "half": half,
                    "cases": len(runs),
                    "with_findings": sum(bool(one.false) for one in runs),
                    "false_findings": sum(len(one.false) for one in runs),
                    "unfinished": sum(one.state != RunState.FINISHED for one in runs),
                }


def _median_step(cases: Sequence[ExamResult]) -> float | None:
    steps = [case.detected_at for case in cases if case.detected_at is not None]
    return statistics.median(steps) if steps else None
