import base64
import json

import numpy as np
import pytest

from qcore.viz import ClipRow, average_blocks, clip_bytes, spread_frames, stored_clips
from qcore.viz.clips import MOST_BYTES, MOST_FRAMES, MOST_SIDE, STRIP_FRAMES


def clips(count=3, frames=5, height=4, width=6, channels=1):
    shape = (count, frames, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def received(data: bytes):
    """Header and the clips of each row, read as the browser does."""
    size = int.from_bytes(data[:4], "little")
    header, pixels = json.loads(data[4 : 4 + size]), data[4 + size :]
    found = []
    for row in header["rows"]:
        shape = (row["count"], *row["shape"])
        part = np.frombuffer(pixels, np.uint8, count=int(np.prod(shape)), offset=row["offset"])
        found.append(part.reshape(shape))
    assert sum(part.size for part in found) == len(pixels)
    return header, found


def test_small_clips_arrive_bit_for_bit_row_by_row():
    rows = [ClipRow("data", clips()), ClipRow("generated", clips(2, 8, 3, 3, 3), ["a", "<b>"], "from noise")]
    header, found = received(clip_bytes(rows, layout="film", alt="two rows"))
    for row, part in zip(rows, found, strict=True):
        np.testing.assert_array_equal(part, row.clips_NFHWC)
    assert header["layout"] == "film"
    assert header["alt"] == "two rows"
    assert [row["label"] for row in header["rows"]] == ["data", "generated"]
    assert header["rows"][1]["captions"] == ["a", "<b>"]
    assert header["rows"][0]["places"] == [0, 1, 2, 3, 4]


def test_a_strip_has_the_first_clip_of_each_row():
    header, [part] = received(clip_bytes([ClipRow("data", clips())], layout="strip", alt=""))
    np.testing.assert_array_equal(part, clips()[:1])
    assert header["rows"][0]["count"] == 1


@pytest.mark.parametrize(("layout", "most"), [("film", MOST_FRAMES), ("strip", STRIP_FRAMES)])
def test_long_clips_are_thinned_and_keep_their_ends(layout, most):
    long = clips(1, 121)
    header, [part] = received(clip_bytes([ClipRow("data", long)], layout=layout, alt=""))
    places = header["rows"][0]["places"]
    assert len(places) == most
    assert (places[0], places[-1]) == (0, 120)
    assert header["rows"][0]["frames"] == 121
    np.testing.assert_array_equal(part[0], long[0, places])


def test_large_frames_are_averaged_so_that_all_rows_together_stay_small():
    rows = [ClipRow("data", np.zeros((4, 24, 512, 512, 3), np.uint8)) for _ in range(2)]
    data = clip_bytes(rows, layout="film", alt="")
    assert len(data) <= MOST_BYTES + 10_000
    header, _ = received(data)
    assert max(header["rows"][0]["shape"][1:3]) <= MOST_SIDE


def test_a_frame_is_averaged_over_whole_squares():
    frame = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4, 1)
    expected = np.rint(frame.reshape(1, 1, 2, 2, 2, 2, 1).astype(float).mean((3, 5)))
    np.testing.assert_array_equal(average_blocks(frame, 2), expected)
    assert average_blocks(frame, 1) is frame


@pytest.mark.parametrize("shape", [(5, 7), (1, 9), (9, 1)])
def test_what_does_not_divide_is_cut_and_nothing_vanishes(shape):
    found = average_blocks(np.full((1, 1, *shape, 1), 9, np.uint8), 3)
    assert found.size > 0
    assert (found == 9).all()


def test_other_channels_than_grey_or_rgb_are_shown_as_their_mean():
    many = clips(1, 2, 2, 2, 4)
    _, [part] = received(clip_bytes([ClipRow("latents", many)], layout="film", alt=""))
    assert part.shape == (1, 2, 2, 2, 1)
    np.testing.assert_array_equal(part[..., 0], np.rint(many.mean(4, dtype=np.float32)))


@pytest.mark.parametrize("wrong", [clips()[0], clips().astype(np.float32), clips().astype(np.int64)])
def test_what_is_no_clip_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="'data' must be uint8"):
        clip_bytes([ClipRow("data", wrong)], layout="film", alt="")


def test_no_clip_and_no_row_are_fine():
    header, found = received(clip_bytes([ClipRow("data", clips(0))], layout="film", alt=""))
    assert header["rows"][0]["count"] == 0
    assert found[0].size == 0
    assert received(clip_bytes([], layout="film", alt=""))[1] == []


def test_spread_frames_are_even_and_hold_both_ends():
    assert spread_frames(3, 8) == [0, 1, 2]
    assert spread_frames(9, 3) == [0, 4, 8]


def token(clip):
    return {"shape": list(clip.shape), "pixels": base64.b64encode(clip.tobytes()).decode()}


def test_stored_clips_come_back_bit_for_bit():
    made = clips()
    np.testing.assert_array_equal(stored_clips([token(clip) for clip in made]), made)
    assert len(stored_clips([])) == 0


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([{"shape": [1, 2, 2, 1], "pixels": "####"}], "damaged"),
        ([{"shape": [1, 2, 2, 1], "pixels": ""}], "does not fit"),
        ([{"shape": [2, 2], "pixels": base64.b64encode(bytes(4)).decode()}], "does not fit"),
        ([token(clips(1, 2)[0]), token(clips(1, 3)[0])], "differ in shape"),
    ],
)
def test_damaged_clips_are_refused_with_the_reason(tokens, reason):
    with pytest.raises(ValueError, match=reason):
        stored_clips(tokens)
