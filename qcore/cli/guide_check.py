"""verdicts: train paths × noise × seeds and print the guide's expectations beside what came out."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from qcore.base.words import NOT_MEASURED
from qcore.cli.base import AsJson, Changes, app, markdown_table, print_json, print_table
from qcore.config import ConfigError, read_changes
from qcore.experiments.guide_check import (
    CORRELATIONS,
    MEASURES,
    PATHS,
    GuideRun,
    PathMeans,
    guide_configs,
    guide_verdicts,
    run_guide_check,
)
from qcore.lab import GUIDE
from qcore.probes.catalog import frame_measure
from qcore.viz import number_words


@app.command("verdicts")
def judge_guide(
    paths: Annotated[list[str] | None, typer.Option("--path", help="One path; repeatable. Default: all.")] = None,
    noise: Annotated[list[float] | None, typer.Option("--noise", help="One ρ; repeatable. Default: 0, 0.9, 1.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each.")] = 3,
    changes: Changes = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes side by side.")] = 2,
    keep: Annotated[Path | None, typer.Option("--keep", help="New folder in which the runs are kept.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train every path with shared, mixed and independent noise; the guide's promises beside what was measured."""
    if jobs < 1 or seeds < 1:
        raise ConfigError(f"--jobs {jobs} --seeds {seeds} is refused: at least one of each")
    configs = guide_configs(paths or PATHS, noise or CORRELATIONS, seeds, read_changes(changes or []))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qcore-verdicts-") as scratch:
        folder = keep or Path(scratch)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=False)
        runs = run_guide_check(folder, configs, jobs, _print_run)
    rows, data = guide_verdicts(runs)
    if as_json:
        print_json({"data": data, "verdicts": [asdict(row) for row in rows], "runs": [asdict(run) for run in runs]})
        return 0
    table = _table(rows, data)
    print(markdown_table(table)) if markdown else print_table(table)
    print(f"\n{len(runs)} runs, {number_words(time.monotonic() - started, places=0)} s", file=sys.stderr)
    return 0


def _print_run(run: GuideRun) -> None:
    print(f"{run.name}  {run.state}  {number_words(run.seconds, places=1)} s", file=sys.stderr, flush=True)


def _table(rows: Sequence[PathMeans], data: dict[str, float]) -> list[tuple[str, ...]]:
    """Header, the guide's promises, the data's values, then one line a path and noise; ✓ where the guide's is met."""
    promises = GUIDE.promises
    head = ("path", "ρ", *(frame_measure(measure).label.lower() for measure in MEASURES))
    promised = ("guide", "1", *(promises[measure].range_text if measure in promises else "" for measure in MEASURES))
    own = ("data", "", *(number_words(data.get(measure), places=2) for measure in MEASURES))
    lines = [head, promised, own]
    for row in rows:
        cells = []
        for measure in MEASURES:
            spread = row.deviation[measure]
            beside = "" if math.isnan(spread) else f" ± {number_words(spread, places=2)}"
            met = " ✓" if measure in promises and row.meets(measure) else ""
            cells.append(f"{_mean(row.mean[measure])}{beside}{met}")
        lines.append((row.path, f"{row.noise_correlation:g}", *cells))
    return lines


def _mean(value: float) -> str:
    return NOT_MEASURED if math.isnan(value) else number_words(value, places=2)
