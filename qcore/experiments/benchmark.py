"""Benchmarks: a named set of models, made equal in size or compute, measured and trained side by side, and kept.

Measurements run in a child process, so that the app's threads and a busy trainer beside it do not enter; quality comes
from ordinary runs through the fleet, with diagnostics off, at equal tokens and at the seconds that the reference takes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.base.run_states import RunState
from qcore.config import BASELINE, LANGUAGE_KINDS, ConfigError, RunConfig, TextRunConfig, nearest_hint, read_changes
from qcore.experiments import background_job
from qcore.experiments.benchmark_store import (
    EQUAL,
    RESULT_FILE,
    Benchmark,
    BenchSpec,
    QualityRun,
    bench_folder,
    read_benchmark,
    write_benchmark,
)
from qcore.experiments.parallel_runs import (
    RUNS_FOLDER,
    fan_out,
    open_share,
    print_message,
    process_lines,
    run_as_process,
    train_to_end,
)
from qcore.experiments.worker_process import worker_command
from qcore.lab.inputs import check_inputs
from qcore.lab.lab import Lab
from qcore.probes import catalog
from qcore.runs.errors import LabError
from qcore.runs.names import check_name

MODULE = "qcore.experiments.benchmark"
RUN_SECONDS = 24 * 3600.0
CACHE = ".cache"
MATCHES = ("parameters", "compute", "none")
_CURVE_POINTS = 12
_QUIET: dict[str, Any] = {
    "budget_percent": 0.0,
    "sample_every": 1_000_000,
    "checkpoint_every": 1_000_000,
}
Report = Callable[[str], None]


def bench_spec(
    models: Sequence[str],
    base: RunConfig,
    *,
    name: str,
    match: str = "parameters",
    reference: str | None = None,
    **more: Any,
) -> BenchSpec:
    """A benchmark of `models`, each `kind` or `kind:key=value,key=value` on top of the base configuration.

    Args:
        reference: what the others are matched to and timed against; default a transformer if there is one, else the
            first.
        more: fields of `BenchSpec`.

    Raises:
        ConfigError: for an unknown model or value, or data that is not there.
    """
    if len(models) < 1 or len(set(models)) < len(models):
        raise ConfigError(f"models = {', '.join(models) or 'none'} is refused: name at least one, each once")
    if match not in MATCHES:
        raise ConfigError(f"match = {match!r} is refused: it must be one of {', '.join(MATCHES)}")
    if unknown := [equal for equal in more.get("equal", ()) if equal not in EQUAL]:
        raise ConfigError(f"equal = {unknown[0]!r} is refused: it must be one of {', '.join(EQUAL)}")
    for key in ("seeds", "jobs", "rounds"):
        if more.get(key, 1) < 1:
            raise ConfigError(f"{key} = {more[key]} is refused: at least 1")
    # before a folder is made for it: data that are not there would be found hours later
    base = check_inputs(base)
    configs = {label: _config_of(label, base) for label in models}
    chosen = reference or next((label for label in models if label.startswith(BASELINE)), models[0])
    if chosen not in configs:
        raise ConfigError(f"reference = {chosen!r} is none of the models{nearest_hint(chosen, models)}")
    texts = {label: config.to_yaml() for label, config in configs.items()}
    return BenchSpec(check_name(name), texts, chosen, match, **more)


def _config_of(label: str, base: RunConfig) -> RunConfig:
    """The configuration behind `kind:key=value,…`."""
    kind, _, rest = label.partition(":")
    if kind not in LANGUAGE_KINDS:
        raise ConfigError(
            f"model {kind!r} is refused: choose {', '.join(LANGUAGE_KINDS)}{nearest_hint(kind, LANGUAGE_KINDS)}"
        )
    return base.with_values({**read_changes(rest.split(",")), "kind": kind})


def run_benchmark(runs_dir: Path, spec: BenchSpec, report: Report = lambda text: None) -> Benchmark:
    """Measure and train in the foreground; every result is kept as it comes.

    Raises:
        LabError: as of `fan_out`, and while another process works on it.
    """
    folder = bench_folder(runs_dir, spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    with background_job.hold_folder(folder):
        found = Benchmark(spec, time.time(), "starting", machine=_machine())
        write_benchmark(runs_dir, found)

        def tell(stage: str, **changes: Any) -> None:
            nonlocal found
            found = replace(found, stage=stage, **changes)
            write_benchmark(runs_dir, found)
            report(stage)

        try:
            measured = _measure_in_child(folder, spec, lambda stage: tell(stage))
            tell("measured", measurements=tuple(measured))
            plan = quality_configs(spec, measured)
            tell(f"training 0 of {len(plan)} runs", runs_total=len(plan))
            _train(
                folder,
                spec,
                plan,
                lambda run, references: tell(
                    f"training {len(found.runs) + 1} of {len(plan)} runs",
                    runs=(*found.runs, run),
                    references=references or found.references,
                ),
            )
            tell("done", state="finished")
        except (ValueError, OSError) as error:
            tell(str(error), state="failed")
            raise
    return found


def start_benchmark(runs_dir: Path, spec: BenchSpec) -> str:
    """Run it in a process of its own, which goes on when this one ends; its name.

    Raises:
        LabError: for a taken name.
    """
    folder = bench_folder(runs_dir, spec.name)
    if (folder / RESULT_FILE).exists():
        raise LabError(f"there is a benchmark {spec.name!r} already: choose another name")
    write_benchmark(runs_dir, Benchmark(spec, time.time(), "starting", machine=_machine()))
    background_job.start(folder, MODULE, "run", str(runs_dir), spec.name)
    return spec.name


def is_working(runs_dir: Path, name: str) -> bool:
    """Whether a process works on it."""
    return background_job.is_working(bench_folder(runs_dir, name))


def cancel_benchmark(runs_dir: Path, name: str) -> None:
    """End it; what it has found stays.

    Raises:
        LabError: when nobody works on it.
    """
    background_job.cancel(bench_folder(runs_dir, name))
    found = read_benchmark(runs_dir, name)
    if found.state == "running":  # else it had just come to its own end
        write_benchmark(runs_dir, replace(found, state="cancelled", stage="ended by a user"))


def failure_text(runs_dir: Path, name: str) -> str:
    """Last words of its process."""
    return background_job.last_words(bench_folder(runs_dir, name))


def _machine() -> dict[str, Any]:
    return {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}


def _measure_in_child(folder: Path, spec: BenchSpec, report: Report) -> list[dict[str, Any]]:
    """Match and measure in a child process, whose lines are stages and, last, the measurements."""
    command = worker_command(MODULE, "measure", str(folder))
    (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    found: list[dict[str, Any]] = []
    try:
        with contextlib.closing(process_lines(command, folder / "measure.log", {"OMP_NUM_THREADS": threads})) as lines:
            for line in lines:
                message = json.loads(line)
                if "stage" in message:
                    report(message["stage"])
                else:
                    found = message["measurements"]
    except LabError as error:
        raise LabError(f"measuring failed: {error}") from error.__cause__
    return found


def quality_configs(
    spec: BenchSpec, measured: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, tuple[str, ...], RunConfig]]:
    """Run name → label, comparisons, configuration: each model and seed at equal tokens, and at equal seconds.

    At equal seconds a model gets as many steps as fit into the time in which the reference makes its own; where that
    is the same number, one run serves both.
    """
    by_label = {row["label"]: row for row in measured}
    reference = by_label[spec.reference]["timing"]["step_ms"]
    plan = {}
    for seed in range(spec.seeds):
        for number, (label, row) in enumerate(by_label.items()):
            config = RunConfig.from_yaml(row["config"])
            steps = int(config.value("steps"))
            goals = {"tokens": steps, "seconds": max(1, round(steps * reference / row["timing"]["step_ms"]))}
            shared: dict[int, list[str]] = {}
            for equal in spec.equal:
                shared.setdefault(goals[equal], []).append(equal)
            for count, equals in shared.items():
                changes = {
                    **_QUIET,
                    "seed": seed,
                    "steps": count,
                    "eval_every": max(1, math.ceil(count / _CURVE_POINTS)),
                    "keep_checkpoints": 1,
                    "warmup_steps": min(int(config.value("warmup_steps")), max(1, count // 5)),
                }
                name = f"{number}-{config.kind}-{'-'.join(equals)}-{seed}"
                plan[name] = (label, tuple(equals), config.with_values(changes))
    return plan


def _train(
    folder: Path,
    spec: BenchSpec,
    plan: Mapping[str, tuple[str, tuple[str, ...], RunConfig]],
    keep: Callable[[QualityRun, dict[str, float | None]], None],
) -> None:
    def take(line: str) -> None:
        found = json.loads(line)
        references = found.pop("references")
        label, equal, _ = plan[found["name"]]
        lists = {key: tuple(found[key]) for key in ("curve_tokens", "curve_seconds", "curve_bits")}
        keep(QualityRun(**{**found, **lists, "label": label, "equal": equal}), references)

    if plan:
        fan_out(folder, {name: config for name, (_, _, config) in plan.items()}, spec.jobs, MODULE, take)


# what the child processes do


def _measure_here(folder: Path) -> Iterator[dict[str, Any]]:
    from qcore.experiments import measure_models

    spec = read_json(folder / "spec.json")
    configs = {label: RunConfig.from_yaml(text) for label, text in spec["models"].items()}
    texts = {label: config for label, config in configs.items() if isinstance(config, TextRunConfig)}
    yield {"stage": "reading the text"}
    vocab_size = measure_models.vocabulary(texts[spec["reference"]], _cache(folder))
    if spec["match"] != "none":
        yield {"stage": f"matching by {spec['match']}"}
    texts = measure_models.match_configs(texts, vocab_size, spec["match"], spec["reference"])
    found = measure_models.measure(
        texts,
        vocab_size,
        spec["reference"],
        rounds=spec["rounds"],
        positions=tuple(spec["positions"]),
        report=lambda stage: print_message({"stage": stage}),
    )
    yield {"measurements": [asdict(one) for one in found]}


def _cache(folder: Path) -> Path:
    return folder / RUNS_FOLDER / CACHE


def judge(lab: Lab, name: str, config: RunConfig, windows: int) -> dict[str, Any]:
    """Train one run, evaluate its end on the held-out side, and read its curve."""
    from qcore.experiments import measure_models

    info = train_to_end(lab, name, config, "bench", RUN_SECONDS)
    reader = lab.reader(name)
    per_step = int(reader.meta().get("tokens_per_step", 0))
    made = {
        "name": name,
        "seed": config.seed,
        "state": info.state,
        "steps": info.step,
        "tokens": info.step * per_step,
        "seconds": info.seconds_trained,
        "message": info.message,
        "references": {},
        "curve_tokens": [],
        "curve_seconds": [],
        "curve_bits": [],
    }
    if info.state != RunState.FINISHED:
        return made
    assert isinstance(config, TextRunConfig)
    held = measure_models.held_out_loss(config, lab.runs_dir / name, lab.runs_dir / CACHE, windows)
    series = reader.scalars_of([catalog.EVAL_CE, catalog.TRAIN_STEP_MS])
    steps, spent = series[catalog.TRAIN_STEP_MS].steps, series[catalog.TRAIN_STEP_MS].values.cumsum() / 1e3
    curve = series[catalog.EVAL_CE]
    seconds = [float(spent[steps <= step][-1]) if (steps <= step).any() else 0.0 for step in curve.steps]
    per_token = float(reader.meta()["bytes_per_token"])
    return {
        **made,
        "nats": held.nats,
        "bits_per_byte": held.bits_per_byte,
        "predicted": held.tokens,
        "references": held.references,
        "curve_tokens": [int(step) * per_step for step in curve.steps],
        "curve_seconds": seconds,
        "curve_bits": [float(nats) / (math.log(2) * per_token) for nats in curve.values],
    }


def work(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One process's share of the quality runs."""
    windows = read_json(folder / "spec.json")["windows"]
    for lab, name, config in open_share(folder, names):
        yield judge(lab, name, config, windows)


def main(arguments: Sequence[str]) -> int:
    """`measure FOLDER` · `run RUNS NAME` · `FOLDER NAME…`: one process's share of the quality runs. The exit code."""
    if arguments[0] == "measure":
        return run_as_process(_measure_here(Path(arguments[1])))
    if arguments[0] == "run":
        runs_dir = Path(arguments[1])
        run_benchmark(runs_dir, read_benchmark(runs_dir, arguments[2]).spec)
        return 0
    return run_as_process(work(Path(arguments[0]), arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
