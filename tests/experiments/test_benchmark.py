"""Benchmarks: models named, matched, measured in a child process, trained at equal tokens and seconds, and kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from qcore.config import ConfigError, RunConfig, default_run
from qcore.experiments.benchmark import (
    bench_spec,
    cancel_benchmark,
    is_working,
    quality_configs,
    run_benchmark,
    start_benchmark,
)
from qcore.experiments.benchmark_store import (
    Benchmark,
    BenchSpec,
    QualityRun,
    benchmarks,
    published_counts,
    quality_rows,
    read_benchmark,
    write_benchmark,
)
from qcore.lab import LabError
from tests.support.configs import SMALL, eventually

MODELS = ("phase_lm", "transformer", "pam:complex_state=false,heads=4")


def base(**changes: object) -> RunConfig:
    return default_run("phase_lm").with_values({**SMALL, "tokenizer": "byte", "steps": 6, **changes})


def tiny(name: str, **more: object) -> BenchSpec:
    values = {"rounds": 2, "positions": (4, 12), "jobs": 1, "windows": 4, "equal": ("tokens",), **more}
    return bench_spec(MODELS[:2], base(), name=name, **values)


def test_models_are_a_family_with_changes_of_its_own():
    spec = bench_spec(MODELS, base(), name="b")
    configs = {label: RunConfig.from_yaml(text) for label, text in spec.models.items()}
    assert [config.kind for config in configs.values()] == ["phase_lm", "transformer", "pam"]
    assert configs[MODELS[2]].value("complex_state") is False
    assert configs[MODELS[2]].value("heads") == 4
    assert {config.value("width") for config in configs.values()} == {16}
    assert spec.reference == "transformer", "what the others are timed against"
    assert bench_spec(["pam", "phase_lm"], base(), name="b").reference == "pam"


@pytest.mark.parametrize(
    ("models", "more", "message"),
    [
        (["lstm"], {}, "model 'lstm' is refused"),
        ([], {}, "at least one"),
        (["pam", "pam"], {}, "each once"),
        (["pam:heads"], {}, "write it as key=value"),
        (["pam"], {"match": "weight"}, "match = 'weight' is refused"),
        (["pam"], {"equal": ("energy",)}, "equal = 'energy' is refused"),
        (["pam"], {"seeds": 0}, "seeds = 0 is refused"),
        (["pam"], {"reference": "transformer"}, "none of the models"),
    ],
)
def test_a_mistake_is_named(models: list[str], more: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        bench_spec(models, base(), name="b", **more)


def row(label: str, step_ms: float) -> dict[str, object]:
    kind = label.partition(":")[0]
    return {
        "label": label,
        "config": base(steps=100).with_values({"kind": kind}).to_yaml(),
        "timing": {"step_ms": step_ms},
    }


def test_equal_seconds_means_fewer_steps_for_a_slower_model():
    spec = tiny("b", seeds=2, equal=("tokens", "seconds"))
    plan = quality_configs(spec, [row("phase_lm", 20.0), row("transformer", 10.0)])
    steps = {(label, equal): config.value("steps") for label, equal, config in plan.values()}
    assert steps == {
        ("phase_lm", ("tokens",)): 100,
        ("phase_lm", ("seconds",)): 50,
        ("transformer", ("tokens", "seconds")): 100,
    }
    assert len(plan) == 2 * 3
    assert {config.seed for _, _, config in plan.values()} == {0, 1}
    assert {config.value("budget_percent") for _, _, config in plan.values()} == {0.0}


def quality(label: str, bits: float, seed: int = 0, equal: tuple[str, ...] = ("tokens",)) -> QualityRun:
    return QualityRun(f"{label}-{seed}", label, equal, seed, "finished", 10, 1000, 2.0, 1.0, bits, 50)


def test_means_and_intervals_over_seeds():
    runs = [
        quality("a", 2.0, 0),
        quality("a", 2.2, 1),
        quality("a", 2.4, 2),
        quality("b", 3.0, 0, ("tokens", "seconds")),
    ]
    rows = {(one.label, one.equal): one for one in quality_rows(runs)}
    assert rows["a", "tokens"].mean == pytest.approx(2.2)
    assert rows["a", "tokens"].reach == pytest.approx(4.3027 * 0.2 / math.sqrt(3), rel=1e-4)  # t at 0.975, 2 degrees
    assert rows["b", "tokens"].reach is None
    assert set(rows) == {("a", "tokens"), ("b", "tokens"), ("b", "seconds")}


MEASURED: dict[str, Any] = {
    "label": "x", "config": "", "kind": "pam", "batch": 2, "tokens": 8, "parameters": 9, "flops": 5.0,
    "elementwise": 1.0,
    "parts": [{"name": "head", "formula": "2", "flops": 5.0, "parameters": 9}],
    "timing": {"forward_ms": 1.0, "backward_ms": 2.0, "step_ms": 4.0, "ratio": [1.0, 0.9, 1.1]},
    "tokens_per_second": 7.0, "gflops_forward": 1.0, "gflops_backward": 1.0, "generation": [[4, 8.5]],
    "peak_bytes": None, "forecast_bytes": 99,
}  # fmt: skip


def test_what_is_kept_comes_back(tmp_path: Path):
    kept = Benchmark(tiny("kept"), 5.0, "done", "finished", (MEASURED,), (quality("a", 2.0),), 3, {"bigram": 4.0})
    write_benchmark(tmp_path, kept)
    assert read_benchmark(tmp_path, "kept") == kept
    whole = json.loads((tmp_path / ".bench" / "kept" / "result.json").read_text())
    changes = (
        {"created": "yesterday"},
        {"created": 1e300},
        {"spec": 5},
        {"spec": {**whole["spec"], "positions": ["x"]}},
        {"runs": [5]},
        {"runs": [{**whole["runs"][0], "bits_per_byte": "x"}]},
        {"references": {"bigram": []}},
        {"measurements": [{"label": "x"}]},
        {"measurements": [{**MEASURED, "timing": {**MEASURED["timing"], "ratio": []}}]},
        {"more": 1},
    )
    damaged = ["{", "5", "null", "[]", "[" * 99, *(json.dumps(whole | change) for change in changes)]
    for place, text in enumerate(damaged):
        folder = tmp_path / ".bench" / f"broken-{place}"
        folder.mkdir()
        (folder / "result.json").write_text(text)
        with pytest.raises(LabError, match=r"broken|result\.json"):
            read_benchmark(tmp_path, folder.name)
    assert benchmarks(tmp_path) == [kept]
    with pytest.raises(LabError, match="there is no benchmark 'other'"):
        read_benchmark(tmp_path, "other")
    with pytest.raises(LabError, match="refused"):
        read_benchmark(tmp_path, "../kept")


def test_published_counts_are_those_of_the_papers():
    texts = {count.what: count for count in published_counts()}
    assert "8.858 GMAC = 17.72 GFLOP" in texts["dense transformer layer"].ours
    assert "26.74 M" in texts["Quantum Flux layer"].ours
    assert texts["read-out"].ours == "79.05 GFLOP"
    assert "39.3 M" in texts["Quantum Flux layer"].ours
    assert texts["whole forward, Flux ÷ transformer"].ours == "42.73–42.78 % at 6 layers, 27.21–27.27 % at 12 layers"
    assert all(len(count.reason) > 40 for count in texts.values())


def test_a_benchmark_measures_trains_and_keeps_everything(tmp_path: Path):
    stages: list[str] = []
    found = run_benchmark(tmp_path, tiny("small", equal=("tokens",)), stages.append)
    assert found.state == "finished"
    assert stages[-1] == "done"
    assert read_benchmark(tmp_path, "small") == found
    rows = {one["label"]: one for one in found.measurements}
    assert rows.keys() == {"phase_lm", "transformer"}
    sizes = [one["parameters"] for one in rows.values()]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    for one in rows.values():
        assert one["flops"] > 0
        assert one["timing"]["step_ms"] >= one["timing"]["forward_ms"] > 0
        assert [position for position, _ in one["generation"]] == [4, 12]
        assert one["peak_bytes"] > 0
    assert rows["transformer"]["timing"]["ratio"] == [1.0, 1.0, 1.0]
    assert {run.label for run in found.runs} == rows.keys()
    assert all(run.state == "finished" and run.bits_per_byte > 0 and run.predicted > 0 for run in found.runs)
    assert all(len(run.curve_bits) == len(run.curve_tokens) > 1 for run in found.runs)
    assert found.references["uniform"] > found.references["unigram"] > found.references["trigram"]


def test_a_model_that_cannot_be_matched_is_a_failed_benchmark(tmp_path: Path):
    spec = bench_spec(["transformer:width=8,heads=1", "phase_lm:layers=4,width=64"], base(), name="far")
    with pytest.raises(LabError, match="no phase_lm of 4 layers"):
        run_benchmark(tmp_path, spec)
    assert read_benchmark(tmp_path, "far").state == "failed"


def test_a_benchmark_in_the_background_is_ended_on_demand(tmp_path: Path):
    start_benchmark(tmp_path, tiny("long", rounds=1_000_000))
    eventually(lambda: read_benchmark(tmp_path, "long").stage != "starting")
    with pytest.raises(LabError, match="already"):
        start_benchmark(tmp_path, tiny("long"))
    cancel_benchmark(tmp_path, "long")
    assert not is_working(tmp_path, "long")
    assert read_benchmark(tmp_path, "long").state == "cancelled"
    with pytest.raises(LabError, match="nothing to end"):
        cancel_benchmark(tmp_path, "long")
