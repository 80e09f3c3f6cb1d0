"""Verdicts: the guide's promises, tried. Every path with shared, mixed and independent noise, over a few seeds.

Each run is an ordinary one; what is judged are its last samples, drawn from fixed seeds and measured beside held-out
clips. Nothing here decides what is good: the guide's expectations stand beside what came out, and beside the data.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore.base.run_states import RunState
from qcore.config import RunConfig, default_run, kinds_with
from qcore.experiments.parallel_runs import fan_out, open_share, run_as_process, train_to_end
from qcore.lab import GUIDE, Lab
from qcore.runs.errors import LabError

MODULE = "qcore.experiments.guide_check"
PATHS = ("plain", "rab", "quantum", "ring", "spherical")
CORRELATIONS = (0.0, 0.9, 1.0)
MEASURES = ("divergence", "cosine", "orthogonality", "energy", "coherence", "lag_ratio", "motion_ratio", "std_ratio")
RUN_SECONDS = 900.0
CLIPS = kinds_with("clips")[0]
_BASE: dict[str, Any] = {
    "kind": CLIPS,
    "sample_every": 1_000_000,
    "checkpoint_every": 1_000_000,
    "measured_clips": 128,
    "eval_every": 250,
}


@dataclass(frozen=True)
class GuideRun:
    """One finished run: measures of its generated clips, and the data's."""

    name: str
    path: str
    noise_correlation: float
    seed: int
    state: str
    eval_flow: float | None
    generated: dict[str, float]
    data: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class PathMeans:
    """Mean and standard deviation over seeds of one path and noise; deviation NaN for one seed."""

    path: str
    noise_correlation: float
    seeds: int
    mean: dict[str, float]
    deviation: dict[str, float]

    def meets(self, measure: str) -> bool:
        """Whether the mean is where the guide wants it."""
        return GUIDE.promises[measure].holds(self.mean[measure])


def guide_configs(
    paths: Sequence[str] = PATHS,
    correlations: Sequence[float] = CORRELATIONS,
    seeds: int = 3,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, RunConfig]:
    """Configurations by run name.

    Raises:
        ConfigError: for an unknown path or a value out of range.
    """
    configs = {}
    for seed in range(seeds):
        for path in paths:
            for correlation in correlations:
                name = f"{path}-{str(correlation).replace('.', '_')}-{seed}"
                own = {"flow_path": path, "noise_correlation": correlation, "seed": seed, "data_seed": seed}
                configs[name] = default_run().with_values({**_BASE, **own, **(changes or {})})
    return configs


def run_guide_check(
    folder: Path, configs: Mapping[str, RunConfig], jobs: int, report: Callable[[GuideRun], None]
) -> list[GuideRun]:
    """Train all of them in `jobs` processes; results in the order of the configurations.

    Raises:
        LabError: as `fan_out`.
    """
    results: dict[str, GuideRun] = {}

    def keep(line: str) -> None:
        result = GuideRun(**json.loads(line))
        results[result.name] = result
        report(result)

    fan_out(folder, configs, jobs, MODULE, keep)
    return [results[name] for name in configs]


def judge(lab: Lab, name: str, config: RunConfig) -> GuideRun:
    """Train one run and read its last samples.

    Raises:
        LabError: when it fails or has none.
    """
    started = time.monotonic()
    info = train_to_end(lab, name, config, "verdicts", RUN_SECONDS)
    samples = [made for made in lab.reader(name).generations() if made.kind == "timeline" and made.status == "done"]
    if info.state != RunState.FINISHED or not samples:
        raise LabError(f"run {name!r} ended as {info.state} without samples: {info.message or 'look at its log'}")
    data = lab.reader(name).meta()["data_frames"]
    return GuideRun(
        name=name,
        path=config.value("flow_path"),
        noise_correlation=config.value("noise_correlation"),
        seed=config.seed,
        state=info.state,
        eval_flow=info.eval_flow,
        generated={key: samples[-1].stats[key] for key in MEASURES if key in samples[-1].stats},
        data={key: data[key] for key in MEASURES if key in data},
        seconds=time.monotonic() - started,
    )


def guide_verdicts(runs: Iterable[GuideRun]) -> tuple[list[PathMeans], dict[str, float]]:
    """One row a path and noise, in the order in which they come, and the data's own values (mean over seeds)."""
    groups: dict[tuple[str, float], list[GuideRun]] = {}
    data: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault((run.path, run.noise_correlation), []).append(run)
        for key, value in run.data.items():
            data.setdefault(key, []).append(value)
    rows = []
    for (path, correlation), members in groups.items():
        values = {key: [run.generated[key] for run in members if key in run.generated] for key in MEASURES}
        rows.append(
            PathMeans(
                path,
                correlation,
                len(members),
                {key: statistics.fmean(found) if found else float("nan") for key, found in values.items()},
                {key: statistics.stdev(found) if len(found) > 1 else float("nan") for key, found in values.items()},
            )
        )
    return rows, {key: statistics.fmean(found) for key, found in data.items()}


def work(folder: Path, names: Sequence[str]) -> Iterator[GuideRun]:
    """One process's share."""
    for lab, name, config in open_share(folder, names):
        yield judge(lab, name, config)


if __name__ == "__main__":
    sys.exit(run_as_process(asdict(done) for done in work(Path(sys.argv[1]), sys.argv[2:])))
