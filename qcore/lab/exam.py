"""The exam: every fault of the bank, planted, and healthy runs beside them; what was named, when, and what cried wolf.

Each case is an ordinary run through the façade, in a folder of its own; what is judged are the findings in its store.
Cases are spread over a few processes, since a small model keeps one core busy and no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore.config import EXAM_BASE, FAULTS, MODEL_KINDS, ConfigError, RunConfig, nearest_hint
from qcore.lab.errors import LabError
from qcore.lab.lab import Lab

COLLAPSED = 0.5
CASE_SECONDS = 300.0
_VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("packed", {}),
    ("padded", {"packing": "padded"}),
    ("terms", {"diversity_weight": 0.3, "unlikelihood_weight": 0.3, "z_loss_weight": 1e-4, "dominance_weight": 0.5}),
    ("accumulated", {"accumulation": 2, "batch_size": 4}),
    ("energies", {"local_energy_weight": 0.02, "global_energy_weight": 0.02, "coherence_weight": 0.01}),
    ("schedule", {"schedule": ["50: learning_rate = 0.002", "100: label_smoothing = 0.05"]}),
)


@dataclass(frozen=True)
class ExamCase:
    """One run of the exam. fault: its code, empty for a healthy run."""

    name: str
    fault: str
    config: RunConfig


@dataclass(frozen=True)
class ExamResult:
    """What came of a case. expected: findings that name the fault · found: name → step at which it was
    raised, of all that were · detected_at: first step of an expected one · collapsed_at: step from which on one token
    took more than half of the predictions, to the end · seconds: wall time."""

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

    @property
    def detected_at(self) -> int | None:
        """Step of the first finding that names the fault."""
        steps = [step for name, step in self.found.items() if name in self.expected]
        return min(steps, default=None)

    @property
    def passed(self) -> bool:
        """A fault is named in time; a healthy run finishes and is silent."""
        if not self.fault:
            return not self.found and self.state == "finished"
        return self.detected_at is not None and self.detected_at <= self.within


def exam_cases(
    codes: Sequence[str] | None = None, healthy: int = 10, changes: Mapping[str, Any] | None = None
) -> list[ExamCase]:
    """The faults asked for (all by default), then `healthy` runs of each model: other seeds, and in turn packed,
    padded, with more terms, accumulated, with energies (smoothed, where there are no phases) and scheduled.

    changes: to every configuration, such as another budget. `ConfigError` for an unknown code.
    """
    more = dict(changes or {})
    cases = []
    for code in FAULTS if codes is None else codes:
        if code not in FAULTS:
            raise ConfigError(f"unknown fault {code!r}{nearest_hint(code, FAULTS)}; there are {', '.join(FAULTS)}")
        cases.append(ExamCase(f"fault-{code}", code, RunConfig().with_values({**FAULTS[code].preset_changes, **more})))
    for kind in MODEL_KINDS:
        base = {**EXAM_BASE, "kind": kind}
        if kind != "phase_lm":
            del base["phases"]
        for seed in range(healthy):
            variant, varied = _VARIANTS[seed % len(_VARIANTS)]
            if kind != "phase_lm" and variant == "energies":
                variant, varied = "smoothed", {"label_smoothing": 0.1, "entropy_floor_weight": 0.1}
            config = RunConfig().with_values({**base, **varied, "seed": seed, "data_seed": seed, **more})
            cases.append(ExamCase(f"healthy-{kind}-{seed}-{variant}", "", config))
    return cases


def run_case(lab: Lab, case: ExamCase) -> ExamResult:
    """Train one case to its end and read what was found."""
    started = time.monotonic()
    name = lab.start(case.config, name=case.name, author="exam")
    info = lab.wait(name, CASE_SECONDS)
    if info.alive:
        raise LabError(f"exam case {case.name!r} took more than {CASE_SECONDS:g} s: use fewer jobs, or a free machine")
    found: dict[str, int] = {}
    for finding in lab.findings(name):
        raised = int(finding.evidence["raised_at"])
        found[finding.name] = min(raised, found.get(finding.name, raised))
    fault = FAULTS.get(case.fault)
    return ExamResult(
        name=case.name,
        fault=case.fault,
        kind=case.config.model.kind,
        state=info.state,
        steps=info.step,
        expected=fault.findings if fault else (),
        within=fault.within if fault else 0,
        found=dict(sorted(found.items(), key=lambda item: item[1])),
        collapsed_at=_collapse(lab, name),
        seconds=time.monotonic() - started,
    )


def run_exam(
    folder: Path, cases: Iterable[ExamCase], jobs: int, report: Callable[[ExamResult], None]
) -> list[ExamResult]:
    """Run all cases in `jobs` processes, telling `report` of each as it ends; results in the order of the cases.

    Raises `LabError` with the words of a process that failed.
    """
    waiting = list(cases)
    order = [case.name for case in waiting]
    results: dict[str, ExamResult] = {}
    troubles: list[str] = []
    lock = threading.Lock()

    def keep(line: str) -> None:
        result = result_from(json.loads(line))
        with lock:
            results[result.name] = result
            report(result)

    def drive(number: int, part: list[ExamCase]) -> None:
        for case in part:
            path = folder / f"{case.name}.yaml"
            path.write_text(case.config.to_yaml(), encoding="utf-8")
        command = [sys.executable, "-m", __name__, str(folder), *(case.name for case in part)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (
            (folder / f"worker-{number}.log").open("w+", encoding="utf-8") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                keep(line)
            if process.wait():
                log.seek(0)
                troubles.append(log.read()[-2000:])

    parts = [part for part in (waiting[place::jobs] for place in range(jobs)) if part]
    threads = [
        threading.Thread(target=drive, args=(number, part), name=f"exam-{number}") for number, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise LabError(f"a process of the exam failed: {troubles[0].strip()}")
    return [results[name] for name in order]


def work(folder: Path, names: Sequence[str]) -> Iterator[ExamResult]:
    """One process's share of the exam: the cases whose configurations lie in `folder`."""
    with Lab(folder / "runs") as lab:
        for name in names:
            config = RunConfig.from_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"))
            yield run_case(lab, ExamCase(name, config.fault, config))


def result_to(result: ExamResult) -> dict[str, Any]:
    """A result as JSON-able values, with what follows from them."""
    return {**asdict(result), "detected_at": result.detected_at, "passed": result.passed}


def result_from(values: dict[str, Any]) -> ExamResult:
    """The result that `result_to` wrote."""
    kept = {key: value for key, value in values.items() if key not in ("detected_at", "passed")}
    return ExamResult(**{**kept, "expected": tuple(kept["expected"])})


def _collapse(lab: Lab, name: str) -> int | None:
    """First step of the majority that lasts to the end; None when no token has one, or one had it from the start.

    Healthy runs pass through a majority on their way out of the plateau: only the last stretch counts.
    """
    series = lab.reader(name).scalars("tokens/top1_share")
    if not len(series):
        return None
    under = (series.values <= COLLAPSED).nonzero()[0]
    if not len(under) or under[-1] == len(series) - 1:
        return None
    return int(series.steps[under[-1] + 1])


if __name__ == "__main__":
    for done in work(Path(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(result_to(done)), flush=True)  # noqa: T201 - the line that `run_exam` reads
