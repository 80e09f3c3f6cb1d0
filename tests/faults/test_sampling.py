"""S1–S9, W1–W5: each is named by its cause the first time that it is looked at, and its healthy twin is not."""

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.config.fault_bank import FAULTS
from qcore.detect import Watch
from qcore.probes.detectors import planned_lr_sum
from qcore.store import Generation, RunWriter
from qcore.train import text_workload, video_workload
from qcore.train.text_workload import TextWorkload
from qcore.train.video_workload import VideoWorkload

TEXT = {"kind": "transformer", "width": 16, "context": 32, "sample_length": 24, "documents": 80, "learning_rate": 1e-2}
CLIPS = {"learning_rate": 1e-2, "measured_clips": 4}
STEPS = 2


@pytest.fixture
def look(tmp_path, healthy, planted, monkeypatch):
    """`look(code, **changes)` → the workload of a case after a few steps, and what was found, by name."""

    def make(code, fault, **changes):
        engine, _ = (planted if fault else healthy)(code, **changes)
        is_clips = engine.config.kind == "video_flow"
        if is_clips:
            monkeypatch.setattr(video_workload, "build_video_engine", lambda config: engine)
            workload = VideoWorkload(engine.config)
        else:
            monkeypatch.setattr(text_workload, "build_engine", lambda *args: engine)
            workload = TextWorkload(engine.config, tmp_path)
        return workload, watched(workload, ControlBoard(engine.config), tmp_path)

    return make


def watched(workload, board, folder):
    watch = Watch(workload.facts(board, planned_lr_sum(board)))
    found = {}

    def tell(step, values):
        for verdict in watch.observe(step, values, workload.term_weights(step, board)):
            found.setdefault(verdict.name, (step, verdict.title))

    with RunWriter(folder / "run.sqlite") as writer:
        runner = workload.runner(writer)
        tell(0, workload.data_measurements(board) | runner.begin(workload.engine.preview(board), board))
        assert not runner.disabled
        # before its first updates a velocity is 0 everywhere, whatever it is asked
        apart = 10 if workload.config.kind == "video_flow" else 1
        for step in range(apart, STEPS * apart + 1, apart):
            for update in range(step - apart + 1, step + 1):
                workload.engine.step(update, board)
            samples = drawn(workload, board, step)
            for sample in samples:
                if sample.status == "failed":
                    error = {"prompt": sample.prompt, "error": sample.stats["error"]}
                    watch.note_event(step, "failed_sample", error)
            tell(step, workload.heard(samples[0].stats) | workload.compare_samples(samples))
    workload._writer = None
    return found


def drawn(workload, board, step):
    """The samples of the timeline."""
    samples = []
    for place, (prompt, settings) in enumerate(workload.timeline(board)):
        draft = Generation(f"timeline-{step}-{place}", step, 0.0, "timeline", prompt, settings.model_dump())
        *_, last = workload.sample(draft, settings, board)
        samples.append(last)
    return samples


def at_size(code):
    return {**(CLIPS if code.startswith("W") else TEXT), **({"dropout": 0.3} if code == "S1" else {})}


@pytest.mark.parametrize("code", [code for code in FAULTS if code[0] in "SW" and code != "W5"])
def test_each_is_named_the_first_time_and_its_twin_is_not(look, code):
    case = FAULTS[code]
    _, found = look(code, True, **at_size(code))
    own = {name for name in found if name not in ("stuck", "padding_targets")}
    assert own == set(case.findings), found
    assert min(step for name, (step, _) in found.items() if name in case.findings) <= (
        10 if code[0] == "W" else min(case.within, 1)
    )


@pytest.mark.parametrize("kind", ["phase_lm", "transformer", "pam", "flux_lm"])
@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"dropout": 0.5, "tokenizer": "byte", "temperature": 1.0}])
def test_a_healthy_run_of_any_family_is_its_own_sampler(look, kind, changes):
    changes = {name: value for name, value in changes.items() if name != "dropout" or kind != "flux_lm"}
    workload, found = look("S3" if kind == "transformer" else "T2b", False, **{**TEXT, "kind": kind, **changes})
    assert not set(found) - {"stuck"}
    samples = drawn(workload, ControlBoard(workload.config), 9)
    measured = workload.compare_samples(samples)
    assert measured["sampler/score_error"] < 1e-5
    assert measured["sampler/draw_error"] < 1e-5
    assert measured["sampler/draw_evidence"] < 10
    assert measured["sampler/failed_share"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"context": 4},
        {"sample_length": 1},
        {"prompts": ["Once a boy went to the wood " * 9, "", "Once"]},
        {"vocab_size": 32, "temperature": 0.0},
        {"temperature": 5.0, "top_k": 3, "top_p": 0.5, "repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_unusual_samples_are_no_mistake(look, changes):
    _, found = look("S3", False, **{**TEXT, **changes})
    assert not set(found) - {"stuck", "padding_targets", "unknown_tokens"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"solver": "heun", "flow_path": "quantum"},
        {"solver": "adaptive", "flow_path": "rab", "anchor_input": True, "time_sampling": "logit_normal"},
        {"ema_decay": 0.0, "solver_steps": 1},
        {"latents": "space_to_channel", "patch": 2, "averaged_weights": False},
    ],
    ids=str,
)
def test_a_healthy_sampler_of_clips_follows_its_model(look, changes):
    workload, found = look("W1", False, **{**CLIPS, **changes})
    assert found == {}
    board = ControlBoard(workload.config)
    measured = workload.compare_samples(drawn(workload, board, 9))
    assert measured["sampler/velocity_error"] < 2e-3
    assert measured["sampler/time_outside"] == 0
    assert ("average/loss_ratio" in measured) == bool(workload.engine.ema and workload.config.sampling.averaged_weights)


def test_an_average_that_remembers_too_much_lags(look):
    workload, _ = look("W5", True, **CLIPS)
    board = ControlBoard(workload.config)
    for step in range(21, 50):
        workload.engine.step(step, board)
    slow = workload.compare_samples(drawn(workload, board, 50))
    assert slow["average/loss_ratio"] > 1.06
    assert slow["sampler/velocity_error"] < 1e-4
    twin, _ = look("W5", False, **CLIPS)
    for step in range(21, 50):
        twin.engine.step(step, board)
    assert twin.compare_samples(drawn(twin, board, 50))["average/loss_ratio"] < 1.03


def test_comparing_samples_changes_nothing(look):
    for code in ("S3", "W1"):
        workload, _ = look(code, False, **at_size(code))
        board = ControlBoard(workload.config)
        before = {name: value.clone() for name, value in workload.engine.saved.state_dict().items()}
        random = torch.get_rng_state()
        workload.compare_samples(drawn(workload, board, 9))
        assert torch.equal(torch.get_rng_state(), random)
        after = workload.engine.saved.state_dict()
        assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []


def test_weights_that_change_while_a_sample_is_drawn_judge_nobody(look):
    workload, _ = look("S3", False, **TEXT)
    board = ControlBoard(workload.config)
    [(prompt, settings), *_] = workload.timeline(board)
    draft = Generation("timeline-9-1", 9, 0.0, "timeline", prompt, settings.model_dump())
    looked = iter((0, 1))
    *_, last = workload.sample(draft, settings, board, lambda: moved(workload.engine, looked))
    assert "sampler/score_error" not in workload.compare_samples([last])


def moved(engine, looked):
    """Move a weight, the second time that it is asked; never stop."""
    if next(looked, 0):
        with torch.no_grad():
            engine.model.embedding.weight.add_(0.1)
    return False


def test_a_sample_that_throws_is_shown_as_failed(look, monkeypatch):
    workload, _ = look("S3", False, **TEXT)

    def throw(*args):
        raise RuntimeError("sizes of tensors must match")

    monkeypatch.setattr(workload.engine.model, "step", throw)
    board = ControlBoard(workload.config)
    samples = drawn(workload, board, 9)
    assert {(one.status, one.stats["error"]) for one in samples} == {("failed", "sizes of tensors must match")}
    assert workload.compare_samples(samples)["sampler/failed_share"] == 1
