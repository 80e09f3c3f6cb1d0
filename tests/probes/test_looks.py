"""What a run is looked at: everything before its first update and after its last, less of the model in between."""

from __future__ import annotations

import pytest
import torch

from qcore.config import BEFORE, RunConfig
from qcore.lab import Lab
from qcore.probes import catalog
from qcore.probes.runner import Runner
from qcore.probes.scheduler import ProbeScheduler
from qcore.runs.replay_plan import recording_of
from qcore.store import RunWriter
from qcore.train.text_workload import TextProbed
from tests.probes.test_runner import make
from tests.support.configs import eventually, small_config

LONG = {"context": 80, "batch_size": 4, "documents": 200}
CHECKS = ("gradients", "causality", "batch", "strict")


@pytest.fixture
def writer(tmp_path):
    with RunWriter(tmp_path / "run.sqlite") as opened:
        yield opened


def tokens_asked(runner, engine, board, step):
    """How many tokens the model reads for each check at a step."""
    found, name = dict.fromkeys(CHECKS, 0), ""

    def count(module, inputs):
        found[name] += inputs[0].numel()

    seen = runner._input(step, engine.step(step, board), board)
    handle = engine.model.register_forward_pre_hook(count)
    for probe in runner.probes:
        if probe.name in CHECKS:
            name = probe.name
            assert probe.measure(seen)
    handle.remove()
    return found


def test_between_the_first_and_the_last_look_dear_checks_ask_less(writer):
    engine, board = make(**LONG, budget_percent=2.0)
    runner = Runner(TextProbed(engine), writer)
    thorough = Runner(TextProbed(engine), writer, probe_version=1)
    light, before, last = (
        tokens_asked(each, engine, board, step) for each, step in ((runner, 1), (thorough, 2), (runner, board["steps"]))
    )
    assert ProbeScheduler().choose(13, {"a": 7}, 2.0, 13) == {"a"}
    assert not ProbeScheduler(last_look=False).choose(13, {"a": 7}, 2.0, 13), "a run of version 1"
    assert all(light[name] < before[name] for name in CHECKS)
    assert sum(light.values()) < 0.4 * sum(before.values())
    assert last["causality"] == before["causality"], "the last look is as thorough as the first"
    board.set("budget_percent", 100.0)
    assert tokens_asked(runner, engine, board, 3)["causality"] == before["causality"]


def test_a_light_look_still_sees_a_leak(writer):
    """A head that reads the next token, once the run is under way."""
    engine, board = make(**LONG, budget_percent=2.0, kind="transformer")
    runner = Runner(TextProbed(engine), writer)
    result = engine.step(1, board)

    def look_ahead(module, inputs, output):
        return output + torch.roll(output, -1, dims=1)

    engine.model.layers[0].register_forward_hook(look_ahead)
    seen = runner._input(2, result, board)
    found = {}
    for probe in runner.probes:
        if probe.name in ("causality", "strict", "batch"):
            found |= probe.measure(seen)
    assert not seen.thorough
    assert found["causality/leak"] > 0.1
    assert found["batch/dependence"] == 0.0
    assert found["strict/gap"] != 0.0


def test_a_run_from_before_measures_as_it_did():
    text = small_config().to_yaml()
    before = "\n".join(line for line in text.split("\n") if "probe_version" not in line)
    assert RunConfig.from_yaml(text).probes.probe_version == 2
    assert RunConfig.from_yaml(before, before=BEFORE).probes.probe_version == 1


def test_a_run_is_measured_whole_at_its_end_whatever_its_budget_and_so_is_its_replay(lab: Lab):
    name = lab.start(small_config(budget_percent=0.01, steps=7))
    eventually(lambda: lab.info(name).state == "finished")
    reader = lab.reader(name)
    recording = recording_of(reader, 7)
    assert recording.began
    assert recording.probes is not None
    assert all(7 in steps for steps in recording.probes.values())
    assert not any({1, 2, 3} & steps for probe, steps in recording.probes.items() if probe in CHECKS)
    assert [step for step, _ in [reader.last(catalog.COST_AFTER_TRAINING_MS) or (0, 0.0)]] == [7]
    spent = reader.last(catalog.COST_SPENT_PERCENT)
    assert spent is not None
    assert reader.last(catalog.CAUSALITY_LEAK)[0] == 7
    assert lab.replay(name).identical
