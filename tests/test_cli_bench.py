"""`qcore bench`: tables and JSON of a tiny comparison, mistakes in one line; the memory forecast of `qcore train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qcore.cli.bench  # registers the command
from qcore import cli
from qcore.experiments.benchmark_store import read_benchmark
from tests.support.configs import SMALL
from tests.support.in_process import experiments_here

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
    experiments_here(monkeypatch)


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
