"""The effect of a change: the statistics on made-up forks, and small real ones in processes of their own."""

import json
import math
import shutil
from dataclasses import asdict

import pytest

from qcore.config import ConfigError
from qcore.experiments import effect, effect_job
from qcore.lab import Lab, LabError, forks  # the modules
from tests.support.configs import small_config
from tests.support.in_process import fan_out_here

T_975 = {2: 4.302653, 4: 2.776445}
"""Quantiles of Student's t for 95 %, from a printed table, by degrees of freedom."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A runs folder with a finished run, `parent`, which tests copy."""
    runs = tmp_path_factory.mktemp("trained")
    with Lab(runs) as lab:
        lab.start(small_config(steps=30, sample_every=1000), name="parent")
        assert lab.wait("parent", 60).state == "finished"
    return runs


@pytest.fixture
def parent(lab, trained):
    shutil.copytree(trained, lab.runs_dir, dirs_exist_ok=True)
    return "parent"


@pytest.fixture
def linear(monkeypatch):
    """Forks whose metric is −2 · z_loss_weight, a part of the pair's own, and a little that neither explains."""
    made = []

    def pretend(folder, configs, jobs, module, keep):
        for name in configs:
            made.append(name)
            kind, _, seed = name.partition("-")
            number = int(seed)
            value = 10.0 * number + (0.0 if kind == "without" else -2.0 * 0.3 + 0.01 * (number % 3))
            if (kind, number) in broken:
                result = {"key": name, "state": "failed", "value": None, "steps": [], "values": [], "seconds": 1.0}
            else:
                result = {"key": name, "state": "stopped", "value": value, "steps": [20], "values": [value]}
                result["seconds"] = 1.0
            keep(json.dumps(result) + "\n")

    broken: set[tuple[str, int]] = set()
    monkeypatch.setattr(effect, "fan_out", pretend)
    return made, broken


def test_the_effect_on_a_linear_metric_with_its_interval(lab, parent, linear):
    made, _ = linear
    told = []
    found = effect.effect(
        lab,
        parent,
        10,
        {"z_loss_weight": 0.3},
        forks=5,
        steps=10,
        on_progress=lambda done, total: told.append((done, total)),
    )
    differences = [-0.6 + 0.01 * (seed % 3) for seed in range(1, 6)]
    mean = sum(differences) / 5
    reach = T_975[4] * math.sqrt(sum((value - mean) ** 2 for value in differences) / 4 / 5)
    assert [pair.difference for pair in found.pairs] == pytest.approx(differences)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach), rel=1e-5)
    assert found.detected
    assert found.needed == 2
    assert found.verdict.startswith("effect: the change moves eval/ce by -0.5880, 95 % from -0.5984 to -0.5776")
    assert (found.metric, found.step, found.steps, found.changes) == ("eval/ce", 10, 10, {"z_loss_weight": 0.3})
    assert told[-1] == (10, 10)
    assert effect.effects(lab) == effect.effects(lab, parent) == [found]
    assert effect.effects(lab, "nobody") == []
    again = effect.effect(lab, parent, 10, {"z_loss_weight": "0.3"}, forks=5, steps=10)
    assert again.pairs == found.pairs
    assert len(made) == 10, "the same question is not measured twice"


def test_a_failed_fork_is_left_out_and_said(lab, parent, linear):
    _, broken = linear
    broken.update({("changed", 2), ("changed", 4)})
    found = effect.effect(lab, parent, 10, {"z_loss_weight": 0.3}, forks=5, steps=10)
    assert [pair.difference is None for pair in found.pairs] == [False, True, False, True, False]
    assert "(2 of 5 pairs failed and are left out)" in found.verdict
    broken.update(("changed", seed) for seed in range(1, 6))
    nothing = effect.effect(lab, parent, 10, {"z_loss_weight": 0.3}, forks=5, steps=11)
    assert nothing.verdict.startswith("no result: 0 of 5 pairs")
    assert (nothing.mean, nothing.detected) == (None, False)


def test_no_detectable_effect_is_an_answer():
    text = effect.verdict_text("eval/ce", [0.1, -0.2, 0.15], 3)
    mean = 0.05 / 3
    reach = T_975[2] * math.sqrt(sum((value - mean) ** 2 for value in (0.1, -0.2, 0.15)) / 2 / 3)
    assert text.startswith(f"no detectable effect on eval/ce: {mean:+.3f}, 95 % from {mean - reach:+.3f} to")
    assert "pairs would show one of this size" in text
    assert "every pair is the same" in effect.verdict_text("eval/ce", [0.0, 0.0], 2)


def test_real_forks_of_a_state_between_two_checkpoints(lab, parent, monkeypatch):
    """A change of nothing has exactly no effect; learning nothing shows; the folder keeps answers and no runs."""
    harm = effect.effect(lab, parent, 13, {"learning_rate": 1e-7}, metric="term/ce", forks=2, steps=6, last=3, jobs=1)
    assert all(pair.difference > 0 for pair in harm.pairs)
    assert {len(curve.steps) for curve in harm.curves.values()} == {6}
    for pair in harm.pairs:
        curve = harm.curves[f"without-{pair.order_seed}"]
        assert curve.steps == (14, 15, 16, 17, 18, 19)
        assert pair.without == pytest.approx(sum(curve.values[-3:]) / 3)
    assert harm.curves["without-1"].values != harm.curves["without-2"].values
    monkeypatch.setattr(effect, "fan_out", fan_out_here(effect.work))
    nothing = effect.effect(lab, parent, 10, {"dominance_threshold": 0.4}, forks=2, steps=3, jobs=1)
    assert [pair.difference for pair in nothing.pairs] == [0.0, 0.0]
    assert "every pair is the same" in nothing.verdict
    assert [info.name for info in lab.runs()] == [parent]
    assert not list(lab.runs_dir.glob(".effects/*/runs"))


def test_a_sweep_of_one_control_from_one_state(lab, parent, monkeypatch):
    monkeypatch.setattr(effect, "fan_out", fan_out_here(effect.work))
    found = effect.sweep(lab, parent, 10, "learning_rate", ["0.003", 1e-6], metric="train/loss", steps=5, jobs=1)
    assert [point.value for point in found.points] == [0.003, 1e-6]
    own = lab.reader(parent).scalars("train/loss", start=11, stop=16)
    assert found.points[0].results[0].values == tuple(own.values), "the run's own value is the run itself"
    assert found.points[1].results[0].values != found.points[0].results[0].values
    assert found.points[0].mean == found.points[0].results[0].value
    assert effect.sweeps(lab, parent) == [found]


def test_questions_without_an_answer_are_refused(lab, parent, monkeypatch):
    monkeypatch.setattr(effect, "fan_out", lambda *given: pytest.fail("nothing is to be trained"))
    change = {"z_loss_weight": 0.3}
    for arguments, options, message in (
        ((10, {}), {}, "needs a change"),
        ((10, change), {"forks": 1}, "one pair has no spread"),
        ((10, change), {"steps": 0}, "both start at 1"),
        ((10, change), {"steps": 21}, "has 20 steps left"),
        ((10, change), {"steps": 5, "metric": "train/step_ms"}, "clock"),
        ((10, change), {"steps": 5, "metric": "eval/cee"}, "no series"),
        ((10, change), {"steps": 5, "jobs": 0}, "at least one process"),
        ((10, {"z_loss_weight": 99}), {"steps": 5}, "z_loss_weight = 99"),
        ((99, change), {"steps": 5}, "0 steps left"),
    ):
        with pytest.raises(ConfigError, match=message):
            effect.effect(lab, parent, *arguments, **options)
    with pytest.raises(ConfigError, match="different values"):
        effect.sweep(lab, parent, 10, "learning_rate", [1e-3, 1e-3], steps=5)
    assert forks.find_origin(lab, parent, 10).saved_step == 10


def test_half_a_line_of_a_killed_process_costs_that_fork_alone(lab, parent, linear):
    made, _ = linear
    first = effect.effect(lab, parent, 10, {"z_loss_weight": 0.3}, forks=2, steps=10)
    [path] = lab.runs_dir.glob(f"{effect.EFFECTS}/*/forks.jsonl")
    whole = path.read_text()
    path.write_text(whole[: -len(whole.splitlines()[-1]) // 2])
    made.clear()
    assert effect.effect(lab, parent, 10, {"z_loss_weight": 0.3}, forks=2, steps=10).pairs == first.pairs
    assert made == ["changed-2"]
    made.clear()
    assert effect.effect(lab, parent, 10, {"z_loss_weight": 0.3}, forks=2, steps=10).pairs == first.pairs
    assert made == [], "the answer stands on a line of its own"


ODD = (
    {"created": math.inf},
    {"created": True},
    {"run": 5},
    {"pairs": [5]},
    {"pairs": [{"order_seed": 1, "without": "x", "changed": None}]},
    {"mean": "x"},
    {"curves": {"without-1": None}},
    {"changes": []},
    {"more": 1},
)


def test_a_question_of_another_type_is_refused_in_words(lab):
    folder = lab.runs_dir / effect.EFFECTS / ".asked"
    folder.mkdir(parents=True)
    good = asdict(effect_job.EffectRequest("effect", "a", 1, {"learning_rate": 1.0}))
    for change in ({"forks": "many"}, {"kind": "guess"}, {"values": 5}, {"changes": None}, {"step": 1.5}, {"x": 1}):
        (folder / "question.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(LabError, match=r"last request is damaged .*: submit it again"):
            effect_job.status(lab)
    (folder / "question.json").write_text(json.dumps(good))
    (folder / "progress.json").write_text("[5, -1]")
    found = effect_job.status(lab)
    assert (found.request, found.done, found.total) == (effect_job.EffectRequest(**good), 0, 10)


def test_an_answer_that_has_just_come_was_ended_by_nobody(lab, monkeypatch):
    folder = lab.runs_dir / effect.EFFECTS / ".asked"
    folder.mkdir(parents=True)
    (folder / "question.json").write_text(json.dumps(asdict(effect_job.EffectRequest("effect", "a", 1))))
    (folder / "progress.json").write_text("[10, 10]")
    monkeypatch.setattr("qcore.experiments.background_job.cancel", lambda folder: (folder / "answered").touch())
    effect_job.cancel(lab)
    assert effect_job.status(lab).error == ""
    (folder / "answered").unlink()
    monkeypatch.setattr("qcore.experiments.background_job.cancel", lambda folder: None)
    effect_job.cancel(lab)
    assert "ended by a user" in effect_job.status(lab).error


@pytest.mark.parametrize(
    "damage",
    ["", "null", "[1]", "[" * 100_000, '{"run": "a"}', '{"run": "a", "created": "x"}', "\udcff", *ODD],
)
def test_a_damaged_result_hides_no_other(lab, damage):
    kept = {"id": "two", "run": "a", "step": 1, "changes": {}, "metric": "eval/ce", "last": 1, "steps": 5, "pairs": []}
    kept |= dict.fromkeys(("mean", "low", "high", "p", "needed")) | {"verdict": "none", "created": 1.0, "seconds": 1.0}
    damage = json.dumps({**kept, "id": "one", "curves": {}, **damage}) if isinstance(damage, dict) else damage
    texts = {"one": damage, "two": json.dumps({**kept, "curves": {}})}
    for name, text in texts.items():
        folder = lab.runs_dir / effect.EFFECTS / name
        folder.mkdir(parents=True)
        (folder / "effect.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert [found.id for found in effect.effects(lab)] == ["two"]
