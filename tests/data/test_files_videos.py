"""What a video's file says of its frames is used: turn, pixel shape, times, damage, streams; pictures as sequences."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from qcore.config import ClipsConfig, DataError
from qcore.data import open_clips
from qcore.data.video.files import read_clips, video_clips


def write(path, frames, codec="ffv1", pixel_format="gray", *, turn=None, aspect=None, times=None, rate=10, more=None):
    """Grey frames [N, H, W]; turn: degrees to be turned when shown · aspect: of a pixel · times: ms · more: frames of a
    second stream."""
    with av.open(str(path), "w") as container:
        streams = []
        for shown in (frames, more):
            if shown is None:
                continue
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = shown.shape[1:]
            stream.pix_fmt = pixel_format
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = Fraction(aspect)
            if turn is not None:
                stream.set_display_rotation(turn)
            streams.append((stream, shown))
        for stream, shown in streams:
            for number, one in enumerate(shown):
                frame = av.VideoFrame.from_ndarray(one, format="gray")
                if times is not None:
                    frame.pts, frame.time_base = times[number], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def noise(count, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


def config(path, **settings):
    return ClipsConfig(source="folder", path=str(path), **{"frames": 4, "canvas": 8, **settings})


def read(path, **settings):
    notes = []
    clips, problem = read_clips(path, config(path, **settings), 100, notes)
    return (np.concatenate(clips)[:, 0] if clips else None), problem, notes


@pytest.mark.parametrize(("turn", "quarters"), [(90, 1), (-90, 3), (180, 2), (0, 0)])
def test_a_frame_is_turned_as_the_file_asks(tmp_path, turn, quarters):
    frames = noise(8)
    write(tmp_path / "v.mkv", frames, turn=turn)
    found, problem, _ = read(tmp_path / "v.mkv")
    assert problem == ""
    assert np.array_equal(found, np.rot90(frames, quarters, axes=(1, 2)))
    as_before, _, _ = (*read_old(tmp_path / "v.mkv"), None)
    assert np.array_equal(as_before, frames), "a run from before goes on with the frames that it has seen"


def read_old(path, **settings):
    settings = config(path, data_version=1, **settings)
    found = video_clips(settings)
    return np.concatenate([*found.train_NFCHW, *found.validation_NFCHW])[:, 0], found


def test_pixels_become_square(tmp_path):
    """A disc whose pixels are twice as wide as high is written squeezed, and read round."""
    y, x = np.mgrid[:64, :64]
    disc = np.where((x - 31.5) ** 2 + (y - 31.5) ** 2 < 20**2, 220, 30).astype(np.uint8)
    write(tmp_path / "v.mkv", np.stack([disc[:, ::2]] * 8), "mpeg4", "yuv420p", aspect=2)
    found, problem, notes = read(tmp_path / "v.mkv", canvas=64)
    assert problem == ""
    assert notes == ["has pixels 2 times as wide as high, which are made square"]
    bright = found[0] > 125
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 3
    assert abs(int(bright.any(0).sum()) - 40) <= 3
    squeezed, _ = read_old(tmp_path / "v.mkv", canvas=64)
    assert (squeezed[0] > 125).any(1).sum() > 1.5 * 40, "as it was read before"


def test_frames_at_uneven_times_are_laid_out_in_time(tmp_path):
    frames = noise(16)
    at = [0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 16, 17, 18, 19, 20, 21]  # tenths of a second: two of them are held for four
    write(tmp_path / "v.mkv", frames, times=[100 * tenth for tenth in at])
    found, problem, notes = read(tmp_path / "v.mkv")
    assert problem == ""
    assert notes == ["has frames at uneven times, which are laid out at 10 a second"]
    held = frames[[3, 3, 3, 3]]
    wanted = np.concatenate([frames[:3], held, frames[4:9], frames[[9, 9, 9, 9]], frames[10:]])
    assert np.array_equal(found, wanted[: len(wanted) // 4 * 4])


@pytest.mark.parametrize("rate", [10, 24, 30, Fraction(30000, 1001), 60])
def test_even_frames_stay_as_they_are(tmp_path, rate):
    """Matroska rounds times to milliseconds, which is no unevenness."""
    frames = noise(40)
    write(tmp_path / "v.mkv", frames, rate=rate)
    found, problem, notes = read(tmp_path / "v.mkv")
    assert (problem, notes) == ("", [])
    assert np.array_equal(found, frames)


def moving(count):
    ramp = np.add.outer(np.arange(count) * 3, np.add.outer(np.arange(64), np.arange(64)))
    return (ramp % 256).astype(np.uint8)


def marked(path):
    try:
        with av.open(str(path)) as container:
            return [frame.is_corrupt for frame in container.decode(video=0)]
    except av.FFmpegError:
        return []


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_damaged_frames_are_left_out_and_counted(tmp_path, codec):
    path = tmp_path / "v.mkv"
    write(path, moving(60), codec, "yuv420p")
    whole = path.read_bytes()
    for place in range(len(whole) // 2, len(whole) - 100, 7):  # the first damage that the decoder gets over
        raw = bytearray(whole)
        raw[place : place + 3] = bytes(255 - byte for byte in raw[place : place + 3])
        path.write_bytes(raw)
        damaged = marked(path)
        if any(damaged) and len(damaged) == 60:
            break
    assert any(damaged), "the case is one"
    found, problem, _ = read(path, canvas=16)
    assert f"has {sum(damaged)} damaged frames, which are left out" in problem
    runs = "".join("x" if bad else "." for bad in damaged).split("x")
    assert len(found) == sum(len(run) // 4 * 4 for run in runs), "no clip goes over a damaged frame"


def test_a_file_that_ends_too_early_says_so(tmp_path):
    write(tmp_path / "v.mkv", noise(60))
    raw = (tmp_path / "v.mkv").read_bytes()
    (tmp_path / "v.mkv").write_bytes(raw[: len(raw) // 2])
    found, problem, _ = read(tmp_path / "v.mkv")
    assert 20 <= len(found) <= 32
    assert problem.startswith(("breaks off after ", "cannot be decoded"))
    assert f"its first {len(found) // 4} clips are used" in problem


def test_of_two_streams_the_largest_is_read_and_a_cover_is_none(tmp_path):
    small, large = noise(8), noise(8, 16, 16, seed=1)
    write(tmp_path / "v.mkv", small, more=large)
    found, _, notes = read(tmp_path / "v.mkv", canvas=16)
    assert np.array_equal(found, large)
    assert notes == ["has 2 video streams; the largest (16 × 16) is read"]


def test_a_song_with_a_cover_is_no_video(tmp_path):
    cover = tmp_path / "cover.png"
    write(cover, noise(1), "png")
    with av.open(str(tmp_path / "song.mp3"), "w") as container, av.open(str(cover)) as picture:
        sound = container.add_stream("mp3", rate=44100)
        shown = container.add_stream_from_template(picture.streams.video[0])
        shown.disposition = av.stream.Disposition.attached_pic
        for packet in picture.demux(video=0):
            if packet.pts is not None:
                packet.stream = shown
                container.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
        frame.sample_rate = 44100
        for packet in (*sound.encode(frame), *sound.encode()):
            container.mux(packet)
    found, problem, _ = read(tmp_path / "song.mp3")
    assert found is None
    assert problem == "has only a cover picture, no video stream"


def test_numbered_pictures_are_one_sequence(tmp_path):
    frames = noise(23)
    for number, frame in enumerate(frames):
        write(tmp_path / f"shot-{number + 1}.png", frame[None], "png")
    (tmp_path / "shot-9.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / ".thumbnail.png").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    data = open_clips(config(tmp_path, validation_fraction=0.25))
    clips = np.concatenate([data.train_NFCHW.numpy(), data.validation_NFCHW.numpy()])[:, :, 0]
    wanted = [frames[at : at + 4] for at in (0, 4, 9, 13, 17)]  # in the order of the numbers; the ninth is broken
    assert np.array_equal(clips, np.stack(wanted))
    assert {file.path: file.reason for file in data.skipped} == {
        "pipe": "is a pipe, not a file",
        "shot-1.png … shot-23.png": "has 1 damaged frames, which are left out",
    }
    assert "23 pictures, shot-1.png … shot-23.png, are read as one sequence" in data.notes
    assert "1 hidden names were skipped" in data.notes


def test_pictures_beside_videos_are_no_sequence(tmp_path):
    write(tmp_path / "a.mkv", noise(16))
    write(tmp_path / "b.mkv", noise(16, seed=1))
    for number in range(6):
        write(tmp_path / f"poster{number}.png", noise(1, seed=number), "png")
    data = open_clips(config(tmp_path))
    assert data.train_count + data.validation_count == 8
    assert {file.path for file in data.skipped} == {f"poster{number}.png" for number in range(6)}


def test_no_clip_goes_over_missing_pictures_or_another_size(tmp_path):
    frames = noise(24)
    numbers = [*range(6), *range(100, 106), *range(106, 118)]
    for number, frame in zip(numbers, frames, strict=True):
        large = number >= 106
        shown = np.kron(frame, np.ones((2, 2), np.uint8)) if large else frame
        write(tmp_path / f"f{number:04}.png", shown[None], "png")
    notes = []
    clips, problem = read_clips(sorted(tmp_path.iterdir()), config(tmp_path), 100, notes)
    assert problem == ""
    found = np.stack(clips)[:, :, 0]
    wanted = np.stack([frames[at : at + 4] for at in (0, 6, 12, 16, 20)])
    assert np.array_equal(found, wanted)
    assert notes == [
        "misses pictures at 1 places of its numbering; no clip spans a gap",
        "changes the size of its frames midway; no clip spans the change",
    ]
    data = open_clips(config(tmp_path, validation_fraction=0.25))
    assert any("misses pictures" in note for note in data.notes)
    (tmp_path / "tens").mkdir()
    for number, frame in enumerate(frames[:12]):
        write(tmp_path / "tens" / f"f{10 * number}.png", frame[None], "png")
    group = sorted((tmp_path / "tens").iterdir(), key=lambda path: int(path.stem[1:]))
    notes = []
    assert len(read_clips(group, config(tmp_path), 100, notes)[0]) == 3
    assert notes == [], "every tenth frame, and none is missing"


@pytest.mark.parametrize(
    ("aspect", "believed"), [("1:2147483647", False), ("2147483647:1", False), ("17:1", False), ("16:1", True)]
)
def test_a_pixel_shape_that_cannot_be_is_not_believed(tmp_path, aspect, believed):
    frames = noise(8, 16, 16)
    head = f"YUV4MPEG2 W16 H16 F10:1 Ip A{aspect} Cmono\n".encode()
    (tmp_path / "v.y4m").write_bytes(head + b"".join(b"FRAME\n" + frame.tobytes() for frame in frames))
    found, problem, notes = read(tmp_path / "v.y4m", canvas=16)
    assert (problem, len(found)) == ("", 8)
    assert np.array_equal(found, frames) is not believed
    assert ("ignored as implausible" in notes[0]) is not believed


def test_frames_too_narrow_for_a_square_are_refused_for_their_file_alone(tmp_path):
    wide = noise(8, 2, 40_000)
    head = b"YUV4MPEG2 W40000 H2 F10:1 Ip Cmono\n"
    (tmp_path / "wide.y4m").write_bytes(head + b"".join(b"FRAME\n" + frame.tobytes() for frame in wide))
    write(tmp_path / "good.mkv", noise(16))
    data = open_clips(config(tmp_path, canvas=64))
    assert [(file.path, file.reason) for file in data.skipped] == [
        ("wide.y4m", "has frames of 40000 × 2 pixels, too narrow for a square picture")
    ]


def test_a_large_cover_does_not_hide_that_frames_come_unevenly(tmp_path):
    at = [0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 16, 17, 18, 19, 20, 21]
    write(tmp_path / "v.mp4", noise(16, 16, 16), "mpeg4", "yuv420p", times=[100 * tenth for tenth in at])
    write(tmp_path / "cover.png", noise(1, 64, 64), "png")
    path = tmp_path / "covered.mp4"
    with (
        av.open(str(path), "w") as out,
        av.open(str(tmp_path / "v.mp4")) as video,
        av.open(str(tmp_path / "cover.png")) as cover,
    ):
        streams = [out.add_stream_from_template(one.streams.video[0]) for one in (cover, video)]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for container, stream in zip((cover, video), streams, strict=True):
            for packet in container.demux(video=0):
                if packet.pts is not None:
                    packet.stream = stream
                    out.mux(packet)
    with av.open(str(path)) as made:
        covers = [bool(one.disposition & av.stream.Disposition.attached_pic) for one in made.streams.video]
    assert sorted(covers) == [False, True]
    assert (
        read(path)[2]
        == read(tmp_path / "v.mp4")[2]
        == ["has frames at uneven times, which are laid out at 10 a second"]
    )


def test_animations(tmp_path):
    frames = (noise(12) // 128 * 255).astype(np.uint8)
    write(tmp_path / "a.gif", frames, "gif", "gray")
    found, problem, _ = read(tmp_path / "a.gif")
    assert (problem, len(found)) == ("", 12)
    assert np.abs(found.astype(int) - frames).max() < 8
    webp = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x07\0\0\x07\0\0ANIM\6\0\0\0\0\0\0\0\0\0"
    (tmp_path / "a.webp").write_bytes(webp)
    assert read(tmp_path / "a.webp")[1].startswith("is an animated WebP, which the decoder cannot read: convert it")


def test_places_that_never_end_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with open(tmp_path / "sparse.mp4", "wb") as file:
        file.truncate(1 << 42)
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for name, reason in (
        ("pipe.mp4", "is a pipe, not a file"),
        ("self.mp4", "cannot be found"),
        ("zero.mp4", "is a device, not a file"),
    ):
        with pytest.raises(DataError, match=rf"{name}' {reason}"):
            open_clips(config(tmp_path / name))
    with pytest.raises(DataError, match=r"sparse\.mp4: begins with zeros, and is no video"):
        open_clips(config(tmp_path / "sparse.mp4"))
    write(tmp_path / "good.mkv", noise(16))
    assert {file.path for file in open_clips(config(tmp_path)).skipped} == {
        "pipe.mp4",
        "self.mp4",
        "sparse.mp4",
        "zero.mp4",
    }


def test_a_picture_that_claims_to_be_huge_is_not_unpacked(tmp_path):
    write(tmp_path / "v.png", noise(1), "png")
    raw = bytearray((tmp_path / "v.png").read_bytes())
    raw[16:24] = (20000).to_bytes(4, "big") * 2
    (tmp_path / "v.png").write_bytes(raw)
    with pytest.raises(DataError, match=r"v\.png: .*(20000 × 20000 pixels, more than 64 million|cannot be decoded)"):
        open_clips(config(tmp_path / "v.png"))
