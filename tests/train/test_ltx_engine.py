"""The LTX-Video adapter as a run: it trains its low-rank adapters only, keeps only them, and resumes bit for bit."""

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.config import default_run
from qcore.store import RunWriter
from qcore.train.checkpoint import MODEL_FILE, load_checkpoint, restore_model, restore_optimizer
from qcore.train.video_workload import VideoWorkload
from tests.support.configs import has_ltx
from tests.support.engines import checkpoint_of

pytestmark = pytest.mark.skipif(not has_ltx(), reason="the extra ltx is not installed")

SMALL = {
    "kind": "ltx_video",
    "clips": 32,
    "batch_size": 4,
    "measured_clips": 4,
    "solver_steps": 3,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "lora_dropout": 0.1,
    "flow_path": "quantum",
    "budget_percent": 100.0,
}


@pytest.fixture(scope="module")
def workload():
    return VideoWorkload(default_run().with_values(SMALL))


def test_it_trains_checkpoints_its_adapters_and_resumes_bit_for_bit(workload, tmp_path):
    engine, board = workload.engine, ControlBoard(workload.config)
    frozen = {name: value.clone() for name, value in engine.model.named_parameters() if not value.requires_grad}
    results = []
    for step in range(1, 6):
        results.append(engine.step(step, board))
        if step == 3:
            folder = checkpoint_of(tmp_path, engine, board, 3)
    for name, value in engine.model.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, frozen[name]), name
    checkpoint = load_checkpoint(folder)
    kept = sum(value.numel() for name, value in checkpoint.model.items() if name.startswith("model."))
    assert kept == 4096
    assert (folder / MODEL_FILE).stat().st_size < 200_000
    again = VideoWorkload(workload.config).engine
    restore_model(again.saved, checkpoint)
    restore_optimizer(again.model, again.optimizer, checkpoint)
    for step in (4, 5):
        found, expected = again.step(step, board), results[step - 1]
        assert (found.loss, found.grad_norm, found.terms) == (expected.loss, expected.grad_norm, expected.terms)
    clips = torch.cat(list(again.sample(workload.config.sampling, board, 3)))
    assert clips.shape == (3, *again.dataset.shape)
    assert torch.equal(clips, torch.cat(list(engine.sample(workload.config.sampling, board, 3))))


def test_all_probes_read_it(workload, tmp_path):
    board = ControlBoard(workload.config)
    with RunWriter(tmp_path / "run.sqlite") as writer:
        runner = workload.runner(writer)
        found = runner.begin(workload.engine.preview(board), board)
    assert not runner.disabled
    assert found["flow/velocity_error"] < 1e-5
    assert found["flow/position_response"] > 0
    assert found["weights/dead_share"] <= 1
