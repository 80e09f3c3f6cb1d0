"""V2, V3, V5: what is measured, what is trained on, and what the model knows; each next to its healthy twin."""

import copy

import pytest
import torch

from qcore.diagnostics import frame_statistics, path_check, position_response
from qcore.faults import plant
from qcore.probes.jitter import jitter_weights


def velocity_error(engine, board):
    result = engine.preview(board)
    path, bridge = engine.path(board), result.bridge
    fixed = [value.double() for value in (bridge.noise_BFCHW, bridge.anchor_BCHW, result.latents_BFCHW)]
    times = torch.linspace(0.05, 0.95, len(fixed[0]), dtype=torch.float64)
    return path_check(lambda t_B: engine.velocity_target(path, *fixed, t_B), times, jumps=path.jumps())


def response(engine, board, model=None):
    result = engine.preview(board)

    def velocity(z, t):
        return engine.predict(model or engine.model, z, t, None, board).velocity_BFCHW

    with jitter_weights(engine.model, 0), torch.no_grad():
        return position_response(velocity, result.bridge.sample.z_BFCHW, result.bridge.draw.t_B)


def test_predicted_and_generated_clips_are_measured_on_the_data(planted, healthy):
    engine, board = planted("V2")
    for step in (1, 2, 3):
        result = engine.step(step, board)
        frames = engine.measured_frames(result)
        assert torch.equal(frames["denoised"], frames["data"])
        measures = [frame_statistics(frames[name]).scalars() for name in ("data", "denoised")]
        assert measures[0] == measures[1]
        samples = torch.cat(list(engine.sample(engine.config.sampling, board, 4)))
        assert torch.equal(engine.measured_samples(samples), engine.dataset.validation_clips(4))
    well, board = healthy("V2")
    frames = well.measured_frames(well.step(1, board))
    assert not torch.equal(frames["denoised"], frames["data"])
    assert torch.equal(well.measured_samples(samples), samples)


@pytest.mark.parametrize(("path", "least"), [("rab", 0.3), ("quantum", 1.0)])
def test_the_published_velocity_is_not_the_derivative_of_its_path(planted, healthy, path, least):
    engine, board = planted("V3", flow_path=path)
    assert velocity_error(engine, board) > least
    well, _ = healthy("V3", flow_path=path)
    assert velocity_error(well, board) < 1e-6
    wrong, right = engine.preview(board).bridge.sample, well.preview(board).bridge.sample
    assert torch.equal(wrong.z_BFCHW, right.z_BFCHW)
    assert not torch.equal(wrong.velocity_BFCHW, right.velocity_BFCHW)


def test_a_path_without_weights_to_normalise_keeps_its_velocity(planted, healthy):
    engine, board = planted("V3", flow_path="plain")
    well, _ = healthy("V3", flow_path="plain")
    torch.testing.assert_close(
        engine.preview(board).bridge.sample.velocity_BFCHW, well.preview(board).bridge.sample.velocity_BFCHW
    )


def test_without_an_embedding_the_order_of_frames_is_lost_in_the_model_and_in_its_average(planted, healthy):
    engine, board = planted("V5")
    well, _ = healthy("V5")
    for step in (1, 2):
        engine.step(step, board)
        well.step(step, board)
    assert response(engine, board) < 1e-5
    assert response(well, board) > 0.1
    assert engine.ema is not None
    assert response(engine, board, engine.ema) < 1e-5
    assert response(engine, board, copy.deepcopy(engine.model)) < 1e-5


def test_shared_noise_without_an_embedding_gives_identical_frames(planted):
    engine, board = planted("V5", noise_correlation=1.0, ema_decay=0.0)
    for step in range(1, 6):
        engine.step(step, board)
    samples = torch.cat(list(engine.sample(engine.config.sampling, board, 2)))
    assert float((samples - samples[:, :1]).abs().max()) < 1e-5


def test_a_fault_is_planted_in_the_deepest_model_of_a_wrapped_average(healthy):
    engine, _ = healthy("V5")
    plant("V5", engine)
    assert "forward" in vars(engine.model)
    assert "forward" in vars(engine.ema.module)
    assert "forward" not in vars(type(engine.model).__new__(type(engine.model)))
