"""The bank as a whole: every case has its fault, trains, speaks, resumes, and leaves every other engine alone."""

import math

import pytest
import torch

from qcore import objectives
from qcore.config import RunConfig, default_run, preset
from qcore.config.fault_bank import FAULTS
from qcore.faults import PLANTERS, plant
from qcore.sampling import generate

CODES = [code for code, case in FAULTS.items() if case.planted]
VIDEO = ["V2", "V3", "V5", "X1", "X2", "X3", "X4", "X5", "X6", "W1", "W2", "W3", "W4", "W5"]
CONFIGURATIONS = ["V1", "V4", "V6", "H1"]
PHASE_ONLY = ["L1", "P1", "P2", "P3"]
TRANSFORMER_ONLY = ["L2", "L3", "G8", "T3", "T4", "R1"]


def weights(engine):
    return {name: value.detach().clone() for name, value in engine.model.state_dict().items()}


def trained(engine, board, steps=(1, 2, 3)):
    for step in steps:
        engine.step(step, board)
    return weights(engine)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_every_case_has_a_planter_and_every_planter_a_case():
    assert set(FAULTS) == {*PLANTERS, *CONFIGURATIONS}
    assert set(CODES) == set(PLANTERS)


@pytest.mark.parametrize("code", FAULTS)
def test_every_case_is_a_valid_run_and_a_preset(code):
    case = FAULTS[code]
    config = default_run().with_values(case.preset_changes)
    assert config.fault == (code if case.planted else "")
    assert (config.kind == "video_flow") == (code[0] in "VXW")
    assert RunConfig.from_yaml(config.to_yaml()) == config
    assert preset(f"fault-{code.lower()}").config == config
    assert config.optim.steps >= case.within
    assert case.title
    assert case.seen
    assert case.tell
    assert case.findings


@pytest.mark.parametrize(("wrong", "right"), [("l2", "L2"), ("T2B", "T2b"), ("N12", "N1")])
def test_an_unknown_code_is_refused_with_the_nearest_one(healthy, wrong, right):
    engine, _ = healthy("T2b")
    with pytest.raises(ValueError, match=f"fault '{wrong}' is not in the bank; did you mean '{right}'"):
        plant(wrong, engine)


@pytest.mark.parametrize("code", CONFIGURATIONS)
def test_a_configuration_is_not_planted(healthy, code):
    engine, _ = healthy(code)
    with pytest.raises(
        ValueError, match=f"fault '{code}' is a configuration.*start from the preset fault-{code.lower()}"
    ):
        plant(code, engine)


@pytest.mark.parametrize("code", VIDEO)
def test_a_video_fault_is_refused_by_text_and_a_text_fault_by_video(healthy, code):
    text, _ = healthy("T2b")
    with pytest.raises(ValueError, match=r"a mistake of a video_flow.* and cannot be planted in a phase_lm: set kind"):
        plant(code, text)
    clips, _ = healthy(code)
    for other in ("G1", "L1", "L2", "B2"):
        with pytest.raises(
            ValueError,
            match="a mistake of a phase_lm or pam or flux_lm or transformer and cannot be planted in a video_flow",
        ):
            plant(other, clips)


@pytest.mark.parametrize("code", [*PHASE_ONLY, *TRANSFORMER_ONLY])
def test_a_fault_of_the_other_family_is_refused(healthy, code):
    kind, other = ("phase_lm", "transformer") if code in PHASE_ONLY else ("transformer", "phase_lm")
    if code == "P3":
        kind = "phase_lm or complex pam"
    if code == "L3":
        kind = "transformer or flux_lm"
    engine, _ = healthy("T2b", kind=other)
    with pytest.raises(ValueError, match=f"a mistake of a {kind} and cannot be planted in a {other}: set kind"):
        plant(code, engine)


@pytest.mark.parametrize("code", [code for code in CODES if code != "S4"])  # which cannot speak
def test_a_planted_engine_trains_evaluates_and_speaks(planted, code):
    engine, board = planted(code)
    losses = [engine.step(step, board).loss for step in range(1, 5)]
    assert all(math.isfinite(loss) for loss in losses)
    assert math.isfinite(engine.evaluate(board)) is (code != "H4")
    if code in VIDEO:
        assert torch.cat(list(engine.sample(engine.config.sampling, board, 2))).isfinite().all()
        return
    settings = default_run().sampling
    spoken = [token.id for _, token in zip(range(20), generate(engine.model, [1], settings, eos_id=-1), strict=False)]
    assert len(spoken) == 20


@pytest.mark.parametrize("code", CODES)
def test_recomputed_activations_change_nothing(planted, code):
    plain, again = (planted(code, layers=2, activation_checkpointing=on) for on in (False, True))
    assert_equal(trained(*plain, steps=(1, 2)), trained(*again, steps=(1, 2)))


# what O6 never clears is in no checkpoint; the evaluation of S1 is random
@pytest.mark.parametrize("code", [code for code in CODES if code not in ("O6", "S1")])
def test_a_planted_run_resumes_bit_for_bit(planted, code):
    engine, board = planted(code)
    trained(engine, board)
    resumed, _ = planted(code)
    resumed.model.load_state_dict(engine.model.state_dict())
    for old, new in zip(engine.model.parameters(), resumed.model.parameters(), strict=True):
        if moments := engine.optimizer.state.get(old):
            resumed.optimizer.state[new] = {name: value.clone() for name, value in moments.items()}
    assert resumed.evaluate(board) == pytest.approx(engine.evaluate(board), abs=0, rel=0, nan_ok=True)
    assert_equal(trained(engine, board, [4]), trained(resumed, board, [4]))


@pytest.mark.parametrize("code", CODES)
def test_planting_one_engine_leaves_another_untouched(healthy, planted, code):
    terms = objectives.VIDEO_TERMS if code in VIDEO else objectives.TERMS
    functions = [term.fn for term in terms]
    before, board = healthy(code)  # built before the fault, trained after it
    fresh, _ = healthy(code)
    expected, expected_loss = trained(fresh, board), fresh.evaluate(board)
    sick, sick_board = planted(code)
    trained(sick, sick_board)
    after, _ = healthy(code)
    for other in (before, after):
        assert other.terms is terms
        assert_equal(trained(other, board), expected)
        assert other.evaluate(board) == expected_loss
    assert [term.fn for term in terms] == functions
