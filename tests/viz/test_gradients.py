import json

import numpy as np
import pytest

from qcore.viz import cosine_matrix, eigenvalues, module_tree, term_bars, term_style, update_bars
from qcore.viz.gradients import GUIDE, MOST_MODULES


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def test_terms_are_ordered_by_pull_and_one_without_gradient_says_so():
    norm, pull = np.array([2.0, 0.0, 5.0]), np.array([1.0, 0.0, 0.25])
    figure = checked(term_bars(["ce", "diversity", "z_loss"], norm, pull, [0, 1, 6], uirevision="run"))
    bars = figure.data[0]
    np.testing.assert_array_equal(bars.x, [1, 0.25, 0])
    np.testing.assert_array_equal(bars.customdata, [2, 5, 0])
    assert list(bars.text) == ["1", "0.25", "no gradient"]
    assert list(figure.layout.yaxis.ticktext) == ["ce", "z loss", "diversity"]
    assert list(bars.marker.color) == [term_style(index)["color"] for index in (0, 6, 1)]
    assert list(bars.marker.pattern.shape) == ["", "/", ""]
    assert figure.layout.xaxis.range[1] > 1


def test_without_a_cross_entropy_to_compare_with_the_bars_are_norms():
    figure = checked(term_bars(["a", "b"], [0.5, 3.0], [np.nan, np.nan], [0, 1], uirevision="run"))
    np.testing.assert_array_equal(figure.data[0].x, [3, 0.5])
    assert "unweighted" in figure.layout.xaxis.title.text


@pytest.mark.parametrize("pull", [[np.inf, 1.0], [np.nan, 1.0], [0.0, 0.0]])
def test_values_that_no_bar_can_show_are_no_bar(pull):
    figure = checked(term_bars(["a", "b"], [1.0, 1.0], pull, [0, 1], uirevision="run"))
    assert np.isfinite(figure.data[0].x).all()
    assert figure.layout.xaxis.range[1] > 0


def test_no_term_says_so():
    assert not checked(term_bars([], [], [], [], uirevision="run")).data
    assert not checked(cosine_matrix([], [], uirevision="run")).data


@pytest.mark.parametrize("count", [1, 4, 16])
def test_the_cosine_matrix_has_numbers_while_they_can_be_read(count: int):
    cosine = np.eye(count, dtype=np.float32)
    figure = checked(cosine_matrix([f"t_{index}" for index in range(count)], cosine, uirevision="run"))
    np.testing.assert_array_equal(figure.data[0].z, cosine)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert len(figure.data) == (3 if count <= 10 else 2)
    assert figure.layout.xaxis.ticktext[0] == "t 0"


NAMES = ["embedding", "layers.0", "layers.0.up", "layers.1.up", "(model)"]
SIZES = [50, 4, 26, 19, 1]


def tree(dead):
    figure = checked(module_tree(NAMES, SIZES, dead, uirevision="run"))
    trace = figure.data[0]
    return {
        part: (parent, value, color, text)
        for part, parent, value, color, text in zip(
            trace.ids, trace.parents, trace.values, trace.marker.colors, trace.text, strict=True
        )
    }


def test_the_tree_adds_up_and_own_weights_are_a_part():
    parts = tree(np.zeros(5))
    assert parts["model"][1] == 100
    assert parts["model.layers.0"][1] == 30
    assert parts["model.layers.0.own"][1] == 4
    for part, (parent, value, *_) in parts.items():
        children = [other[1] for other in parts.values() if other[0] == part]
        assert not children or sum(children) == value
        assert parent in parts or part == "model"


def test_dead_weights_colour_their_part_and_every_part_around_it():
    alive = tree(np.zeros(5))["model"][2]
    parts = tree([0, 0, 1.0, 0, 0])
    assert parts["model.layers.0.up"][2:] == ("#D55E00", "100 % dead")
    assert parts["model.layers.0"][3] == "87 % dead"
    assert parts["model"][3] == "26 % dead"
    assert alive not in {parts[part][2] for part in ("model", "model.layers", "model.layers.0")}
    assert parts["model.layers.1"][2:] == (alive, "")


def test_an_unknown_share_counts_for_nothing_and_has_no_colour():
    parts = tree([np.nan, 0, 1.0, 0, 0])
    assert parts["model.embedding"][2:] == ("rgba(0,0,0,0)", "")
    assert parts["model"][3] == "52 % dead"


@pytest.mark.parametrize("sizes", [[], [0, 0]])
def test_a_model_without_weights_says_so(sizes):
    assert not checked(module_tree(["a", "b"][: len(sizes)], sizes, np.zeros(len(sizes)), uirevision="run")).data


def test_update_bars_reach_from_the_guide_line_to_the_ratio():
    ratio = np.array([1e-3, 2e-2, 3e-4, 0.0, np.nan])
    figure = checked(update_bars(list("abcde"), ratio, uirevision="run"))
    bars = figure.data[0]
    base = np.array(list(bars.base))
    np.testing.assert_allclose((base + bars.x)[:3], ratio[:3])
    np.testing.assert_array_equal(bars.customdata, ratio[:4])
    assert set(base.tolist()) == {GUIDE}
    colors = list(bars.marker.color)
    assert colors[0] == colors[1] == colors[2]  # how far is too far no rule says
    assert colors[3] == "#D55E00"  # does not move at all
    low, high = 10.0 ** np.array(figure.layout.xaxis.range)
    assert low <= 1e-5
    assert high >= 2e-2


def test_of_many_modules_the_farthest_from_the_line_stay_in_the_models_order():
    ratio = np.full(200, GUIDE)
    ratio[[3, 150]] = 0.0, 1.0
    names = [f"layers.{index}.a_module_with_a_very_long_name_indeed" for index in range(200)]
    bars = checked(update_bars(names, ratio, uirevision="run")).data[0]
    assert len(bars.x) == MOST_MODULES
    assert list(bars.text) == sorted(bars.text, key=names.index)
    assert {names[3], names[150]} <= set(bars.text)


@pytest.mark.parametrize("ratio", [[], [np.nan]])
def test_no_update_says_so_and_none_that_moves_is_drawn(ratio):
    assert not checked(update_bars(["a"][: len(ratio)], ratio, uirevision="run")).data
    assert checked(update_bars(["a"], [0.0], uirevision="run")).data


def test_eigenvalues_are_counted_from_one():
    figure = checked(eigenvalues(np.array([0.7, 0.3], dtype=np.float32), uirevision="run"))
    assert list(figure.data[1].x) == [1, 2]
    np.testing.assert_allclose(figure.data[1].y, [0.7, 0.3], rtol=1e-6)
    assert not checked(eigenvalues([], uirevision="run")).data
