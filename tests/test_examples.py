"""Every example is short, says what one sees, and shows it when it is run."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.lab import Lab
from tests.support.configs import small_config

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints over a folder for runs."""
    [path] = (ROOT / "examples").glob(f"{name}_*.py")
    runpy.run_path(str(path), run_name="example")["main"](str(folder))
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_is_short_says_what_one_sees_and_has_a_test(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= 60
    assert re.fullmatch(r"\d\d_[a-z_]+\.py", path.name)
    said = ast.get_docstring(ast.parse(source)) or ""
    assert said.partition("\n\n")[0].endswith(".")
    assert said.count("\n\n") == 1
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").glob("**/*.py"))
    assert f'run("{path.name[:2]}", ' in tests or path.name in tests


def test_a_run_is_trained_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("01", tmp_path, capsys)
    losses = [float(value) for value in re.findall(r"^step +\d+  cross-entropy, held out (\S+) nats", said, re.M)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert "finished" in said
    assert re.search(r"^reference: unigram \d\.\d+$", said, re.M)
    assert re.search(r"^since step 0: The planned steps may be too few.*\n    remedy: Train", said, re.M)


def test_a_weight_is_changed_while_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("02", tmp_path, capsys)
    assert re.findall(r"^(\w+): applied", said, re.M) == ["pause", "set", "set", "continue"]
    assert "refused: " in said
    assert "diversity_weight" in said.partition("refused: ")[2].partition("\n")[0]
    assert re.search(r"^step \d+: diversity_weight 0 → 0\.3 by example$", said, re.M)
    assert re.search(r"^step \d+: learning_rate 0\.003 → 0\.001 by example$", said, re.M)


def test_a_fork_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("03", tmp_path, capsys)
    rows = [line.split() for line in said.splitlines() if re.match(r" +\d+  \d", line)]
    assert [row[0] for row in rows] == ["21", "25", "29", "33", "37"]
    assert all(row[1] == row[2] for row in rows)
    assert rows[-1][1] != rows[-1][3]
    assert "the unchanged fork is its parent: True" in said
    assert "  slow from step 20, {'learning_rate': 0.0003}" in said


def test_a_run_is_read_without_torch(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        assert lab.wait(lab.start(small_config(steps=6), name="read"), 60).state == "finished"
    command = [sys.executable, str(ROOT / "examples/04_read_a_run_without_torch.py"), str(tmp_path / "read")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished at step 6\n")
    assert re.search(r"^train/loss +6\.0", done.stdout, re.M)
    assert "torch was loaded: False" in done.stdout


def test_the_effect_of_a_change_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("06", tmp_path, capsys)
    assert said.count(" without, ") == 3
    mean, low, high = map(float, re.findall(r"difference (\S+), 95 % from (\S+) to (\S+), p", said)[0])
    assert low < mean < high
    assert "6 of 6 forks" in said
