"""bench: models side by side: size, counted and achieved operations, speed, memory, and quality beside n-grams."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.cli.base import RUNS, AsJson, Changes, Runs, app, markdown_table, print_json, print_table, with_options
from qcore.config import LANGUAGE_KINDS, ConfigError, RunConfig, default_run, person_path, preset, read_changes
from qcore.experiments.benchmark import MATCHES, bench_spec, run_benchmark
from qcore.experiments.benchmark_store import EQUAL, Benchmark, BenchSpec, published_counts, quality_rows
from qcore.runs.names import open_folder

_MODELS = ",".join(LANGUAGE_KINDS)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What `qcore bench` may be told."""

    models: Annotated[
        str,
        typer.Option(
            "--models",
            help="Families, separated by commas; values of one follow a colon and are joined by +, such as "
            "pam:complex_state=false+heads=2.",
        ),
    ] = _MODELS
    preset_name: Annotated[str | None, typer.Option("--preset", help="Starting point (default: the defaults).")] = None
    changes: Changes = None
    match: Annotated[
        str, typer.Option("--match", help=f"What all models share with the reference: {', '.join(MATCHES)}.")
    ] = "parameters"
    reference: Annotated[
        str | None, typer.Option("--reference", help="Model that sets size and seconds (default: the transformer).")
    ] = None
    equal: Annotated[
        list[str] | None,
        typer.Option("--equal", help=f"Quality at equal {' or '.join(EQUAL)}; repeatable. Default: both."),
    ] = None
    quality: Annotated[bool, typer.Option("--quality/--no-quality", help="Train the models, too.")] = True
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each model.")] = 1
    steps: Annotated[int, typer.Option("--steps", help="Steps of the reference's runs.")] = 400
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", help="Text file to train on; given twice, the second one is evaluated on."),
    ] = None
    positions: Annotated[
        str, typer.Option("--positions", help="Positions at which generation is timed; empty: none.")
    ] = "100,500,1000,2000"
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of the timing.")] = 9
    windows: Annotated[int, typer.Option("--windows", help="Held-out windows of the last evaluation; 0: all.")] = 0
    jobs: Annotated[int, typer.Option("--jobs", help="Training processes side by side, one thread each.")] = 2
    name: Annotated[str | None, typer.Option("--name", help="Name of the stored results (default: the time).")] = None
    runs: Runs = RUNS
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False
    as_json: AsJson = False


@app.command("bench")
@with_options(BenchOptions)
def compare_models(options: BenchOptions) -> int:
    """Compare models: size, operations, speed, memory, generation and held-out bits per byte, and keep the results."""
    found = run_benchmark(
        open_folder(options.runs), _spec(options), lambda stage: print(stage, file=sys.stderr, flush=True)
    )
    if options.as_json:
        print_json({**asdict(found), "quality": [asdict(row) for row in quality_rows(found.runs)]})
    else:
        _show(found, options.markdown)
    return 0 if all(run.state == RunState.FINISHED for run in found.runs) else 1


def _spec(options: BenchOptions) -> BenchSpec:
    """What is compared, checked.

    Raises:
        ConfigError: for a value that cannot be.
    """
    base = preset(options.preset_name).config if options.preset_name else default_run()
    texts = _texts(options.text or [])
    base = base.with_values({"steps": options.steps, **texts}).with_values(read_changes(options.changes or []))
    reference = options.reference
    return bench_spec(
        [label.replace("+", ",") for label in options.models.split(",") if label],
        base,
        name=options.name or time.strftime("bench-%m%d-%H%M%S"),
        match=options.match,
        reference=reference.replace("+", ",") if reference else None,
        equal=tuple(options.equal or EQUAL) if options.quality else (),
        seeds=options.seeds,
        jobs=options.jobs,
        rounds=options.rounds,
        windows=options.windows,
        positions=_positions(options.positions),
    )


def _texts(paths: list[Path]) -> dict[str, Any]:
    """Bytes of one file or of two; nothing when none is given."""
    if len(paths) > 2:
        raise ConfigError(f"--text is given {len(paths)} times: one file to train on, and one to evaluate on")
    if not paths:
        return {}
    first, *second = (str(person_path(path, "--text")) for path in paths)
    held_out = {"validation_path": second[0]} if second else {}
    return {"source": "text", "tokenizer": "byte", "path": first, **held_out}


def _positions(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--positions {text!r} is refused: write whole numbers, such as 100,2000") from None
    if any(position < 1 for position in found):
        raise ConfigError(f"--positions {text!r} is refused: positions start at 1")
    return found


def _show(found: Benchmark, markdown: bool) -> None:
    tables = [measured_table(found), generation_table(found), quality_table(found)]
    if markdown:
        tables.append([("count", "published", "ours", "formula"), *(
            (count.what, count.published, count.ours, count.formula) for count in published_counts()
        )])  # fmt: skip
    for table in tables:
        if len(table) > 1:
            print(markdown_table(table) if markdown else "", end="\n" if markdown else "")
            if not markdown:
                print_table(table)
            print()
    print(_sentence(found.spec))


def _sentence(spec: BenchSpec) -> str:
    """How it was measured, for under a table."""
    config = RunConfig.from_yaml(spec.models[spec.reference])
    matched = "as configured" if spec.match == "none" else f"matched by {spec.match} (within 2 %) to {spec.reference}"
    return (
        f"Sizes {matched}; a step is forward, cross-entropy, backward and AdamW on {config.value('batch_size')} × "
        f"{config.value('context')} tokens; ratios are medians of {spec.rounds} rounds. ± is half the 95 % interval "
        f"over seeds (Student's t)."
    )


def measured_table(found: Benchmark) -> list[tuple[str, ...]]:
    """Size, operations, speed and memory; a line a model."""
    head = (
        "model", "parameters", "GFLOP forward", "GFLOP/s", "forward ms", "backward ms", "train tokens/s",
        f"÷ {found.spec.reference}", "peak memory", "forecast",
    )  # fmt: skip
    return [head, *(_measured_row(row) for row in found.measurements)]


def _measured_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    timing = row["timing"]
    median, low, high = timing["ratio"]
    return (
        row["label"],
        f"{row['parameters']:,}",
        number_words(row["flops"] / 1e9, 3),
        number_words(row["gflops_forward"], 3),
        number_words(timing["forward_ms"], places=1),
        number_words(timing["backward_ms"], places=1),
        number_words(row["tokens_per_second"], places=0),
        f"{number_words(median, places=2)} ({number_words(low, places=2)}–{number_words(high, places=2)})",
        _megabytes(row["peak_bytes"]),
        _megabytes(row["forecast_bytes"]),
    )


def _megabytes(size: float | None) -> str:
    return "–" if size is None else f"{number_words(size / 1e6, places=0)} MB"


def generation_table(found: Benchmark) -> list[tuple[str, ...]]:
    """Tokens a second of one row at each position, and the last position's share of the first."""
    positions = [f"at {position:,}" for position in found.spec.positions]
    if not positions:
        return []
    lines = [("generation, tokens/s", *positions, "last ÷ first")]
    for row in found.measurements:
        rates = [rate for _, rate in row["generation"]]
        lines.append(
            (
                row["label"],
                *(number_words(rate, places=0) for rate in rates),
                number_words(rates[-1] / rates[0], places=2),
            )
        )
    return lines


def quality_table(found: Benchmark) -> list[tuple[str, ...]]:
    """Held-out bits per byte at equal tokens and at equal seconds, with the n-gram references below."""
    rows = {(row.label, row.equal): row for row in quality_rows(found.runs)}
    if not rows:
        return []
    lines = [("held-out bits per byte", *(f"equal {equal}" for equal in found.spec.equal), "steps", "seconds")]
    for row in found.measurements:
        mine = [rows.get((row["label"], equal)) for equal in found.spec.equal]
        cells = [
            "–"
            if one is None
            else number_words(one.mean, places=3)
            + (f" ± {number_words(one.reach, places=3)}" if one.reach is not None else "")
            for one in mine
        ]
        there = [one for one in mine if one is not None]
        steps, seconds = (
            " / ".join(str(one.steps) for one in there),
            " / ".join(number_words(one.seconds, places=0) for one in there),
        )
        lines.append((row["label"], *cells, steps, seconds))
    for name, value in found.references.items():
        if value is not None:
            lines.append((f"*{name}*", *(number_words(value, places=3) for _ in found.spec.equal), "", ""))
    return lines
