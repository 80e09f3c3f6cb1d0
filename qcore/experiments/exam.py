"""The exam: every fault of the bank, planted, and healthy runs beside them; what was named, when, and the false alarms.

Each case is an ordinary run through the façade, in a folder of its own; what is judged are the findings in its store.
Cases are spread over a few processes, since a small model keeps one core busy and no more.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.base.run_states import RunState
from qcore.config import (
    EXAM_BASE,
    FAMILIES,
    FAULTS,
    LANGUAGE_KINDS,
    VIDEO_EXAM_BASE,
    ConfigError,
    RunConfig,
    default_run,
    kinds_with,
    nearest_hint,
    section_types,
)
from qcore.experiments.parallel_runs import fan_out, open_share, run_as_process, train_to_end
from qcore.lab.lab import Lab
from qcore.probes import catalog

MODULE = "qcore.experiments.exam"
COLLAPSED = 0.5
CASE_SECONDS = 300.0
FAULTS_FILE = "faults.json"
HEALTHY_KINDS = (*LANGUAGE_KINDS, kinds_with("clips")[0])
_REAL = 1
"""Every fourth healthy memory is a real one."""
_Variants = tuple[tuple[str, dict[str, Any]], ...]
_TEXT: _Variants = (
    ("packed", {}),
    ("padded", {"packing": "padded"}),
    ("terms", {"diversity_weight": 0.3, "unlikelihood_weight": 0.3, "z_loss_weight": 1e-4, "dominance_weight": 0.5}),
    ("accumulated", {"accumulation": 2, "batch_size": 4}),
    ("energies", {"local_energy_weight": 0.02, "global_energy_weight": 0.02, "coherence_weight": 0.01}),
    ("schedule", {"schedule": ["50: learning_rate = 0.002", "100: label_smoothing = 0.05"]}),
)
_VIDEO: _Variants = (
    ("plain", {}),
    ("mixed", {"noise_correlation": 0.2}),
    ("terms", {"temporal_weight": 0.1, "orthogonality_weight": 0.1, "orthogonality_target": "data"}),
    ("accumulated", {"accumulation": 2, "batch_size": 8}),
    ("anchor", {"flow_path": "rab"}),
    ("schedule", {"schedule": ["100: learning_rate = 0.001", "150: frame_amplification = 4"]}),
    ("network", {"flow_path": "quantum", "anchor": "network", "anchor_kl_weight": 0.01}),
    ("latents", {"latents": "space_to_channel", "patch": 2}),
    ("spherical", {"flow_path": "spherical"}),
    ("heun", {"solver": "heun", "time_sampling": "logit_normal"}),
)


@dataclass(frozen=True)
class ExamCase:
    """One run of the exam.

    Attributes:
        fault: its code, empty for a healthy run.
    """

    name: str
    fault: str
    config: RunConfig


@dataclass(frozen=True)
class ExamResult:
    """What came of a case.

    Attributes:
        expected: findings that name the fault.
        found: name → step at which it was raised, of all that were.
        detected_at: first step of an expected one.
        collapsed_at: step from which on one token took more than half of the predictions, to the end.
        seconds: wall time.
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

    @property
    def detected_at(self) -> int | None:
        """Step of the first finding that names the fault."""
        steps = [step for name, step in self.found.items() if name in self.expected]
        return min(steps, default=None)

    @property
    def passed(self) -> bool:
        """A fault is named in time; a healthy run finishes and is silent."""
        if not self.fault:
            return not self.found and self.state == RunState.FINISHED
        return self.detected_at is not None and self.detected_at <= self.within


def exam_cases(
    codes: Sequence[str] | None = None,
    healthy: int = 10,
    changes: Mapping[str, Any] | None = None,
    kinds: Sequence[str] = HEALTHY_KINDS,
) -> list[ExamCase]:
    """The faults asked for (all by default), then `healthy` runs of each of `kinds`: other seeds, and in turn packed,
    padded, with more terms, accumulated, with energies (smoothed, where there are no phases) and scheduled; clips with
    other noise, paths, terms, latents and solvers.

    Args:
        changes: to every configuration, such as another budget.

    Raises:
        ConfigError: for an unknown code or kind.
    """
    more = dict(changes or {})
    cases = []
    for code in FAULTS if codes is None else codes:
        if code not in FAULTS:
            raise ConfigError(f"unknown fault {code!r}{nearest_hint(code, FAULTS)}; there are {', '.join(FAULTS)}")
        cases.append(
            ExamCase(f"fault-{code}", code, default_run().with_values({**FAULTS[code].preset_changes, **more}))
        )
    for kind in kinds:
        if kind not in HEALTHY_KINDS:
            raise ConfigError(f"the exam has no healthy runs of {kind!r}; there are {', '.join(HEALTHY_KINDS)}")
        makes_clips = "clips" in FAMILIES[kind].capabilities
        sizes = section_types(kind)["model"].model_fields
        variants, base = (_VIDEO, VIDEO_EXAM_BASE) if makes_clips else (_TEXT, {**EXAM_BASE, "kind": kind})
        # the base is the phase model's; others have no phases to set
        if "phases" not in sizes:
            base = {name: value for name, value in base.items() if name != "phases"}
        for seed in range(healthy):
            # in turn, so that a few seeds already meet every kind of healthy run
            variant, varied = variants[seed % len(variants)]
            # energies act on phases: without them the place in the turn is given to terms that every family has
            if "phases" not in FAMILIES[kind].capabilities and variant == "energies":
                variant, varied = "smoothed", {"label_smoothing": 0.1, "entropy_floor_weight": 0.1}
            if "complex_state" in sizes and seed % 4 == _REAL and variant != "energies":
                variant, varied = f"{variant}-real", {**varied, "complex_state": False}
            # another seed for the data as well: a false alarm may come from an odd text
            config = default_run().with_values({**base, **varied, "seed": seed, "data_seed": seed, **more})
            cases.append(ExamCase(f"healthy-{kind}-{seed}-{variant}", "", config))
    return cases


def run_case(lab: Lab, case: ExamCase) -> ExamResult:
    """Train one case to its end and read what was found."""
    started = time.monotonic()
    info = train_to_end(lab, case.name, case.config, "exam", CASE_SECONDS)
    found: dict[str, int] = {}
    for finding in lab.findings(case.name):
        raised = int(finding.evidence["raised_at"])
        # a rule may speak of several terms: the first counts
        found[finding.name] = min(raised, found.get(finding.name, raised))
    fault = FAULTS.get(case.fault)
    return ExamResult(
        name=case.name,
        fault=case.fault,
        kind=case.config.kind,
        state=info.state,
        steps=info.step,
        expected=fault.findings if fault else (),
        within=fault.within if fault else 0,
        found=dict(sorted(found.items(), key=lambda item: item[1])),
        collapsed_at=_collapse(lab, case.name),
        seconds=time.monotonic() - started,
    )


def run_exam(
    folder: Path, cases: Iterable[ExamCase], jobs: int, report: Callable[[ExamResult], None]
) -> list[ExamResult]:
    """Run all cases in `jobs` processes, telling `report` of each as it ends; results in the order of the cases.

    Raises:
        LabError: with the words of a process that failed.
    """
    known = {case.name: case for case in cases}
    results: dict[str, ExamResult] = {}

    def keep(line: str) -> None:
        result = result_from(json.loads(line))
        results[result.name] = result
        report(result)

    faults = {name: case.fault for name, case in known.items()}
    (folder / FAULTS_FILE).write_text(json.dumps(faults), encoding="utf-8")
    fan_out(folder, {name: case.config for name, case in known.items()}, jobs, MODULE, keep)
    return [results[name] for name in known]


def work(folder: Path, names: Sequence[str]) -> Iterator[ExamResult]:
    """One process's share of the exam: the cases whose configurations lie in `folder`."""
    faults = read_json(folder / FAULTS_FILE)
    for lab, name, config in open_share(folder, names):
        yield run_case(lab, ExamCase(name, faults[name], config))


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
    series = lab.reader(name).scalars(catalog.TOKENS_TOP1_SHARE)
    if not len(series):
        return None
    under = (series.values <= COLLAPSED).nonzero()[0]
    if not len(under) or under[-1] == len(series) - 1:
        return None
    return int(series.steps[under[-1] + 1])


if __name__ == "__main__":
    sys.exit(run_as_process(result_to(done) for done in work(Path(sys.argv[1]), sys.argv[2:])))
