import json

import numpy as np
import pytest

from qcore.viz import coherence_map, layer_name, layer_style, portrait, rose, spectrum, spread_layers


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def test_the_portrait_holds_every_point_and_the_mean_direction():
    phase = np.array([0.5, 0.5 + np.pi / 2], dtype=np.float32)
    figure = checked(portrait(phase, [1.0, 2.0], [3, 9], uirevision="run"))
    points, circle, arrow = figure.data[:3]
    np.testing.assert_allclose(points.theta, np.degrees(phase), rtol=1e-6)
    np.testing.assert_array_equal(points.r, [1, 2])
    np.testing.assert_array_equal(points.marker.color, [3, 9])
    assert set(circle.r.tolist()) == {1.0}
    assert arrow.r[1] == pytest.approx(np.sqrt(0.5))
    assert arrow.theta[1] == pytest.approx(np.degrees(0.5 + np.pi / 4))
    assert "R = 0.71" in arrow.name
    assert figure.layout.polar.radialaxis.range[1] >= 2


def test_aligned_phases_have_an_arrow_of_one_and_opposite_ones_none():
    def length(phase) -> float:
        return checked(portrait(phase, np.ones(len(phase)), np.arange(len(phase)), uirevision="run")).data[2].r[1]

    assert length([1.0, 1.0, 1.0 + 2 * np.pi]) == pytest.approx(1)
    assert length([0.0, np.pi]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("phase", [[], [np.nan, np.nan]])
def test_a_model_without_a_wave_says_so(phase):
    figure = checked(portrait(phase, phase, np.arange(len(phase)), uirevision="run"))
    assert not figure.data
    assert "no wave" in figure.layout.annotations[0].text


def test_unknown_points_are_left_out_and_one_point_is_enough():
    figure = checked(portrait([np.nan, 2.0], [1.0, 0.5], [0, 4], uirevision="run"))
    assert figure.data[0].r.tolist() == [0.5]
    assert figure.data[0].marker.cmax > figure.data[0].marker.cmin


def test_the_rose_covers_the_circle_once_from_minus_pi():
    share = np.arange(36, dtype=np.float32)
    share /= share.sum()
    figure = checked(rose(share, uirevision="run"))
    bars, even = figure.data
    np.testing.assert_array_equal(bars.r, share)
    assert bars.theta[0] == -175
    assert bars.theta[-1] == 175
    assert bars.width.sum() == 360
    np.testing.assert_allclose(even.r, 1 / 36)


@pytest.mark.parametrize("share", [[], np.zeros(36), np.full(36, np.nan)])
def test_a_rose_without_angles_says_so(share):
    assert not checked(rose(share, uirevision="run")).data


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (4, 4), (49, 64)])
def test_the_coherence_map_has_heads_and_windows_side_by_side(layers: int, heads: int):
    rng = np.random.default_rng(0)
    by_head, by_window = rng.random((layers, heads)), rng.random((layers, 5))
    cells = checked(coherence_map(by_head, by_window, uirevision="run")).data[0]
    np.testing.assert_allclose(cells.z[:, :heads], by_head, rtol=1e-6)
    np.testing.assert_allclose(cells.z[:, heads + 1 :], by_window, rtol=1e-6)
    assert np.isnan(cells.z[:, heads]).all()
    assert cells.text[0][0] == "encoding, head 1"
    assert cells.text[-1][-1] == f"{layer_name(layers - 1)}, window of 16 tokens"


def test_unknown_windows_stay_empty():
    figure = checked(coherence_map(np.ones((2, 2)), np.full((2, 5), np.nan), uirevision="run"))
    assert len(figure.data[1].text) == 4


def test_the_spectrum_reaches_from_zero_to_half_a_cycle():
    power = np.random.default_rng(0).random((3, 33))
    figure = checked(spectrum(power, uirevision="run"))
    lines = [trace for trace in figure.data[1:] if len(trace.x)]
    assert [line.name for line in lines] == ["encoding", "layer 1", "layer 2"]
    assert (lines[0].x[0], lines[0].x[-1]) == (0, 0.5)
    np.testing.assert_array_equal(lines[2].y, power[2])
    assert "cycles per token" in figure.layout.xaxis.title.text
    assert not checked(spectrum(np.zeros((0, 33)), uirevision="run")).data


def test_many_layers_are_thinned_with_the_first_and_the_last_kept():
    assert spread_layers(4) == [0, 1, 2, 3]
    shown = spread_layers(49)
    assert (len(shown), shown[0], shown[-1]) == (8, 0, 48)
    assert shown == sorted(set(shown))
    figure = checked(spectrum(np.ones((49, 33)), uirevision="run"))
    assert len([trace for trace in figure.data[1:] if len(trace.x)]) == 8


def test_a_layer_keeps_its_line_however_many_there_are():
    assert layer_style(1) != layer_style(2)
    assert layer_style(0)["dash"] == "dot"
    assert layer_style(7) != layer_style(1)
