"""exam: plant every fault of the bank, train healthy runs beside them, and print what was named; or try remedies."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from qcore.base.words import number_words
from qcore.cli.base import AsJson, Changes, app, print_json, print_table, with_options
from qcore.config import FAULTS, WEAKENED, ConfigError, read_changes
from qcore.experiments.exam import (
    FULL_BUDGET,
    HEALTHY_KINDS,
    ExamCase,
    default_budget,
    fault_cases,
    healthy_cases,
    healthy_zoo,
    run_exam,
)
from qcore.experiments.exam_results import OUTCOMES, ExamResult, result_to, summarize
from qcore.experiments.halves import HALVES
from qcore.experiments.remedy_trials import Trial, run_trials, tally, trial_configs

_HEAD = ("part", "half", "budget", "cases", "by cause", "symptom only", "wrong", "silent", "in time", "median step")


@dataclass(frozen=True, kw_only=True)
class ExamOptions:
    """What `qcore exam` may be told."""

    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CODE", help="One fault; repeatable. Default: all.")
    ] = None
    zoo: Annotated[bool, typer.Option("--zoo", help="The healthy zoo alone.")] = False
    weakened: Annotated[bool, typer.Option("--weakened", help="The weakened faults alone.")] = False
    half: Annotated[
        str, typer.Option("--half", help="One half: a, to which limits may be fitted, or b. Default: both.")
    ] = ""
    budgets: Annotated[
        list[float] | None,
        typer.Option(
            "--budget",
            metavar="PERCENT",
            help="Budget of the diagnostics in runs with a fault; repeatable. Default: that of a run, and 100.",
        ),
    ] = None
    seed: Annotated[
        int, typer.Option("--seed", help="Varies every case: sizes, rates, data, place of the fault. 0: as written.")
    ] = 0
    healthy: Annotated[int, typer.Option("--healthy", help="Healthy twins of each model family, beside the zoo.")] = 0
    kinds: Annotated[
        list[str] | None, typer.Option("--model", metavar="KIND", help="Healthy runs of one family; repeatable.")
    ] = None
    changes: Changes = None
    jobs: Annotated[int, typer.Option("--jobs", help="Processes side by side.")] = 2
    keep: Annotated[Path | None, typer.Option("--keep", help="New folder in which the runs are kept.")] = None
    remedies: Annotated[
        bool, typer.Option("--remedies", help="Try what findings propose: a fork for each remedy, in planted runs.")
    ] = False
    seeds: Annotated[int, typer.Option("--seeds", help="Planted runs of each kind, with --remedies.")] = 1
    as_json: AsJson = False


@app.command()
@with_options(ExamOptions)
def exam(options: ExamOptions) -> int:
    """Plant every fault and train healthy runs: what was named, at which step, and what was accused falsely.

    Without options: the bank at a run's own budget and at 100 %, the weakened faults, the zoo. 1 when a fault is
    missed or a healthy run accused.
    """
    if options.jobs < 1 or options.healthy < 0:
        raise ConfigError(
            f"--jobs {options.jobs} --healthy {options.healthy} is refused: at least one process, no negative count"
        )
    if options.half not in ("", *HALVES):
        raise ConfigError(f"--half {options.half!r} is refused: take {' or '.join(HALVES)}, or leave it out for both")
    if options.remedies:
        return _try_remedies(options.only, options.seeds, options.jobs, options.keep, options.as_json)
    started = time.monotonic()
    with _folder(options.keep) as folder:
        cases = _cases(options, folder)
        results = run_exam(folder, cases, options.jobs, lambda done: print(_line(done), file=sys.stderr, flush=True))
    summary = summarize(results) | {"seconds": time.monotonic() - started}
    if options.as_json:
        print_json({"summary": summary, "results": [result_to(result) for result in results]})
    else:
        _print(results, summary)
    return 0 if all(result.passed for result in results) else 1


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A new folder for the runs, that stays or does not."""
    with tempfile.TemporaryDirectory(prefix="qcore-exam-") as scratch:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=False)
        yield keep or Path(scratch)


def _try_remedies(only: list[str] | None, seeds: int, jobs: int, keep: Path | None, as_json: bool) -> int:
    """Print rule, remedy, and in how many planted runs it helped: rows of `qcore.detect.remedies.MEASURED`."""
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds} is refused: at least one planted run of each kind")
    configs = trial_configs(only, seeds)
    with _folder(keep) as folder:
        trials = run_trials(folder, configs, jobs, lambda one: print(_trial_line(one), file=sys.stderr, flush=True))
    found = tally(trials)
    if as_json:
        tallied = [{"rule": rule, "remedy": key, "helped": k, "runs": n} for (rule, key), (k, n) in found.items()]
        print_json({"tally": tallied, "trials": [{**vars(one), "helped": one.helped} for one in trials]})
    else:
        lines = [(rule, key, f"{k} of {n}") for (rule, key), (k, n) in found.items()]
        print_table([("finding", "remedy", "helped"), *lines])
    return 0


def _trial_line(trial: Trial) -> str:
    end = f"{'over' if trial.over else 'stands'}, without it {'over' if trial.over_without else 'stands'}"
    loss = f"{number_words(trial.loss, places=3)} against {number_words(trial.loss_without, places=3)}"
    word = "helped" if trial.helped else "no help"
    return f"{word:7}  {trial.case}  {trial.rule}: {trial.label} at step {trial.step}; {end}; held out {loss}"


def _cases(options: ExamOptions, folder: Path) -> list[ExamCase]:
    """The cases that are asked for.

    Raises:
        ConfigError: for an unknown code or family, or a value that is refused.
    """
    changes = read_changes(options.changes or [])
    budgets = options.budgets or ([FULL_BUDGET] if "budget_percent" in changes else [default_budget(), FULL_BUDGET])
    every = not (options.zoo or options.weakened or options.only is not None)
    found: list[ExamCase] = []
    for part, asked in (("bank", every), ("weakened", every or options.weakened)):
        table = FAULTS if part == "bank" else WEAKENED
        known = [code for code in options.only or [] if code in table]
        # a code that is nowhere is refused by the bank, which names the nearest
        unknown = [code for code in options.only or [] if code not in FAULTS and code not in WEAKENED]
        codes = [*known, *(unknown if part == "bank" else [])] if options.only else None
        if asked or codes:
            found += fault_cases(codes, changes, budgets=budgets, part=part, seed=options.seed)
    found = [case for case in found if options.half in ("", case.half)]
    found += healthy_cases(options.healthy, changes, options.kinds or HEALTHY_KINDS)
    if every or options.zoo:
        found += healthy_zoo(options.half, changes, kinds=options.kinds, seed=options.seed, folder=folder)
    return found


def _line(result: ExamResult) -> str:
    verdict = "ok" if result.passed else "FAILED"
    return (
        f"{verdict:6}  {result.name}  {result.state} at step {result.steps}  {number_words(result.seconds, places=1)} s"
    )


def _print(results: Sequence[ExamResult], summary: dict[str, Any]) -> None:
    rows = [("fault", "budget", "named by", "at step", "collapse", "other findings", "")]
    for result in results:
        if result.fault:
            named = [name for name in result.found if name in result.expected]
            others = [f"{name} ({step})" for name, step in result.found.items() if name not in result.expected]
            at = "–" if result.detected_at is None else str(result.detected_at)
            collapse = "" if result.collapsed_at is None else str(result.collapsed_at)
            late = f"LATE (within {result.within})" if named and not result.passed else result.outcome.upper()
            title = f"{result.fault} {(FAULTS | WEAKENED)[result.fault].title}"
            budget = f"{result.budget:g} %"
            mark = "" if result.passed and result.outcome == "cause" else late
            rows.append((title, budget, ", ".join(named) or "–", at, collapse, ", ".join(others), mark))
    if len(rows) > 1:
        print_table(rows)
    for result in results:
        if not result.fault and not result.passed:
            print(f"{result.name}: {result.state} at step {result.steps}{'' if result.false else ', no finding'}")
            for name, step in result.false.items():
                print(f"  FALSE: {name} ({step}): {result.evidence.get(name, {}).get('title', '')}")
    _print_counts(summary)


def _print_counts(summary: dict[str, Any]) -> None:
    """A line for each part, half and budget, and one for all."""
    rows = [_HEAD]
    for row in summary["rows"]:
        if "cause" in row:
            counts = tuple(str(row[name]) for name in OUTCOMES)
            step = "–" if row["median_step"] is None else number_words(row["median_step"])
            half = row["half"] or "both"
            rows.append(
                (row["part"], half, f"{row['budget']:g} %", str(row["cases"]), *counts, str(row["in_time"]), step)
            )
    if len(rows) > 1:
        print_table(rows)
    for row in summary["rows"]:
        if "cause" not in row:
            half = row["half"] or "a and b"
            print(
                f"{row['part']}, half {half}: {row['with_findings']} of {row['cases']} healthy runs with a finding, "
                f"{row['false_findings']} false findings"
            )
    print(
        f"{summary['named']} of {summary['faults']} faults named, median step {summary['median_step']}; "
        f"{summary['healthy_with_findings']} of {summary['healthy']} healthy runs with a finding; "
        f"{number_words(summary['seconds'], places=0)} s"
    )
