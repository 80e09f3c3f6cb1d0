"""Clips cut from videos that are written here: exact frames, strides and splits; what cannot be used is named."""

import http.server
import threading
import wave

import av
import numpy as np
import pytest

from qcore.config import ClipsConfig
from qcore.data import open_clips
from qcore.data.video import frames as frames_module
from qcore.data.video.files import read_clips, video_clips


def write_video(path, frames, codec="ffv1", pixel_format=None):
    """Frames [N, H, W] (grey) or [N, H, W, 3]; ffv1 loses nothing."""
    grey = frames.ndim == 3
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format or ("gray" if grey else "bgr0")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray" if grey else "rgb24")))
        container.mux(stream.encode())


def noise(count, height=8, width=8, channels=(), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, *channels), dtype=np.uint8)


def config(path, **settings):
    return ClipsConfig(source="folder", path=str(path), **{"frames": 4, "canvas": 8, **settings})


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_clips_are_the_frames_of_the_video(tmp_path, suffix, channels):
    frames = noise(21, channels=channels)
    write_video(tmp_path / f"v.{suffix}", frames)
    colour = "rgb" if channels else "grey"
    data = open_clips(config(tmp_path, colour=colour))
    cut = frames[:20].reshape(5, 4, 8, 8, -1).transpose(0, 1, 4, 2, 3)
    assert np.array_equal(data.train_NFCHW.numpy(), cut[:4])
    assert np.array_equal(data.validation_NFCHW.numpy(), cut[4:])
    assert (data.shape, data.name, data.skipped) == ((4, len(cut[0, 0]), 8, 8), tmp_path.name, ())
    pixels = cut[:4].astype(float)
    assert (data.mean, data.std) == pytest.approx((pixels.mean(), pixels.std()))


def test_colours_convert_both_ways(tmp_path):
    write_video(tmp_path / "grey.mkv", noise(4))
    write_video(tmp_path / "rgb.mkv", np.broadcast_to(np.array([250, 10, 10], np.uint8), (4, 8, 8, 3)).copy())
    [clip], _ = read_clips(tmp_path / "grey.mkv", config(tmp_path, colour="rgb"), 9)
    assert clip.shape == (4, 3, 8, 8)
    assert (clip == clip[:, :1]).all()
    [clip], _ = read_clips(tmp_path / "rgb.mkv", config(tmp_path), 9)
    assert clip.shape == (4, 1, 8, 8)
    assert np.abs(clip - 82.0).max() < 6  # luma of that red: 0.299·250 + 0.701·10


def test_a_lossy_video_in_mp4_looks_like_its_source(tmp_path):
    ramp = np.add.outer(np.arange(12) * 6, np.add.outer(np.arange(32) * 2, np.arange(32) * 2)).astype(np.uint8) + 30
    write_video(tmp_path / "v.mp4", np.stack([ramp, ramp // 2, ramp // 3], -1), "mpeg4", "yuv420p")
    clips, problem = read_clips(tmp_path / "v.mp4", config(tmp_path, canvas=16, colour="rgb"), 9)
    assert (len(clips), problem) == (3, "")
    source = ramp.reshape(12, 16, 2, 16, 2).mean((2, 4))
    wanted = np.stack([source, source / 2, source / 3], 1)
    assert np.abs(np.concatenate(clips) - wanted).mean() < 4


@pytest.mark.parametrize(("stride", "step"), [(1, 0), (1, 1), (1, 3), (2, 0), (3, 2), (2, 7), (1, 9)])
def test_strides(tmp_path, stride, step):
    frames = noise(50)
    write_video(tmp_path / "v.mkv", frames)
    clips, problem = read_clips(tmp_path / "v.mkv", config(tmp_path, frame_stride=stride, clip_stride=step), 100)
    taken = frames[::stride]
    wanted = [taken[at : at + 4] for at in range(0, len(taken) - 3, step or 4)]
    assert problem == ""
    assert np.array_equal(np.stack(clips)[:, :, 0], np.stack(wanted))


def test_frames_are_averaged_down_and_cropped_at_the_centre(tmp_path):
    frames = np.zeros((4, 16, 48), np.uint8)
    frames[:, :, 16:32] = noise(4, 16, 16)
    write_video(tmp_path / "wide.mkv", frames)
    write_video(tmp_path / "tall.mkv", frames.transpose(0, 2, 1).copy())
    averaged = frames[:, :, 16:32].reshape(4, 8, 2, 8, 2).mean((2, 4))
    [wide], _ = read_clips(tmp_path / "wide.mkv", config(tmp_path), 9)
    [tall], _ = read_clips(tmp_path / "tall.mkv", config(tmp_path), 9)
    assert np.abs(wide[:, 0] - averaged).max() <= 1
    assert np.abs(tall[:, 0] - averaged.transpose(0, 2, 1)).max() <= 1
    [larger], _ = read_clips(tmp_path / "wide.mkv", config(tmp_path, canvas=32), 9)
    assert larger.shape == (4, 1, 32, 32)


def test_files_that_cannot_be_used_are_named(tmp_path):
    write_video(tmp_path / "good.mkv", noise(40))
    write_video(tmp_path / "good2.mkv", noise(40, seed=1))
    write_video(tmp_path / "short.mkv", noise(3))
    (tmp_path / "broken.mp4").write_bytes(noise(20).tobytes())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("one line\n" * 99)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "copy.mkv").write_bytes((tmp_path / "good.mkv").read_bytes())
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    data = open_clips(config(tmp_path, frame_stride=1))
    assert data.train_count == data.validation_count == 10
    reasons = {file.path: file.reason for file in data.skipped}
    assert reasons.keys() == {"broken.mp4", "empty.mp4", "good.mkv", "notes.txt", "short.mkv", "sound.wav"}
    assert "cannot be decoded (Invalid data" in reasons["broken.mp4"]
    assert "cannot be decoded" in reasons["empty.mp4"]
    assert reasons["good.mkv"] == "shows the same as deep/copy.mkv, which is used"
    assert reasons["notes.txt"] == "is text, not a video"
    assert reasons["short.mkv"] == "is too short: 3 frames, and a clip takes 4"
    assert reasons["sound.wav"] == "has no video stream"


def test_a_video_that_breaks_off_keeps_the_clips_before(tmp_path):
    frames = noise(60)
    write_video(tmp_path / "v.mkv", frames)
    raw = bytearray((tmp_path / "v.mkv").read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 1500] = noise(24).tobytes()[:1500]
    (tmp_path / "v.mkv").write_bytes(raw)
    clips, problem = read_clips(tmp_path / "v.mkv", config(tmp_path), 100)
    assert 2 <= len(clips) < 12
    assert np.array_equal(np.concatenate(clips)[:, 0], frames[: 4 * len(clips)])
    assert problem.endswith(f"frames; its first {len(clips)} clips are used")


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match=rf"no video under data.path '{tmp_path}' could be used \(it holds no files\)"):
        open_clips(config(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(noise(20).tobytes())
    with pytest.raises(ValueError, match=r"could be used \(broken.mp4: cannot be decoded"):
        open_clips(config(tmp_path))
    with pytest.raises(ValueError, match=r"could be used \(broken.mp4: cannot be decoded"):
        open_clips(config(tmp_path / "broken.mp4"))
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        open_clips(config(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"data.path is empty"):
        video_clips(ClipsConfig(source="folder"))
    write_video(tmp_path / "v.mkv", noise(5))
    with pytest.raises(ValueError, match="gives 1 clips, too few to hold one out"):
        open_clips(config(tmp_path))
    write_video(tmp_path / "v.mkv", np.full((12, 8, 8), 7, np.uint8))
    with pytest.raises(ValueError, match=r"every pixel of the training clips of 'v.mkv' is 7"):
        open_clips(config(tmp_path / "v.mkv"))


def test_whole_files_are_held_out(tmp_path):
    for number in range(6):
        frames = noise(20, seed=number)
        frames[:, 0, 0] = number
        write_video(tmp_path / f"{number}.mkv", frames)
    held_out = set()
    for seed in range(8):
        data = open_clips(config(tmp_path, validation_fraction=0.3, data_seed=seed))
        train, validation = (
            set(side[:, :, 0, 0, 0].flatten().tolist()) for side in (data.train_NFCHW, data.validation_NFCHW)
        )
        assert not train & validation
        assert train | validation == set(range(6))
        assert len(validation) == 2
        held_out.add(frozenset(validation))
        assert data.fingerprint == open_clips(config(tmp_path, validation_fraction=0.3, data_seed=seed)).fingerprint
    assert len(held_out) > 2


@pytest.mark.parametrize("step", [0, 1, 3, 6])
def test_one_video_is_split_in_time_without_a_shared_frame(tmp_path, step):
    frames = noise(60)
    frames[:, 0, 0] = np.arange(60)
    write_video(tmp_path / "v.mkv", frames)
    data = open_clips(config(tmp_path / "v.mkv", clip_stride=step, validation_fraction=0.25))
    train, validation = (side[:, :, 0, 0, 0].flatten().tolist() for side in (data.train_NFCHW, data.validation_NFCHW))
    assert max(train) < min(validation)
    total = len(range(0, 57, step or 4))
    assert data.validation_count == max(1, round(0.25 * total))
    assert total - data.train_count - data.validation_count == (-(-4 // (step or 4)) - 1)
    assert data.name == "v.mkv"


def test_reading_stops_at_the_clips_wanted(tmp_path, monkeypatch):
    for number, length in enumerate((200, 12, 200)):
        write_video(tmp_path / f"{number}.mkv", noise(length, seed=number))
    decoded, pixels = [], frames_module.pixels
    monkeypatch.setattr(frames_module, "pixels", lambda *arguments: decoded.append(1) or pixels(*arguments))
    data = open_clips(config(tmp_path, clips=18))
    assert data.train_count + data.validation_count == 18  # 6 of the first, 3 of the second, 9 of the third
    assert len(decoded) == 18 * 4


def test_a_playlist_does_not_reach_the_network(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="listener", daemon=True)
    thread.start()
    try:
        segment = f"http://127.0.0.1:{server.server_address[1]}/x.ts"
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", segment, "#EXT-X-ENDLIST", ""]
        (tmp_path / "list.m3u8").write_text("\n".join(lines))
        clips, problem = read_clips(tmp_path / "list.m3u8", config(tmp_path), 9)
        assert (clips, asked) == ([], [])
        assert problem.startswith("cannot be decoded")
        allowed = {"protocol_whitelist": "file,http,tcp"}  # what the playlist would do if it could
        with pytest.raises(av.FFmpegError), av.open(str(tmp_path / "list.m3u8"), options=allowed):
            pass
        assert asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
