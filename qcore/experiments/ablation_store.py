"""Kept ablations: their files, and one that trains in the background, with progress and an end on demand.

An ablation is `<runs>/.ablations/<name>.json`: base configuration, variants, seeds, and every case that ended. Its name
is made from the base, so that asking again goes on, with more seeds or variants if wanted. A process that trains holds
the lock in the folder of the same name; one in the background leads a session, so that an end reaches its workers too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.config import ConfigError, RunConfig
from qcore.config.ablation_variants import Variant, variants_of
from qcore.experiments import background_job
from qcore.experiments.ablation import CaseResult, VariantRow, ablation_rows, run_ablation
from qcore.experiments.stored_records import parse_record
from qcore.lab.inputs import check_inputs
from qcore.runs.errors import LabError, sentence
from qcore.runs.names import check_name
from qcore.store import BAD_DATA, shapes

MODULE = "qcore.experiments.ablation_store"
FOLDER = ".ablations"
FORMAT, VERSION = "collapse-lab-ablation", 1
_WORK = "work"
MOST_SEEDS = 1000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ablation:
    """A kept ablation.

    Attributes:
        config: of plain cross-entropy, seed aside.
        cases: those that ended.
        created: epoch s.
    """

    name: str
    created: float
    config: RunConfig
    variants: tuple[Variant, ...]
    seeds: int
    cases: dict[str, CaseResult]

    @property
    def total(self) -> int:
        """Cases in all."""
        return len(self.variants) * self.seeds

    @property
    def results(self) -> list[CaseResult]:
        """Cases that ended, in the order of the list."""
        wanted = [f"{variant.name}-{seed}" for variant in self.variants for seed in range(self.seeds)]
        return [self.cases[name] for name in wanted if name in self.cases]

    @property
    def rows(self) -> list[VariantRow]:
        """A row a variant, of the cases that ended."""
        return ablation_rows(self.results, self.variants)


@dataclass(frozen=True)
class _StoredAblation:
    """An ablation as its file has it."""

    created: float
    config: dict[str, Any]
    variants: list[str]
    seeds: int
    cases: tuple[CaseResult, ...]


def plan_ablation(
    runs_dir: Path, config: RunConfig, only: Sequence[str] | None = None, seeds: int = 3, name: str | None = None
) -> Ablation:
    """An ablation of this base: the kept one of that name with these variants and seeds added, or a new one.

    Nothing is written.

    Raises:
        ConfigError: for an unknown variant or fewer seeds than one.
        LabError: for a name that another base has, or that cannot be a name.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(
            f"seeds = {seeds} is refused: from 1 to {MOST_SEEDS}; at least three are needed for a verdict"
        )
    base = check_inputs(config).with_values({"seed": 0, "data_seed": 0})
    digest = hashlib.sha256(base.to_yaml().encode()).hexdigest()[:6]
    chosen = check_name(name or f"{config.kind}-{config.value('steps')}-{digest}")
    wanted = variants_of(config.kind, only)
    if not _file(runs_dir, chosen).exists():
        return Ablation(chosen, time.time(), base, wanted, seeds, {})
    kept = read_ablation(runs_dir, chosen)
    if kept.config != base:
        raise LabError(f"the ablation {chosen!r} has another base: give this one another name")
    names = {variant.name for variant in (*kept.variants, *wanted)}
    return replace(kept, variants=variants_of(config.kind, sorted(names)), seeds=max(seeds, kept.seeds))


def ablations(runs_dir: Path) -> list[Ablation]:
    """All kept ablations that can be read, newest first."""
    found = []
    for path in (runs_dir / FOLDER).glob("*.json"):
        try:
            found.append(read_ablation(runs_dir, path.stem))
        except (LabError, OSError) as error:  # one that is damaged hides no other
            log.warning("%s is left out: %s", path, error)
    return sorted(found, key=lambda ablation: -ablation.created)


def read_ablation(runs_dir: Path, name: str) -> Ablation:
    """A kept ablation.

    Raises:
        LabError: when there is none of the name, or its file is damaged.
    """
    path = _file(runs_dir, check_name(name))
    try:
        document: dict[str, Any] = read_json(path)
        if (document.pop("format"), document.pop("version")) != (FORMAT, VERSION):
            raise LabError(f"{path.name} is not an ablation of this version: move it away")
        kept = parse_record(_StoredAblation, document, path.name)
        if not 1 <= kept.seeds <= MOST_SEEDS:
            raise shapes.refuse(f"{path.name}.seeds", kept.seeds, f"a number from 1 to {MOST_SEEDS}")
        config = RunConfig.from_dict(kept.config)
        return Ablation(
            name=name,
            created=kept.created,
            config=config,
            variants=variants_of(config.kind, kept.variants),
            seeds=kept.seeds,
            cases={case.name: case for case in kept.cases},
        )
    except FileNotFoundError:
        raise LabError(f"there is no ablation {name!r}: start one with qcore ablate") from None
    except LabError:
        raise
    except BAD_DATA as error:
        raise LabError(f"the ablation {name!r} cannot be read ({error}): move its file away") from error


def train_ablation(
    runs_dir: Path, plan: Ablation, jobs: int, report: Callable[[CaseResult], None] = lambda result: None
) -> Ablation:
    """Train what is missing, keeping every case as it finishes; the whole ablation.

    `LabError` while another process trains it, or with the words of a process that failed.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs} is refused: at least one process")
    place = _ablation_folder(runs_dir, plan.name)
    place.mkdir(parents=True, exist_ok=True)
    work = place / _WORK
    with background_job.hold_folder(place):
        shutil.rmtree(work, ignore_errors=True)  # what a process that was killed has left
        work.mkdir()
        _write(runs_dir, plan)
        cases = dict(plan.cases)

        def keep(result: CaseResult) -> None:
            cases[result.name] = result
            _write(runs_dir, replace(plan, cases=dict(cases)))
            report(result)

        try:
            run_ablation(work, plan.config, plan.variants, plan.seeds, jobs, keep, plan.cases)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return replace(plan, cases=cases)


def start_ablation(runs_dir: Path, plan: Ablation, jobs: int) -> str:
    """Train it in a process of its own, which goes on when this one ends; its name. `LabError` while one trains it."""
    place = _ablation_folder(runs_dir, plan.name)
    place.mkdir(parents=True, exist_ok=True)
    if not is_training(runs_dir, plan.name):
        _write(runs_dir, plan)
    background_job.start(place, MODULE, str(runs_dir), plan.name, str(jobs))
    return plan.name


def is_training(runs_dir: Path, name: str) -> bool:
    """Whether a process trains it, here or elsewhere; a child that has just been started counts."""
    return background_job.is_working(_ablation_folder(runs_dir, name))


def cancel_ablation(runs_dir: Path, name: str) -> None:
    """End the process that trains it, with its workers; finished cases stay.

    Raises:
        LabError: when none trains it.
    """
    background_job.cancel(_ablation_folder(runs_dir, name))


def failure_text(runs_dir: Path, name: str) -> str:
    """Last words of the background process, when it broke off; empty otherwise."""
    return background_job.last_words(_ablation_folder(runs_dir, name))


def _ablation_folder(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / check_name(name)


def _file(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / f"{name}.json"


def _write(runs_dir: Path, ablation: Ablation) -> None:
    document = {
        "format": FORMAT,
        "version": VERSION,
        "created": ablation.created,
        "config": ablation.config.model_dump(),
        "variants": [variant.name for variant in ablation.variants],
        "seeds": ablation.seeds,
        "cases": [asdict(case) for case in ablation.cases.values()],
    }
    path = _file(runs_dir, ablation.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(document), encoding="utf-8")
    os.replace(aside, path)


def _main(runs_dir: Path, name: str, jobs: int) -> int:
    try:
        train_ablation(runs_dir, read_ablation(runs_dir, name), jobs)
    except (ValueError, OSError) as error:
        print(sentence(error), file=sys.stderr)  # noqa: T201 - the log that the page shows
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
