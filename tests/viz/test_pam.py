import json

import numpy as np
import pytest

from qcore.viz.pam import channel_balance, decay_course, decay_spectrum, state_spectrum


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def drawn(figure):
    """The lines that have points."""
    return [trace for trace in checked(figure).data[1:] if len(trace.x)]


def test_a_head_of_one_pace_fills_the_column_of_its_memory():
    decay = np.empty((2, 3, 10))
    memories = np.array([[1.2, 4.5, 1000.0], [1.0, 2.1, 1e9]])
    decay[:] = (1 - 1 / memories)[..., None]
    share = checked(decay_spectrum(decay, uirevision="run")).data[0].z
    assert share.shape == (6, 25)
    np.testing.assert_allclose(share.sum(1), 1)
    assert share.argmax(1).tolist() == [0, 4, 19, 0, 2, 24]


def test_decays_at_both_limits_have_a_column():
    figure = checked(decay_spectrum(np.array([[[0.0, 1.0]]]), uirevision="run"))
    assert figure.data[0].z[0, [0, -1]].tolist() == [0.5, 0.5]
    assert "over 4,096 tokens" in figure.data[0].text[0][-1]


def test_many_heads_are_thinned_and_keep_the_first_and_the_last():
    figure = checked(decay_spectrum(np.full((12, 12, 4), 0.5), uirevision="run"))
    assert len(figure.data[0].z) == 48
    assert figure.data[0].text[0][0].startswith("layer 1, head 1<")
    assert figure.data[0].text[-1][0].startswith("layer 12, head 12<")


def test_the_course_is_one_line_a_head_along_the_text():
    decay = np.linspace(0, 1, 30).reshape(3, 10)
    figure = decay_course(decay, uirevision="run")
    lines = drawn(figure)
    assert [line.name for line in lines] == ["head 1", "head 2", "head 3"]
    np.testing.assert_allclose(lines[1].y, decay[1])
    assert "position" in figure.layout["xaxis"]["title"]["text"]


def test_singular_values_are_relative_and_a_silent_state_is_zero():
    singular = np.array([[[4.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[3.0, 3.0, 3.0], [1.0, 1.0, 1.0]]])
    lines = drawn(state_spectrum(singular, uirevision="run"))
    assert [line.name for line in lines] == ["layer 1", "layer 2"]
    np.testing.assert_allclose(lines[0].y, [0.5, 0.25, np.nan])
    np.testing.assert_allclose(lines[1].y, 1)


def test_the_balance_is_a_share_of_the_energy():
    figure = checked(channel_balance([[3.0, 1.0], [0.5, 0.5], [0.0, 0.0]], uirevision="run"))
    real, imaginary = figure.data
    np.testing.assert_allclose(real.y, [0.75, 0.5, np.nan])
    np.testing.assert_allclose(imaginary.y, [0.25, 0.5, np.nan])
    assert figure.layout.shapes[0].y0 == 0.5


@pytest.mark.parametrize(
    ("draw", "nothing"),
    [
        (decay_spectrum, np.zeros((0, 4, 0))),
        (decay_course, np.zeros((0, 0))),
        (state_spectrum, np.zeros((0, 0, 0))),
        (channel_balance, np.zeros((2, 2))),
    ],
)
def test_what_was_not_measured_says_so(draw, nothing):
    figure = checked(draw(nothing, uirevision="run"))
    assert not figure.data
    assert "No " in figure.layout.annotations[0].text
