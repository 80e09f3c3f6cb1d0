"""replay, fork, rewind, grow, tree, effect and sweep from a terminal."""

import json
import shutil

import pytest

from qcore.cli import branching, main
from qcore.experiments import effect
from qcore.lab import Lab
from qcore.store import RunWriter
from tests.support.configs import small_config
from tests.support.in_process import fan_out_here

assert branching.app


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A runs folder with a finished run, `parent`, which tests copy."""
    runs = tmp_path_factory.mktemp("trained")
    with Lab(runs) as lab:
        lab.start(small_config(steps=16, sample_every=1000), name="parent")
        lab.wait("parent", 60)
    return runs


@pytest.fixture
def runs(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def said(capsys, runs, *arguments, code=0):
    assert main([arguments[0], "--runs", str(runs), *arguments[1:]]) == code
    return capsys.readouterr().out


def test_replay_says_identical_or_where_not(capsys, runs):
    text = said(capsys, runs, "replay", "parent", "--quiet")
    assert "identical, bit for bit" in text
    assert "train/step_ms" in text
    with RunWriter(runs / "parent" / "run.sqlite") as writer:
        writer.log_scalars(9, {"train/loss": 1.25})
    assert "first at step 9, train/loss" in said(capsys, runs, "replay", "parent", "--quiet", code=1)
    told = json.loads(said(capsys, runs, "replay", "parent", "--steps", "5", "--json"))
    assert (told["identical"], told["steps"]) == (True, 5)


def test_fork_tree_rewind_and_growth(capsys, runs):
    told = said(capsys, runs, "fork", "parent", "--step", "10", "--set", "clip_norm=0.5", "--name", "child", "--json")
    assert json.loads(told)["state"] == "finished"
    waiting = said(capsys, runs, "fork", "parent", "--step", "15", "--no-start", "--json")
    assert json.loads(waiting)["lineage"]["step"] == 15
    assert json.loads(said(capsys, runs, "rewind", "parent", "12", "--json"))["branch"] == "parent-until-16"
    nodes = {node["name"]: node for node in json.loads(said(capsys, runs, "tree", "--json"))}
    assert nodes["child"]["changes"] == {"clip_norm": 0.5}
    assert nodes["parent-until-16"]["branch"]
    assert "left behind by a rewind" in said(capsys, runs, "tree")
    assert main(["grow", "parent", "--runs", str(runs), "--set", "width=32"]) == 2
    assert "resume it first" in capsys.readouterr().err
    assert main(["grow", "parent", "--runs", str(runs)]) == 2
    assert main(["fork", "parent", "--runs", str(runs), "--name", "../x"]) == 2
    assert "run name" in capsys.readouterr().err


def test_effect_and_sweep(capsys, runs, monkeypatch):
    monkeypatch.setattr(effect, "fan_out", fan_out_here(effect.work))
    more = ("--step", "10", "--steps", "4", "--metric", "train/loss", "--jobs", "1", "--quiet")
    told = said(capsys, runs, "effect", "parent", "--set", "dominance_threshold=0.4", "--forks", "2", *more)
    assert "no detectable effect on train/loss" in told
    rows = said(capsys, runs, "sweep", "parent", "clip_norm", "0.5", "1", *more).splitlines()
    assert [row.split()[0] for row in rows] == ["clip_norm", "0.5", "1.0"]
