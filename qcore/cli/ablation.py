"""ablate: each loss term and mechanism against plain cross-entropy, matched by quality, over a few seeds."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from qcore.cli.base import (
    RUNS,
    AsJson,
    Changes,
    Runs,
    app,
    markdown_table,
    print_json,
    print_table,
    with_options,
)
from qcore.config import KIND, LANGUAGE_KINDS, ConfigError, RunConfig, preset, read_changes, read_text_file, shorten
from qcore.experiments.ablation import STRETCH, CaseResult, VariantRow, base_config
from qcore.experiments.ablation_store import plan_ablation, train_ablation
from qcore.runs.names import open_folder
from qcore.viz import number_words

HEAD = (
    "change",
    "held-out − base, nats (95 %)",
    "verdict",
    "seeds needed",
    "steps to base's loss",
    "time to it ÷ base's",
    "time a step ÷",
    "parameters ÷",
    "repetition",
    "distinct-2",
)


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """What `qcore ablate` may be told."""

    preset_name: Annotated[str | None, typer.Option("--preset", help="Starting point instead of the small model.")] = (
        None
    )
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with a run configuration.")] = None
    kind: Annotated[
        str,
        typer.Option("--model", metavar="KIND", help="Family of the small model: " + ", ".join(LANGUAGE_KINDS) + "."),
    ] = KIND.default
    changes: Changes = None
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="One variant; repeatable. Default: all.")
    ] = None
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each variant.")] = 3
    steps: Annotated[
        int, typer.Option("--steps", help="Steps of each run; a variant that is behind gets half as many more.")
    ] = 300
    jobs: Annotated[int, typer.Option("--jobs", help="Processes side by side.")] = 2
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the stored results (default: made from the base).")
    ] = None
    runs: Runs = RUNS
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False
    as_json: AsJson = False


@app.command()
@with_options(AblateOptions)
def ablate(options: AblateOptions) -> int:
    """Compare each term and mechanism with plain cross-entropy: held-out loss, time to equal quality, samples."""
    started = time.monotonic()
    base = base_config(
        _start(options.preset_name, options.config),
        kind=options.kind,
        changes=read_changes(options.changes or []),
        steps=options.steps,
    )
    folder = open_folder(options.runs)
    plan = plan_ablation(folder, base, options.only, options.seeds, options.name)
    print(
        f"{plan.name}: {plan.total} runs of {base.value('steps')} steps, {len(plan.results)} of them kept",
        file=sys.stderr,
    )
    done = train_ablation(folder, plan, options.jobs, _print_case)
    if options.as_json:
        rows = [asdict(row) | {"verdict": row.verdict, "earns": row.earns} for row in done.rows]
        print_json({"name": done.name, "rows": rows, "cases": [asdict(case) for case in done.results]})
        return 0
    print(ablation_markdown(done.rows)) if options.markdown else print_table(table(done.rows))
    print(
        f"\n{_note(done.rows)}\n{len(done.results)} runs, {number_words(time.monotonic() - started, places=0)} s",
        file=sys.stderr,
    )
    return 0


def _start(preset_name: str | None, path: Path | None) -> RunConfig | None:
    if preset_name is not None and path is not None:
        raise ConfigError("--preset and --config are two starting points: give one of them")
    if path is not None:
        return RunConfig.from_yaml(read_text_file(path), shorten(str(path)))
    return None if preset_name is None else preset(preset_name).config


def _print_case(case: CaseResult) -> None:
    held_out = "failed" if case.held_out is None else number_words(case.held_out, places=3)
    print(f"{case.name}  {held_out}  {number_words(case.seconds, places=1)} s", file=sys.stderr, flush=True)


def _note(rows: Sequence[VariantRow]) -> str:
    judged = [row for row in rows if row.difference is not None and row.difference.n > 1]
    return (
        f"{len(judged)} comparisons at 95 %: {number_words(len(judged) / 20, places=1)} of them would exclude 0 by "
        "chance alone. * reaches the base's loss in less time, by its whole interval."
    )


def ablation_markdown(rows: Sequence[VariantRow]) -> str:
    """The table as Markdown."""
    return markdown_table(table(rows))


def table(rows: Sequence[VariantRow]) -> list[tuple[str, ...]]:
    """Head, then one line a variant; the base's own figures first."""
    lines: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        difference = row.difference
        lines.append(
            (
                row.variant.title,
                f"base: {number_words(row.held_out, places=3)}"
                if difference is None and not row.failed
                else _interval(row),
                "" if difference is None and not row.failed else row.verdict,
                "" if difference is None else _pairs_text(difference.needed),
                _steps(row),
                ("–" if row.seconds_ratio is None else row.seconds_ratio.text) + (" *" if row.earns else ""),
                number_words(row.cost_ratio, places=2),
                number_words(row.parameters_ratio, places=2),
                number_words(row.repetition, places=2),
                number_words(row.distinct_2, places=2),
            )
        )
    return lines


def _interval(row: VariantRow) -> str:
    difference = row.difference
    if difference is None:
        return "–"
    if difference.n < 2:
        return _signed_text(difference.mean)
    return f"{_signed_text(difference.mean)} ({_signed_text(difference.low)} … {_signed_text(difference.high)})"


def _signed_text(value: float) -> str:
    return number_words(value, places=3, signed=True)


def _pairs_text(needed: int | None) -> str:
    return "–" if needed is None else "> 999" if needed > 999 else str(needed)


def _steps(row: VariantRow) -> str:
    if row.steps is None:
        return f"not within {STRETCH:g} ×" if row.pairs else "–"
    return number_words(row.steps, places=0) + (
        "" if row.reached == row.pairs else f" ({row.reached} of {row.pairs} seeds)"
    )
