"""exam: plant every fault of the bank, train healthy runs beside them, and print what was named; or try remedies."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from qcore.base.words import number_words
from qcore.cli.base import AsJson, Changes, app, print_json, print_table
from qcore.config import FAULTS, ConfigError, read_changes
from qcore.experiments.exam import HEALTHY_KINDS, ExamResult, exam_cases, result_to, run_exam
from qcore.experiments.remedy_trials import Trial, run_trials, tally, trial_configs


@app.command()
def exam(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CODE", help="One fault; repeatable. Default: all.")
    ] = None,
    healthy: Annotated[int, typer.Option("--healthy", help="Healthy runs of each model family.")] = 10,
    kinds: Annotated[
        list[str] | None, typer.Option("--model", metavar="KIND", help="Healthy runs of one family; repeatable.")
    ] = None,
    changes: Changes = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes side by side.")] = 2,
    keep: Annotated[Path | None, typer.Option("--keep", help="New folder in which the runs are kept.")] = None,
    remedies: Annotated[
        bool, typer.Option("--remedies", help="Try what findings propose: a fork for each remedy, in planted runs.")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", help="Planted runs of each kind, with --remedies.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Plant every fault and train healthy runs: detected or missed, at which step, false alarms. 1 when one fails."""
    if jobs < 1 or healthy < 0:
        raise ConfigError(f"--jobs {jobs} --healthy {healthy} is refused: at least one process, no negative count")
    if remedies:
        return _try_remedies(only, seeds, jobs, keep, as_json)
    cases = exam_cases(only, healthy, read_changes(changes or []), kinds or HEALTHY_KINDS)
    started = time.monotonic()
    with _folder(keep) as folder:
        results = run_exam(folder, cases, jobs, lambda result: print(_line(result), file=sys.stderr, flush=True))
    summary = summarize(results) | {"seconds": time.monotonic() - started}
    if as_json:
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
        rows = [(rule, key, f"{k} of {n}") for (rule, key), (k, n) in found.items()]
        print_table([("finding", "remedy", "helped"), *rows])
    return 0


def _trial_line(trial: Trial) -> str:
    end = f"{'over' if trial.over else 'stands'}, without it {'over' if trial.over_without else 'stands'}"
    loss = f"{number_words(trial.loss, places=3)} against {number_words(trial.loss_without, places=3)}"
    word = "helped" if trial.helped else "no help"
    return f"{word:7}  {trial.case}  {trial.rule}: {trial.label} at step {trial.step}; {end}; held out {loss}"


def summarize(results: Sequence[ExamResult]) -> dict[str, float | int | None]:
    """Counts, the median step of detection, and healthy runs with a finding."""
    faults = [result for result in results if result.fault]
    healthy = [result for result in results if not result.fault]
    steps = [result.detected_at for result in faults if result.detected_at is not None]
    return {
        "faults": len(faults),
        "named": len(steps),
        "named_in_time": sum(result.passed for result in faults),
        "median_step": statistics.median(steps) if steps else None,
        "healthy": len(healthy),
        "healthy_with_findings": sum(bool(result.found) for result in healthy),
        "false_findings": sum(len(result.found) for result in healthy),
    }


def _line(result: ExamResult) -> str:
    verdict = "ok" if result.passed else "FAILED"
    return (
        f"{verdict:6}  {result.name}  {result.state} at step {result.steps}  {number_words(result.seconds, places=1)} s"
    )


def _print(results: Sequence[ExamResult], summary: dict[str, float | int | None]) -> None:
    rows = [("fault", "named by", "at step", "collapse", "other findings", "")]
    for result in results:
        if result.fault:
            named = [name for name in result.found if name in result.expected]
            others = [f"{name} ({step})" for name, step in result.found.items() if name not in result.expected]
            at = "–" if result.detected_at is None else str(result.detected_at)
            collapse = "" if result.collapsed_at is None else str(result.collapsed_at)
            mark = "" if result.passed else "MISSED" if not named else f"LATE (within {result.within})"
            title = f"{result.fault} {FAULTS[result.fault].title}"
            rows.append((title, ", ".join(named) or "–", at, collapse, ", ".join(others), mark))
    if len(rows) > 1:
        print_table(rows)
    for result in results:
        if not result.fault and not result.passed:
            found = ", ".join(f"{name} ({step})" for name, step in result.found.items())
            print(f"{result.name}: {result.state} at step {result.steps}, FALSE: {found or 'none'}")
    print(
        f"{summary['named']} of {summary['faults']} faults named, median step {summary['median_step']}; "
        f"{summary['healthy_with_findings']} of {summary['healthy']} healthy runs with a finding; "
        f"{number_words(summary['seconds'], places=0)} s"
    )
