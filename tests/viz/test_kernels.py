import json

import numpy as np
import pytest

from qcore.viz import all_heads, causality_map, kernel, kernel_difference

WORDS = ["<bos>", "once", "a-word-that-never-ends", "."]


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def signed(count: int) -> np.ndarray:
    return np.tril(np.random.default_rng(count).uniform(-1, 1, (count, count)))


def test_a_kernel_has_the_text_on_both_axes_and_a_scale_even_on_both_sides():
    weight = signed(4)
    figure = checked(kernel(weight, WORDS, signed=True, uirevision="run"))
    cells = figure.data[0]
    np.testing.assert_allclose(cells.z, weight, rtol=1e-6)
    assert cells.zmin == -cells.zmax
    assert list(figure.layout.xaxis.ticktext) == list(figure.layout.yaxis.ticktext)
    assert figure.layout.xaxis.ticktext[0] == "&lt;bos&gt;"
    assert figure.layout.xaxis.ticktext[2] == "a-word-that…"
    assert "destructive" in figure.layout.xaxis9.title.text


def test_attention_takes_one_colour_from_zero():
    figure = checked(kernel(np.abs(signed(4)), WORDS, signed=False, uirevision="run", limit=0.5))
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 0.5)
    assert "destructive" not in figure.layout.xaxis9.title.text


def test_each_row_to_its_largest_keeps_signs_and_silent_rows():
    weight = np.array([[0.0, 0.0], [-0.2, 0.1]])
    cells = checked(kernel(weight, WORDS, signed=True, uirevision="run", each_row=True)).data[0]
    np.testing.assert_allclose(cells.z, [[0, 0], [-1, 0.5]])
    assert (cells.zmin, cells.zmax) == (-1, 1)


@pytest.mark.parametrize("weight", [np.zeros((1, 1)), np.full((3, 3), np.nan), np.zeros((48, 48))])
def test_one_token_silence_and_unknown_weights_are_drawn(weight: np.ndarray):
    assert checked(kernel(weight, WORDS * 12, signed=True, uirevision="run")).data[0].zmax > 0
    assert checked(kernel(weight, WORDS * 12, signed=True, uirevision="run", each_row=True)).data[0].zmax == 1


def test_no_token_says_so():
    assert not checked(kernel(np.zeros((0, 0)), [], signed=True, uirevision="run")).data


def test_the_difference_is_now_minus_before():
    now, before = signed(4), signed(4).T
    cells = checked(kernel_difference(now, before, WORDS, uirevision="run")).data[0]
    np.testing.assert_allclose(cells.z, now - before, rtol=1e-6, atol=1e-7)
    assert cells.zmin == -cells.zmax


@pytest.mark.parametrize(("L", "H", "N"), [(1, 1, 1), (3, 4, 48), (2, 2, 7), (24, 12, 48)])
def test_all_heads_fit_into_one_small_picture(L: int, H: int, N: int):
    weight = np.random.default_rng(0).uniform(-1, 1, (L, H, N, N)).astype(np.float32)
    figure = checked(all_heads(weight, signed=True, uirevision="run"))
    z = figure.data[0].z
    side = (z.shape[0] + 1) // L - 1
    assert z.shape == (L * (side + 1) - 1, H * (side + 1) - 1)
    assert z.size < 60_000
    assert len(figure.layout.shapes) == L * H
    assert np.isnan(z).sum() == z.size - L * H * side * side


def test_a_small_picture_shows_every_cell_and_a_large_one_means_of_blocks():
    weight = np.random.default_rng(0).uniform(-1, 1, (1, 2, 6, 6)).astype(np.float32)
    z = checked(all_heads(weight, signed=True, uirevision="run")).data[0].z
    np.testing.assert_array_equal(z[:, 7:], weight[0, 1])
    large = np.random.default_rng(0).uniform(-1, 1, (1, 1, 48, 48)).astype(np.float32)
    z = checked(all_heads(large, signed=True, uirevision="run")).data[0].z
    assert z.shape == (24, 24)
    np.testing.assert_allclose(z, large.reshape(24, 2, 24, 2).mean((1, 3)), rtol=1e-5)


def test_the_map_shows_logarithms_behind_the_cut_and_names_what_moved_before_it():
    cuts, change = [2, 0], np.array([[0, 0.5, 0, 10.0], [0, 1.0, 100.0, 0]])
    figure = checked(causality_map(cuts, change, uirevision="run", early="sees the future"))
    allowed, leaks = figure.data[0], figure.data[2]
    assert list(figure.layout.yaxis.ticktext) == ["0", "2"]
    np.testing.assert_allclose(allowed.z, [[np.nan, 0, 2, np.nan], [np.nan, np.nan, np.nan, 1]])
    np.testing.assert_array_equal(leaks.z, [[np.nan] * 4, [np.nan, 1, np.nan, np.nan]])
    assert figure.layout.annotations[0].text == "sees the future"
    assert (figure.layout.annotations[0].x, figure.layout.annotations[0].y) == (1, 1)


def test_a_causal_map_names_nothing():
    figure = checked(causality_map([1], [[0, 0, 1e-3, 1.0]], uirevision="run"))
    assert not figure.layout.annotations
    assert np.isnan(figure.data[2].z).all()
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-3, 0)


@pytest.mark.parametrize("change", [np.zeros((0, 0)), np.zeros((1, 4)), np.full((1, 4), np.nan)])
def test_no_probe_no_change_and_unknown_changes_are_drawn(change: np.ndarray):
    checked(causality_map(np.zeros(len(change), int), change, uirevision="run"))
