"""D and X: what is trained on is measured on engines of unit size, and a watch names just what was planted."""

import pytest

from qcore.config.fault_bank import FAULTS
from qcore.config.fault_bank_inputs import INPUT_CASES
from qcore.detect import Facts, Watch
from qcore.probes import inputs
from qcore.train.text_workload import TextProbed, looked_at_updates
from qcore.train.video_workload import VideoProbed

CODES = [case.code for case in INPUT_CASES]
WELL_FED_TEXT = ({}, {"packing": "padded"}, {"accumulation": 2}, {"documents": 20}, {"batch_size": 1})
WELL_FED_CLIPS = ({}, {"time_sampling": "logit_normal"}, {"canvas": 12}, {"flow_path": "rab", "noise_correlation": 1.0})


def found_in(engine, board):
    """Names of the findings of what the first look at the inputs measures."""
    family = "video" if engine.config.kind == "video_flow" else "text"
    probed = VideoProbed(engine, None) if family == "video" else TextProbed(engine)
    seen = probed.probe_input(0, engine.preview(board), board, lambda name, arrays: None)
    measured = inputs.clip_inputs(seen) if family == "video" else inputs.text_inputs(seen) | inputs.surprise(seen)
    watch = Watch(Facts(engine.config.kind, family=family, controls=dict(board)))
    return [verdict.name for verdict in watch.observe(0, measured, {})]


@pytest.mark.parametrize("code", CODES)
def test_each_is_named_at_the_first_look(planted, code):
    changes = {"documents": 400, "context": 32} if code.startswith("D") else {"batch_size": 8}
    assert found_in(*planted(code, **changes)) == list(FAULTS[code].findings)


@pytest.mark.parametrize("changes", WELL_FED_TEXT)
def test_healthy_rows_are_not_accused(healthy, changes):
    assert found_in(*healthy("D1", **{"documents": 400, "context": 32, **changes})) == []


@pytest.mark.parametrize("changes", WELL_FED_CLIPS)
def test_healthy_clips_are_not_accused(healthy, changes):
    assert found_in(*healthy("X1", **{"batch_size": 8, **changes})) == []


def test_looking_changes_no_number_of_training(healthy):
    losses = []
    for looks in (False, True):
        engine, board = healthy("D1")
        result = engine.preview(board)
        for step in range(1, 4):
            if looks:
                seen = TextProbed(engine).probe_input(step - 1, result, board, lambda name, arrays: None)
                assert inputs.text_inputs(seen)
                assert inputs.surprise(seen)
            result = engine.step(step, board)
        losses.append(result.loss)
    assert losses[0] == losses[1]


def test_an_odd_step_stands_out_by_its_tokens(planted):
    engine, board = planted("D1", documents=400)
    usual = type(engine)._micro_batches
    rare = int(engine.dataset.token_counts.argmin())

    def odd(step, controls):
        batches = usual(engine, step, controls)
        if step == 5:
            batches[0].targets_BT.fill_(rare)
        return batches

    engine._micro_batches = odd
    seen = TextProbed(engine).probe_input(8, engine.preview(board), board, lambda name, arrays: None)
    found = inputs.surprise(seen)
    assert found["batches/surprise_step"] == 5
    assert found["batches/surprise_largest"] > found["batches/surprise"] + 2


def test_updates_that_are_looked_at_are_past_ones_but_before_the_first():
    assert looked_at_updates(0, 100, 64) == sorted(set(looked_at_updates(0, 100, 64)))
    assert looked_at_updates(0, 100, 64)[:8] == list(range(1, 9))
    assert looked_at_updates(1, 100, 64) == [1]
    late = looked_at_updates(5000, 10_000, 16)
    assert late[-8:] == list(range(4993, 5001))
    assert min(late) >= 5000 - 512 + 1
    assert len(late) == 16
    assert max(looked_at_updates(0, 1, 64)) == 64, "what a longer run would be given"
