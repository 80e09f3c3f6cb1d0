import json

import numpy as np
import pytest

from qcore.viz.flux import disc, measures_along_text, past_figure

LABELS = ["<s>", "once", "a", "cat"]


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def test_the_disc_holds_every_token_its_path_and_the_chosen_one():
    angle = np.array([[0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4], [2.1, 2.2, 2.3, 2.4]])
    radius = np.linspace(0.2, 0.9, 12).reshape(3, 4)
    figure = checked(disc(angle, radius, LABELS, layer=2, token=1, uirevision="run"))
    points = next(trace for trace in figure.data if trace.mode == "markers" and trace.text is not None)
    np.testing.assert_allclose(points.theta, np.degrees(angle[2]), rtol=1e-6)
    np.testing.assert_allclose(points.r, radius[2], rtol=1e-6)
    assert points.text[0] == "&lt;s&gt;"
    paths = figure.data[0]
    assert len(paths.r) == 4 * 4
    np.testing.assert_allclose(paths.r[4:7], radius[:, 1], rtol=1e-6)
    assert np.isnan(paths.r[3])
    np.testing.assert_allclose(figure.data[-1].r, radius[2, 1:2])


def test_the_encoding_has_no_paths_and_a_missing_layer_is_refused():
    angle, radius = np.zeros((2, 4)), np.ones((2, 4))
    with_paths = disc(angle, radius, LABELS, layer=1, uirevision="run")
    assert len(disc(angle, radius, LABELS, layer=0, uirevision="run").data) == len(with_paths.data) - 1
    with pytest.raises(ValueError, match="choose one from 0 to 1"):
        disc(angle, radius, LABELS, layer=2, uirevision="run")


def test_the_past_is_parted_by_the_threshold():
    figure = checked(past_figure([0.2, 0.8, 0.5, 1.0], [0.0, 0.3, 0.1, 0.6], 0.5, LABELS, uirevision="run"))
    above, below, threshold, weights = figure.data
    assert above.x.tolist() == [1, 2, 3]
    assert below.x.tolist() == [0]
    assert set(threshold.y) == {0.5}
    assert "0.50" in threshold.name
    np.testing.assert_array_equal(weights.y, [0.0, 0.3, 0.1, 0.6])
    assert weights.text[0] == "&lt;s&gt;"


def test_one_token_has_a_past_and_none_has_none():
    assert len(checked(past_figure([1.0], [1.0], 1.0, LABELS, uirevision="run")).data) == 4
    assert not checked(past_figure([], [], 0.5, LABELS, uirevision="run")).data


def test_measures_along_the_text_stand_over_its_words():
    figure = checked(
        measures_along_text([("threshold", [0.1, 0.2, 0.3, 0.4])], LABELS, uirevision="run", y_title="0 to 1")
    )
    assert figure.layout.xaxis.ticktext == ("&lt;s&gt;", "once", "a", "cat")
    line = next(trace for trace in figure.data if trace.name == "threshold")
    np.testing.assert_allclose(line.y, [0.1, 0.2, 0.3, 0.4])
    many = checked(measures_along_text([("t", np.zeros(60))], ["word"] * 60, uirevision="run"))
    assert len(many.layout.xaxis.ticktext) <= 24
