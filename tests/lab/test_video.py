"""Video runs through the façade: train, sample live and from checkpoints, steer, resume bit for bit, exact flow."""

import base64
import signal
import subprocess
import sys

import av
import numpy as np
import pytest

from qcore.config import ClipSamplingConfig, ConfigError, Pause, SetControl
from qcore.lab import ExactFlowSettings, Lab, LabError, exact_flow
from tests.support.configs import eventually, small_video


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as opened:
        yield opened


def finished(lab, config, name="clips"):
    lab.start(config, name=name)
    info = lab.wait(name, 60)
    assert info.state == "finished", info.message
    return info


def pixels(row):
    return np.frombuffer(base64.b64decode(row["pixels"]), dtype=np.uint8).reshape(row["shape"])


def test_a_run_trains_measures_and_shows_clips(lab):
    info = finished(lab, small_video(flow_path="quantum"))
    assert (info.family, info.kind, info.step) == ("video", "video_flow", 12)
    assert info.held_out is not None
    reader = lab.reader("clips")
    for series in ("term/flow", "eval/flow", "train/frames_per_second", "frames/denoised/divergence", "anchor/spread"):
        assert len(reader.scalars(series)), series
    assert reader.scalars("frames/generated/divergence").steps.tolist() == [6, 12]
    assert reader.scalars("flow/velocity_error").steps[0] == 0
    meta = reader.meta()
    assert meta["clip"]["frames"] == 4
    assert 0 < meta["data_frames"]["divergence"] < 2
    made = [found for found in reader.generations() if found.kind == "timeline"]
    assert [found.step for found in made] == [6, 12]
    assert all(pixels(row).shape == (4, 8, 8, 1) for row in made[-1].tokens)
    assert len(made[-1].tokens) == 2
    _, generated = reader.arrays("generated", 12)
    assert generated["clips"].dtype == np.uint8
    assert generated["tomography"].shape == (len(generated["tomography_t"]), 4)
    assert np.array_equal(generated["clips"][0], pixels(made[-1].tokens[0]))


def test_clips_are_drawn_from_a_checkpoint_and_from_a_paused_run(lab):
    finished(lab, small_video())
    settings = ClipSamplingConfig(sampled_clips=3, solver_steps=3, sample_seed=5)
    *_, made = lab.sample_clips("clips", settings)
    assert (made.status, made.step, len(made.tokens)) == ("done", 12, 3)
    assert made.stats["divergence"] > 0
    *_, again = lab.sample_clips("clips", settings)
    assert again.tokens == made.tokens
    *_, earlier = lab.sample_clips("clips", settings, checkpoint=5)
    assert earlier.tokens != made.tokens
    assert [found.id for found in lab.reader("clips").generations() if found.kind == "prompt"]

    lab.start(small_video(steps=100_000), name="live")
    eventually(lambda: lab.info("live").step > 2)
    lab.command("live", Pause())
    eventually(lambda: lab.info("live").state == "paused")
    *_, live = lab.sample_clips("live", settings)
    assert (live.status, live.step) == ("done", lab.info("live").step)


def test_a_text_setting_is_refused_by_a_video_run_and_leaves_it_alone(lab):
    from qcore.config import SamplingConfig

    lab.start(small_video(steps=100_000), name="live")
    eventually(lambda: lab.info("live").step > 1)
    with pytest.raises(LabError, match="is no sampling setting of a video_flow"):
        list(lab.sample("live", "Once", SamplingConfig()))
    assert lab.info("live").state == "running"


def test_noise_and_path_change_while_training(lab):
    lab.start(small_video(steps=100_000, flow_path="quantum", noise_correlation=1.0), name="live")
    eventually(lambda: lab.info("live").step > 1)
    for change in (SetControl("noise_correlation", 0.0), SetControl("flow_path", "plain"), SetControl("t_star", 0.3)):
        row = lab.outcome("live", lab.command("live", change), timeout=20)
        assert row.status == "applied", row.message
    assert lab.controls("live")["noise_correlation"].value == 0.0
    reader = lab.reader("live")
    step = lab.controls("live")["t_star"].step
    eventually(lambda: len(found := reader.scalars("flow/noise_correlation")) and found.steps[-1] > step)
    assert reader.scalars("flow/noise_correlation").values[-1] == 0.0
    with pytest.raises(ConfigError, match="'coherence_weight' is no value of a video_flow"):
        lab.command("live", SetControl("coherence_weight", 0.1))
    with pytest.raises(ConfigError, match=r"noise_correlation = 2 is refused: it must be a number from 0 to 1"):
        lab.command("live", SetControl("noise_correlation", 2))


def test_a_killed_run_resumes_to_the_same_numbers(tmp_path, lab):
    config = small_video(steps=40, checkpoint_every=7, sample_every=20, noise_correlation=0.5)
    finished(lab, config, "whole")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    command = [sys.executable, "-m", "qcore", "train", "--config", str(path), "--runs", str(tmp_path), "--quiet"]
    child = subprocess.Popen([*command, "--name", "killed"], stdout=subprocess.DEVNULL)
    eventually(lambda: (tmp_path / "killed" / "step-000014").exists(), 60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    lab.resume("killed")
    assert lab.wait("killed", 60).state == "finished"
    for name in ("train/loss", "train/grad_norm", "eval/flow", "frames/generated/divergence"):
        expected, found = (lab.reader(run).scalars(name) for run in ("whole", "killed"))
        assert np.array_equal(expected.steps, found.steps)
        assert np.array_equal(expected.values, found.values), name


@pytest.mark.parametrize(("correlation", "fewest", "most"), [(0.0, 40, 64), (1.0, 1, 1)])
def test_shared_noise_leaves_one_motion(correlation, fewest, most):
    result = exact_flow(ExactFlowSettings("quantum", correlation))
    assert fewest <= result.distinct <= most
    assert result.clips.dtype == np.uint8
    assert result.trajectory_t[0] > result.trajectory_t[-1] >= 0
    assert set(result.scalars) == {"data", "generated"}


def test_an_unknown_path_of_the_exact_flow_is_refused():
    with pytest.raises(ValueError, match="zipper"):
        exact_flow(ExactFlowSettings("zipper"))


def test_a_folder_of_many_bad_files_is_named_in_part_and_counted_whole(lab, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    with av.open(str(folder / "good.mkv"), "w") as container:
        stream = container.add_stream("ffv1", width=8, height=8, pix_fmt="gray")
        for pixels in np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    for number in range(130):
        (folder / f"{number:03}.mp4").write_bytes(b"no video")
    finished(lab, small_video(source="folder", path=str(folder), clips=16, steps=1))
    meta = lab.reader("clips").meta()
    assert [file["path"] for file in meta["skipped_files"]] == [f"{number:03}.mp4" for number in range(100)]
    assert meta["skipped_count"] == 130
    warned = [line.message for line in lab.reader("clips").log() if line.level == "warning"]
    assert len(warned) == 101
    assert warned[0].startswith("data: 000.mp4 ")
    assert warned[-1] == "data: 30 more files were not used"
