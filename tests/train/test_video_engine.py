"""The video engine: steps repeat bit for bit, probes leave it as it was, samples are their seeds'."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.sampling import clip_noise, clip_seeds
from qcore.store import RunReader, RunWriter
from qcore.train.checkpoint import load_checkpoint, restore_model, restore_optimizer
from qcore.train.engine import NonFiniteError
from qcore.train.video_workload import VideoProbed, VideoWorkload, build_video_engine
from tests.support.configs import small_video
from tests.support.engines import all_state, checkpoint_of

PATHS = ["plain", "rab", "quantum", "ring", "spherical"]
VARIANTS = [
    {},
    {"flow_path": "quantum", "anchor": "network", "anchor_input": True, "anchor_kl_weight": 0.01},
    {"flow_path": "rab", "learned_t_star": True, "orthogonality_weight": 0.1, "orthogonality_warmup": 2},
    {"latents": "space_to_channel", "patch": 2, "noise_correlation": 0.5},
    {"flow_path": "spherical", "time_sampling": "logit_normal", "ema_decay": 0.0, "temporal_weight": 0.1},
    {"flow_path": "ring", "accumulation": 2, "decoherence_weight": 0.1},
]


def make(**changes):
    config = small_video(**changes)
    return build_video_engine(config), ControlBoard(config)


@pytest.fixture
def writer(tmp_path):
    with RunWriter(tmp_path / "run.sqlite") as opened:
        yield opened


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: "-".join(map(str, changes)) or "default")
def test_steps_repeat_and_resume_bit_for_bit(changes, tmp_path):
    first, board = make(**changes)
    results = []
    for step in range(1, 7):
        torch.rand(step)  # somebody else draws from the process-wide stream between the steps
        results.append(first.step(step, board))
        if step == 3:
            folder = checkpoint_of(tmp_path, first, board, 3)
    second, _ = make(**changes)
    checkpoint = load_checkpoint(folder)
    restore_model(second.saved, checkpoint)
    restore_optimizer(second.model, second.optimizer, checkpoint)
    for step in range(4, 7):
        again, expected = second.step(step, board), results[step - 1]
        assert (again.loss, again.grad_norm, again.terms) == (expected.loss, expected.grad_norm, expected.terms)
    assert second.evaluate(board) == first.evaluate(board)
    for name, value in first.saved.state_dict().items():
        assert torch.equal(value, second.saved.state_dict()[name]), name


def test_every_term_that_is_weighted_reaches_the_weights():
    engine, board = make(flow_path="quantum", anchor="network", flow_weight=0.0, anchor_kl_weight=0.1)
    with torch.no_grad():
        engine.model.anchor_network.head.bias.fill_(0.5)  # at its start the posterior is the prior
    engine.step(1, board)
    touched = {name for name, value in engine.model.named_parameters() if value.grad is not None and value.grad.any()}
    assert touched
    assert all(name.startswith("anchor_network.") for name in touched)


def test_a_learned_collapse_time_moves_and_stays_in_range():
    engine, board = make(flow_path="rab", learned_t_star=True, learning_rate=0.05, warmup_steps=0)
    before = engine.path(board).settings.t_star.item()
    for step in range(1, 9):
        engine.step(step, board)
    after = engine.path(board).settings.t_star.item()
    assert before == pytest.approx(board["t_star"])
    assert after != before
    assert 0.02 < after < 0.95


def test_an_update_with_a_broken_loss_is_not_made():
    engine, board = make()
    engine.step(1, board)
    with torch.no_grad():
        engine.model.head.bias.fill_(math.nan)
    before = [value.clone() for value in engine.model.parameters()]
    with pytest.raises(NonFiniteError, match="flow"):
        engine.step(2, board)
    for old, new in zip(before, engine.model.parameters(), strict=True):
        assert torch.equal(old.nan_to_num(7.0), new.nan_to_num(7.0))


@pytest.mark.parametrize("changes", VARIANTS[:4], ids=lambda changes: "-".join(map(str, changes)) or "default")
def test_probes_change_nothing_and_all_of_them_work(writer, tmp_path, changes):
    losses = []
    for measured in (True, False):
        workload = VideoWorkload(small_video(**changes))
        engine, board = workload.engine, ControlBoard(workload.config)
        runner, probed = workload.runner(writer), VideoProbed(engine, workload._reference)
        if measured:
            runner.begin(engine.preview(board), board)
        for step in range(1, 4):
            result = engine.step(step, board)
            before = all_state(engine)
            if measured:
                seen = probed.probe_input(step, result, board, partial(writer.log_arrays, step))
                for probe in probed.probes:
                    found = probe.measure(seen)
                    assert all(math.isfinite(value) for value in found.values()), (probe.name, found)
                assert all(torch.equal(a, b) for a, b in zip(before, all_state(engine), strict=True))
            losses.append((measured, step, result.loss, result.grad_norm))
        assert not runner.disabled
    assert [row[1:] for row in losses if row[0]] == [row[1:] for row in losses if not row[0]]
    writer.flush()
    with RunReader(tmp_path / "run.sqlite") as reader:
        _, frames = reader.arrays("frames", 3)
        assert frames["data"].dtype == np.uint8
        assert frames["data"].shape == frames["denoised"].shape == (4, 4, 8, 8, 1)
        assert reader.arrays("path", 3)[1]["alpha"].shape == (101,)


@pytest.mark.parametrize("path", PATHS)
def test_the_velocity_of_every_path_passes_its_check_and_a_wrong_one_does_not(writer, path):
    workload = VideoWorkload(small_video(flow_path=path))
    board = ControlBoard(workload.config)
    probed = VideoProbed(workload.engine, workload._reference)
    seen = probed.probe_input(0, workload.engine.preview(board), board, partial(writer.log_arrays, 0))
    velocity = next(probe for probe in probed.probes if probe.name == "velocity")
    assert velocity.measure(seen)["flow/velocity_error"] < 1e-5
    plain = type(workload.engine).velocity_target

    def doubled(*arguments):
        sample = plain(workload.engine, *arguments)
        return type(sample)(sample.z_BFCHW, 2 * sample.velocity_BFCHW)

    workload.engine.velocity_target = doubled
    assert velocity.measure(seen)["flow/velocity_error"] == pytest.approx(1, abs=1e-3)


def test_samples_are_those_of_their_seeds_however_many_are_drawn():
    engine, board = make(noise_correlation=0.5)
    for step in range(1, 4):
        engine.step(step, board)
    settings = engine.config.sampling
    few, many = (torch.cat(list(engine.sample(settings, board, count))) for count in (3, 20))
    torch.testing.assert_close(few, many[:3], rtol=1e-4, atol=1e-5)
    other = torch.cat(list(engine.sample(settings.model_copy(update={"sample_seed": 1}), board, 3)))
    assert (few - other).abs().max() > 0.1


def test_samples_come_from_the_averaged_weights_unless_told_otherwise():
    engine, board = make(learning_rate=0.05, warmup_steps=0)
    for step in range(1, 6):
        engine.step(step, board)
    live = engine.config.sampling.model_copy(update={"averaged_weights": False})
    a, b = (torch.cat(list(engine.sample(settings, board, 2))) for settings in (engine.config.sampling, live))
    assert (a - b).abs().max() > 1e-3


def test_the_average_follows_the_weights():
    engine, board = make(ema_decay=0.5, learning_rate=0.05, warmup_steps=0)
    name = "head.bias"
    average = engine.ema.module.get_parameter(name).detach().clone()
    for count, step in enumerate(range(1, 4)):
        engine.step(step, board)
        current = engine.model.get_parameter(name).detach()
        kept = min(0.5, (1 + count) / (10 + count)) if count else 0.0
        average = kept * average + (1 - kept) * current
        torch.testing.assert_close(engine.ema.module.get_parameter(name), average)


def test_shared_noise_is_the_same_in_every_frame():
    noise = clip_noise((4, 1, 8, 8), 1.0, clip_seeds(3, 2))
    assert torch.equal(noise[:, :1].expand_as(noise), noise)
    assert not torch.equal(noise[0], noise[1])
    assert not set(clip_seeds(3, 100)) & set(clip_seeds(4, 100))


@pytest.mark.parametrize("source", ["prior", "data"])
@pytest.mark.parametrize("anchor", ["network", "statistics"])
def test_a_model_that_is_shown_the_anchor_samples_with_one(anchor, source):
    engine, board = make(flow_path="quantum", anchor=anchor, anchor_input=True, anchor_source=source)
    engine.step(1, board)
    clips = torch.cat(list(engine.sample(engine.config.sampling, board, 3)))
    assert clips.shape == (3, 4, 1, 8, 8)
    assert torch.isfinite(clips).all()


def test_drawing_stops_when_it_is_told_to():
    engine, board = make()
    calls = itertools.count()
    assert list(engine.sample(engine.config.sampling, board, 40, stop=lambda: next(calls) > 1)) == []


def test_an_autoencoder_is_fitted_before_the_flow_and_left_alone_by_it():
    engine, board = make(latents="autoencoder", latent_patch=2, patch=2)
    codec = [value.clone() for value in engine.model.codec.state_dict().values()]
    clips = engine.dataset.validation_clips(8)
    rebuilt = engine.model.codec.decode(engine.model.codec.encode(clips))
    assert float((rebuilt - clips).square().mean()) < 0.5
    for step in range(1, 4):
        engine.step(step, board)
    assert all(torch.equal(a, b) for a, b in zip(codec, engine.model.codec.state_dict().values(), strict=True))
