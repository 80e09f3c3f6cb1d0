"""`qcore bench`: tables and JSON of a tiny comparison, mistakes in one line; the memory forecast of `qcore train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import qcore.cli.bench  # registers the command
from qcore import cli
from qcore.experiments import benchmark
from qcore.experiments.benchmark_store import BenchSpec, read_benchmark
from tests.support.configs import SMALL, fan_out_here

SETS = [part for key, value in SMALL.items() if key not in ("phases", "steps") for part in ("--set", f"{key}={value}")]
QUICK = [
    "--models",
    "phase_lm:phases=4,transformer",
    "--rounds",
    "1",
    "--positions",
    "4,8",
    "--jobs",
    "1",
    "--windows",
    "2",
]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a benchmark measures and trains, it measures and trains in this process; tests/experiments/test_benchmark.py
    has the processes.
    """

    def measured(folder: Path, spec: BenchSpec, report: Callable[[str], None]) -> list[dict[str, Any]]:
        (folder / "spec.json").write_text(json.dumps(asdict(spec)), encoding="utf-8")
        *stages, found = benchmark._measure_here(folder)
        for one in stages:
            report(one["stage"])
        return list(found["measurements"])

    def work(folder: Path, names: list[str]) -> Iterator[dict[str, Any]]:
        for lab, name, config in benchmark.share(folder, names):
            yield benchmark.judge(lab, name, config, 2)

    monkeypatch.setattr(benchmark, "_measured", measured)
    monkeypatch.setattr(benchmark, "say", lambda message: None)  # to the parent process, which is none
    monkeypatch.setattr(benchmark, "fan_out", fan_out_here(work))


@pytest.mark.usefixtures("here")
def test_two_models_on_one_file_evaluated_on_another(tmp_path: Path, capsys: Capture) -> None:
    for name in ("train.txt", "test.txt"):
        text = "\n\n".join(f"{name[:2]} {number} says hello to the garden and the moon" * 20 for number in range(20))
        (tmp_path / name).write_text(text)
    files = ["--text", str(tmp_path / "train.txt"), "--text", str(tmp_path / "test.txt")]
    where = ["--runs", str(tmp_path / "runs"), "--name", "pair", "--steps", "4", "--equal", "tokens", "--markdown"]
    assert cli.main(["bench", *QUICK, *SETS, *files, *where]) == 0
    out = capsys.readouterr().out
    for head in ("| model | parameters |", "| generation, tokens/s |", "| held-out bits per byte |", "| *bigram* |"):
        assert head in out
    kept = read_benchmark((tmp_path / "runs").resolve(), "pair")
    assert [run.label for run in kept.runs] == ["phase_lm:phases=4", "transformer"]
    assert f"validation_path: {tmp_path}/test.txt" in kept.spec.models["transformer"]


@pytest.mark.usefixtures("here")
def test_measuring_alone_prints_json(tmp_path: Path, capsys: Capture) -> None:
    where = ["--runs", str(tmp_path), "--no-quality", "--json", "--set", "tokenizer=byte"]
    assert cli.main(["bench", *QUICK, *SETS, *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found["measurements"]] == ["phase_lm:phases=4", "transformer"]
    assert found["runs"] == found["quality"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "lstm"], "model 'lstm' is refused"),
        (["--positions", "a"], "--positions 'a' is refused"),
        (["--positions", "0"], "positions start at 1"),
        (["--match", "weight"], "match = 'weight' is refused"),
        (["--text", "a", "--text", "b", "--text", "c"], "--text is given 3 times"),
        (["--equal", "energy"], "equal = 'energy' is refused"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["bench", *arguments, "--runs", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_training_tells_what_it_needs(tmp_path: Path, capsys: Capture) -> None:
    tiny = [part for key, value in {**SMALL, "phases": 4, "steps": 2}.items() for part in ("--set", f"{key}={value}")]
    assert cli.main(["train", *tiny, "--runs", str(tmp_path)]) == 0
    assert "This needs about" in capsys.readouterr().err
    assert qcore.cli.bench.compare_models.__doc__
