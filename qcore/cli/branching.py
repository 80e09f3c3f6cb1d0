"""replay, fork, rewind, grow, tree, effect, sweep: other futures of a run, and proof that its own can be repeated."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from qcore.base.words import number_words
from qcore.cli.base import (
    AUTHOR,
    RUNS,
    AsJson,
    Changes,
    Name,
    Quiet,
    Runs,
    app,
    open_lab,
    print_json,
    print_table,
    with_options,
)
from qcore.cli.steering import send_commands
from qcore.cli.training import follow, signals
from qcore.config import Grow, read_changes
from qcore.experiments.effect import effect as measure_effect
from qcore.experiments.effect import sweep as measure_sweep
from qcore.probes import catalog
from qcore.runs.lineage import RunNode

Step = Annotated[int, typer.Option("--step", help="Step to start from: a checkpoint, or any other step of the run.")]
Metric = Annotated[str | None, typer.Option("--metric", help="Series to compare (default: the held-out loss).")]
Steps = Annotated[int, typer.Option("--steps", help="Updates in every fork.")]
Last = Annotated[int, typer.Option("--last", help="Take the mean over this many last steps; 1: the value at the end.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Processes side by side.")]


@app.command()
def replay(
    name: Name,
    steps: Annotated[int | None, typer.Option("--steps", help="Only the first N updates.")] = None,
    runs: Runs = RUNS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Train a run again from configuration, seed and events; compare every value bit for bit. 1 when one differs."""
    with open_lab(runs) as lab:
        result = lab.replay(name, steps, _progress("step", quiet))
    if as_json:
        print_json(result)
        return 0 if result.identical else 1
    clock = sum(catalog.in_group(series, catalog.COST) for series in result.left_out)
    others = [series for series in result.left_out if not catalog.in_group(series, catalog.COST)]
    compared = f"{result.values:,} values of {result.series} series and {result.samples} samples"
    print(f"{name}: {compared}, steps {result.first_step + 1} to {result.first_step + result.steps}")
    print(
        f"left out, as they depend on the clock or the machine: {', '.join(others)}, and {clock} costs of probes "
        "(cost/…)"
    )
    if result.first_difference is None:
        print(f"identical, bit for bit ({number_words(result.seconds, places=1)} s)")
        return 0
    first = result.first_difference
    print(f"{result.differing} differ; first at step {first.step}, {first.series}:")
    print(f"  the run     {first.original!r}\n  the replay  {first.replayed!r}")
    return 1


@dataclass(frozen=True, kw_only=True)
class ForkOptions:
    """What `qcore fork` may be told."""

    name: Name
    step: Annotated[int | None, typer.Option("--step", help="Step to continue from (default: now).")] = None
    changes: Changes = None
    new_name: Annotated[str | None, typer.Option("--name", help="Name of the fork (default: generated).")] = None
    until: Annotated[int | None, typer.Option("--until", help="Stop after this step.")] = None
    reason: Annotated[str, typer.Option("--reason", help="Why, for the run tree.")] = ""
    start: Annotated[bool, typer.Option(help="Train it here immediately, or leave it for qcore resume.")] = True
    runs: Runs = RUNS
    quiet: Quiet = False
    as_json: AsJson = False


@app.command()
@with_options(ForkOptions)
def fork(options: ForkOptions) -> int:
    """Continue from a step of a run as a new run, with changes: controls, data, order_seed, or sizes of the model."""
    with signals() as received, open_lab(options.runs) as lab:
        child = lab.fork(
            options.name,
            step=options.step,
            changes=dict(read_changes(options.changes or [])),
            new_name=options.new_name,
            author=AUTHOR,
            reason=options.reason,
            start=options.start,
            until=options.until,
        )
        if options.start:
            return follow(lab, child, received, quiet=options.quiet, as_json=options.as_json)
        made = lab.lineage(child)
    print_json({"name": child, "lineage": made}) if options.as_json else print(f"{child} waits: qcore resume {child}")
    return 0


@app.command()
def rewind(
    name: Name,
    step: Annotated[int, typer.Argument(metavar="STEP", help="Step to go back to.")],
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """Take a run back to a step; what came after is kept as a separate run. Continue with qcore resume."""
    with open_lab(runs) as lab:
        branch = lab.rewind(name, step, author=AUTHOR, start=False)
    if as_json:
        print_json({"name": name, "step": step, "branch": branch})
    else:
        print(f"{name} is at step {step}; {branch} keeps what came after")


@app.command()
def grow(
    name: Name,
    changes: Changes = None,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Make the model of a training run larger, its outputs the same: qcore grow RUN --set width=192 --set heads=8."""
    return send_commands(runs, name, [Grow(dict(read_changes(changes or []))).checked()], as_json)


@app.command()
def tree(runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """List the runs as a tree: forks below their parents, with what was changed."""
    with open_lab(runs) as lab:
        nodes = lab.run_tree()
    if as_json:
        print_json(nodes)
    elif not nodes:
        print(f"no runs in {runs} yet: start one with qcore train")
    else:
        print_table([("run", "from step", "changed", "state", "step"), *map(_row, nodes)])


@dataclass(frozen=True, kw_only=True)
class EffectOptions:
    """What `qcore effect` may be told."""

    name: Name
    step: Step
    changes: Changes = None
    metric: Metric = None
    forks: Annotated[int, typer.Option("--forks", help="Pairs of forks, with and without the change.")] = 5
    steps: Steps = 100
    last: Last = 1
    jobs: Jobs = 2
    runs: Runs = RUNS
    quiet: Quiet = False
    as_json: AsJson = False


@app.command()
@with_options(EffectOptions)
def effect(options: EffectOptions) -> None:
    """Measure what a change does to a metric: paired forks from one state, the mean difference with its interval."""
    with open_lab(options.runs) as lab:
        found = measure_effect(
            lab,
            options.name,
            options.step,
            dict(read_changes(options.changes or [])),
            metric=options.metric,
            forks=options.forks,
            steps=options.steps,
            last=options.last,
            jobs=options.jobs,
            on_progress=_progress("fork", options.quiet),
        )
    if options.as_json:
        print_json(found)
        return
    rows = [("order", "without", "with the change", "difference")]
    for pair in found.pairs:
        rows.append(
            (
                str(pair.order_seed),
                number_words(pair.without, places=5),
                number_words(pair.changed, places=5),
                number_words(pair.difference, places=5),
            )
        )
    print_table(rows)
    print(f"{found.verdict} ({number_words(found.seconds, places=0)} s)")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What `qcore sweep` may be told."""

    name: Name
    step: Step
    control: Annotated[str, typer.Argument(metavar="CONTROL", help="Name of the value to sweep.")]
    values: Annotated[list[str], typer.Argument(metavar="VALUE …", help="Its values.")]
    metric: Metric = None
    seeds: Annotated[int, typer.Option("--seeds", help="Forks per value, each with a different batch order.")] = 1
    steps: Steps = 100
    last: Last = 1
    jobs: Jobs = 2
    runs: Runs = RUNS
    quiet: Quiet = False
    as_json: AsJson = False


@app.command()
@with_options(SweepOptions)
def sweep(options: SweepOptions) -> None:
    """Fork one state at several values of one control and compare a metric."""
    with open_lab(options.runs) as lab:
        found = measure_sweep(
            lab,
            options.name,
            options.step,
            options.control,
            options.values,
            metric=options.metric,
            seeds=options.seeds,
            steps=options.steps,
            last=options.last,
            jobs=options.jobs,
            on_progress=_progress("fork", options.quiet),
        )
    if options.as_json:
        print_json(found)
        return
    rows = [(found.control, found.metric, "forks")]
    for point in found.points:
        made = ", ".join(number_words(result.value, places=5) for result in point.results)
        rows.append((str(point.value), number_words(point.mean, places=5), made))
    print_table(rows)


def _progress(what: str, quiet: bool) -> Callable[[int, int], None]:
    """One line on stderr, redrawn on a terminal; nothing elsewhere."""
    shown = not quiet and sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if shown:
            print(f"\r{what} {done}/{total}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return show


def _row(node: RunNode) -> tuple[str, ...]:
    changed = ", ".join(f"{key} = {_short(value)}" for key, value in node.changes.items())
    where = f"{node.step}" if node.parent else ""
    note = "left behind by a rewind" if node.branch else changed
    return "  " * node.depth + node.name, where, note, node.state, str(node.at_step)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "…"
