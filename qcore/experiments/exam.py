"""The exam: every fault of the bank, planted, weakened faults, and healthy runs beside them; what was named, when, and
the false alarms.

Each case is an ordinary run through the façade, in a folder of its own; what is judged are the findings in its store.
Cases are spread over a few processes, since a small model keeps one core busy and no more. Faults are tried at the
default budget of diagnostics, where a probe waits for its turn, and at 100 %, where none does. A seed varies every case
a little, so that the exam can be sat with cases that nobody has fitted.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.config import (
    EXAM_BASE,
    FAMILIES,
    FAULTS,
    LANGUAGE_KINDS,
    VIDEO_EXAM_BASE,
    WEAKENED,
    ConfigError,
    FaultCase,
    RunConfig,
    default_run,
    kinds_with,
    nearest_hint,
    section_types,
)
from qcore.config.first_weights import starting_like
from qcore.experiments.exam_results import ExamResult, result_from, result_to
from qcore.experiments.halves import halves
from qcore.experiments.parallel_runs import fan_out, open_share, run_as_process, train_to_end
from qcore.experiments.zoo import Fork, write_texts, zoo_cases
from qcore.lab.lab import Lab
from qcore.probes import catalog
from qcore.runs.info import RunInfo

MODULE = "qcore.experiments.exam"
COLLAPSED = 0.5
CASE_SECONDS = 900.0
CASES_FILE = "cases.json"
FULL_BUDGET = 100.0
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
        part: bank, weakened, healthy or zoo.
        half: of its part, a or b.
        weights: first weights, "" for the family's own; see `qcore.config.first_weights`.
        fork: goes on from the run with changes.
        true: findings that are true of a healthy run's data.
        shift: steps by which a seed has moved the fault.
    """

    name: str
    fault: str
    config: RunConfig
    part: str = "bank"
    half: str = ""
    weights: str = ""
    fork: Fork | None = None
    true: tuple[str, ...] = ()
    shift: int = 0


def default_budget() -> float:
    """Percent of step time that a run's diagnostics get when nobody says otherwise."""
    return float(default_run().value("budget_percent"))


def fault_cases(
    codes: Sequence[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    budgets: Sequence[float] = (FULL_BUDGET,),
    part: str = "bank",
    seed: int = 0,
) -> list[ExamCase]:
    """The faults asked for (all by default) of the bank, or of the weakened ones, at each budget.

    Args:
        changes: to every configuration.
        seed: 0: as they are written; another varies sizes, rates, data and the place of the fault.

    Raises:
        ConfigError: for an unknown code.
    """
    table = FAULTS if part == "bank" else WEAKENED
    half_of = halves({code: code[0] for code in table})
    cases = []
    for code in table if codes is None else codes:
        if code not in table:
            raise ConfigError(f"unknown fault {code!r}{nearest_hint(code, table)}; there are {', '.join(table)}")
        for budget in budgets:
            name = f"fault-{code}" if budget == FULL_BUDGET else f"fault-{code}-at-{budget:g}"
            values = {**table[code].preset_changes, "budget_percent": budget, **(changes or {})}
            config, shift = varied(default_run().with_values(values), f"fault-{code}", seed)
            cases.append(ExamCase(name, code, config, part, half_of[code], shift=shift))
    return cases


def healthy_zoo(
    half: str = "",
    changes: Mapping[str, Any] | None = None,
    *,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    folder: Path,
) -> list[ExamCase]:
    """The healthy runs of the zoo (`qcore.experiments.zoo`), whose texts are written below `folder`."""
    animals = zoo_cases(half, changes, kinds)
    configs = write_texts(folder, animals, seed)
    return [
        ExamCase(
            one.name,
            "",
            varied(configs[one.name], one.name, seed)[0],
            "zoo",
            one.half,
            one.weights,
            one.fork,
            one.true,
        )
        for one in animals
    ]


_STEPS = re.compile(r"^ *(\d+)( *\.\. *(\d+))?(?=:)")
_MOST_SHIFTED = 10


def varied(config: RunConfig, name: str, seed: int) -> tuple[RunConfig, int]:
    """A configuration with another seed, other data, a little wider or narrower, faster or slower, its schedule moved;
    and by how many steps. The same for equal names and seeds; seed 0 changes nothing.
    """
    if seed == 0:
        return config, 0
    draw = random.Random(f"{name} {seed}")
    shift = draw.randint(-_MOST_SHIFTED, _MOST_SHIFTED)
    changes: dict[str, Any] = {"seed": draw.randrange(1, 2**31), "data_seed": draw.randrange(2**16)}
    changes["learning_rate"] = round(config.value("learning_rate") * 2 ** draw.uniform(-0.4, 0.4), 6)
    if schedule := config.value("schedule"):
        changes["schedule"] = [_STEPS.sub(lambda found: _moved(found, shift), line) for line in schedule]
    else:
        shift = 0
    # two channels a head more or fewer: rotary positions turn pairs
    unit = 2 * config.value("heads") if "heads" in section_types(config.kind)["model"].model_fields else 0
    if unit:
        changes["width"] = config.value("width") + unit * draw.choice((-1, 0, 1, 2))
    return config.with_values(changes), shift


def _moved(found: re.Match[str], shift: int) -> str:
    first, last = int(found[1]), found[3]
    # what stands at the beginning stays there
    moved = max(1, first + shift) if first else 0
    return f"{moved} .. {max(moved + 1, int(last) + shift)}" if last else str(moved)


def healthy_cases(
    healthy: int, changes: Mapping[str, Any] | None = None, kinds: Sequence[str] = HEALTHY_KINDS
) -> list[ExamCase]:
    """`healthy` runs of each of `kinds`: other seeds, and in turn packed, padded, with more terms, accumulated, with
    energies (smoothed, where there are no phases) and scheduled; clips with other noise, paths, terms, latents and
    solvers.

    Args:
        changes: to every configuration, such as another budget.

    Raises:
        ConfigError: for an unknown kind.
    """
    more = dict(changes or {})
    cases = []
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
            cases.append(ExamCase(f"healthy-{kind}-{seed}-{variant}", "", config, "healthy"))
    return cases


def run_case(lab: Lab, case: ExamCase) -> ExamResult:
    """Train one case to its end, and its fork, and read what was found."""
    started = time.monotonic()
    with starting_like(case.weights):
        info = train_to_end(lab, case.name, case.config, "exam", CASE_SECONDS)
        names = [case.name]
        if case.fork is not None:
            info = _fork_to_end(lab, case.name, case.fork)
            names.append(info.name)
    found: dict[str, int] = {}
    evidence: dict[str, Any] = {}
    for name in names:
        for finding in lab.findings(name):
            raised = int(finding.evidence["raised_at"])
            # a rule may speak of several terms: the first counts
            found[finding.name] = min(raised, found.get(finding.name, raised))
            numbers = {one["label"]: one["value"] for one in finding.evidence.get("numbers", [])}
            told = {"run": name, "title": finding.title, "numbers": numbers, "role": finding.evidence.get("role", "")}
            evidence.setdefault(finding.name, told)
    fault = _fault_of(case)
    held_out = lab.reader(names[-1]).scalars(catalog.EVAL_CE)
    references = lab.reader(names[-1]).meta().get("references") or {}
    return ExamResult(
        name=case.name,
        fault=case.fault,
        kind=case.config.kind,
        state=info.state,
        steps=info.step,
        expected=fault.findings if fault else (),
        within=fault.within + case.shift if fault else 0,
        found=dict(sorted(found.items(), key=lambda item: item[1])),
        collapsed_at=_collapse(lab, case.name),
        seconds=time.monotonic() - started,
        part=case.part,
        budget=case.config.value("budget_percent"),
        half=case.half,
        true=case.true,
        evidence=evidence,
        held_out=float(held_out.values[-1]) if len(held_out) else None,
        unigram=references.get("unigram"),
    )


def _fault_of(case: ExamCase) -> FaultCase | None:
    return (FAULTS if case.part == "bank" else WEAKENED).get(case.fault)


def _fork_to_end(lab: Lab, name: str, fork: Fork) -> RunInfo:
    child = lab.fork(
        name,
        step=fork.step,
        changes=dict(fork.changes),
        config_changes=dict(fork.config_changes),
        new_name=f"{name}-fork",
        author="exam",
    )
    return lab.wait(child, CASE_SECONDS)


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

    written = {name: asdict(replace(case, config=None)) for name, case in known.items()}  # type: ignore[arg-type]
    (folder / CASES_FILE).write_text(json.dumps(written), encoding="utf-8")
    fan_out(folder, {name: case.config for name, case in known.items()}, jobs, MODULE, keep)
    return [results[name] for name in known]


def work(folder: Path, names: Sequence[str]) -> Iterator[ExamResult]:
    """One process's share of the exam: the cases whose configurations lie in `folder`."""
    written = read_json(folder / CASES_FILE)
    for lab, name, config in open_share(folder, names):
        values = written[name]
        fork = Fork(**values["fork"]) if values["fork"] else None
        yield run_case(lab, ExamCase(**{**values, "config": config, "fork": fork, "true": tuple(values["true"])}))


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
