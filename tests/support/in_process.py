"""Experiments that train and measure in the process of the test, which spares the start of others: seconds each.

That they start processes, read what these print and tell how they end is held by tests/experiments and
tests/lab/test_processes.py, which do so for real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from qcore.config import RunConfig
from qcore.experiments import ablation, benchmark, effect, exam, guide_check, measure_models
from qcore.experiments.benchmark_store import BenchSpec


def fan_out_here(work: Callable[[Path, list[str]], Iterable[Any]]) -> Callable[..., None]:
    """What takes the place of a module's `fan_out`: its cases train in this process, one after another. work: the
    module's own, what its processes do.
    """

    def fan_out(
        folder: Path, configs: Mapping[str, RunConfig], jobs: int, module: str, keep: Callable[[str], None]
    ) -> None:
        for name, config in configs.items():
            (folder / f"{name}.yaml").write_text(config.to_yaml(), encoding="utf-8")
        for made in work(folder, list(configs)):
            keep(json.dumps(made if isinstance(made, dict) else asdict(made)))

    return fan_out


def experiments_here(patch: pytest.MonkeyPatch) -> None:
    """Every experiment trains here, and a benchmark measures here; the memory of its models is then of little worth."""
    for module in (ablation, benchmark, effect, exam, guide_check):
        patch.setattr(module, "fan_out", fan_out_here(module.work))
    patch.setattr(benchmark, "_measure_in_child", _measured)
    patch.setattr(benchmark, "print_message", lambda message: None)  # to the parent process, which is none
    patch.setattr(measure_models, "peak_memory", measure_models._peak_in_process)


def _measured(folder: Path, spec: BenchSpec, report: Callable[[str], None]) -> list[dict[str, Any]]:
    (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
    *stages, found = benchmark._measure_here(folder)
    for one in stages:
        report(one["stage"])
    return list(found["measurements"])
