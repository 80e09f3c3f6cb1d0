from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from qcore import viz
from qcore.viz import Line, Mark, Reference, ema

X = np.array([1, 2, 3, 5, 8], dtype=np.int64)
Y = np.array([4.0, 3.0, np.nan, 2.0, 1.0])


def curves(lines: list[Line], **options: Any) -> go.Figure:
    """The figure as Plotly's own object: built, it is also checked."""
    return viz.curves(lines, **options).to_plotly()


def test_traces_hold_exactly_the_points_given_and_inputs_stay_as_they_were():
    x, y = X.copy(), Y.copy()
    figure = curves([Line("a", x, y), Line("b", x, 2 * y)], uirevision="run", log_y=True)
    np.testing.assert_array_equal(figure.data[1].x, X)
    np.testing.assert_array_equal(figure.data[1].y, Y)
    np.testing.assert_array_equal(figure.data[3].y, 2 * Y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_smoothing_keeps_the_raw_points_behind_the_average():
    figure = curves([Line("a", X, Y)], uirevision="run", span=3.0)
    raw, averaged = figure.data[1], figure.data[2]
    np.testing.assert_array_equal(raw.y, Y)
    np.testing.assert_array_equal(averaged.y, ema(X, Y, 3.0))
    assert raw.opacity < 1
    assert (raw.showlegend, averaged.showlegend) == (False, True)


@pytest.mark.parametrize("span", [0.0, 20.0])
def test_trace_order_is_the_same_with_more_points_and_more_marks(span: float):
    def names(points: int, marks: int) -> list:
        lines = [Line(name, X[:points], Y[:points]) for name in ("a", "b")]
        figure = curves(lines, uirevision="run", span=span, marks=[Mark(step, "m") for step in range(marks)])
        return [(trace.name, trace.legendgroup) for trace in figure.data]

    assert names(1, 0) == names(5, 7)
    assert len(names(5, 0)) == 5


def test_a_zoom_outlives_new_points_but_not_another_scale():
    def revisions(points: int, log_y: bool) -> tuple:
        layout = curves([Line("a", X[:points], Y[:points])], uirevision="run", log_y=log_y).layout
        return layout.uirevision, layout.xaxis.uirevision, layout.yaxis.uirevision

    assert revisions(2, False) == revisions(5, False)
    assert revisions(5, False)[2] != revisions(5, True)[2]
    assert revisions(5, False)[1] == revisions(5, True)[1]


def test_marks_stand_at_their_steps_over_the_whole_height_and_share_a_line_at_the_same_step():
    marks = [Mark(7, "b <1>"), Mark(3, "a"), Mark(7, "c")]
    trace = curves([Line("a", X, Y)], uirevision="run", marks=marks).data[0]
    assert [step for step in dict.fromkeys(trace.x) if step is not None] == [3, 7]
    assert {y for y in trace.y if y is not None} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert trace.yaxis == "y2"
    assert trace.text[-2] == "b &lt;1&gt;<br>c"


def test_many_marks_at_one_step_are_counted_not_listed():
    trace = curves([Line("a", X, Y)], uirevision="run", marks=[Mark(1, str(i)) for i in range(40)]).data[0]
    assert "… and 35 more" in trace.text[0]


@pytest.mark.parametrize("log_y", [False, True])
def test_references_lie_at_their_values_with_labels_a_text_line_apart(log_y: bool):
    references = [Reference("uniform", 6.0), Reference("trigram", 1.90), Reference("bigram", 1.91)]
    layout = curves([Line("a", X[Y > 0], Y[Y > 0])], uirevision="run", references=references, log_y=log_y).layout
    assert [shape.y0 for shape in layout.shapes] == [1.90, 1.91, 6.0]
    assert [note.text for note in layout.annotations] == ["trigram", "bigram", "uniform"]
    expected = np.log10([1.90, 1.91, 6.0]) if log_y else [1.90, 1.91, 6.0]
    np.testing.assert_allclose([note.y for note in layout.annotations], expected)
    assert layout.annotations[1].yshift - layout.annotations[0].yshift > 10


def test_a_reference_that_a_logarithm_cannot_show_is_left_out():
    layout = curves([Line("a", X, Y)], uirevision="run", references=[Reference("zero", 0.0)], log_y=True).layout
    assert not layout.shapes


def test_values_that_a_logarithm_cannot_show_become_gaps():
    figure = curves([Line("a", [1, 2], [0.0, 5.0])], uirevision="run", log_y=True)
    np.testing.assert_array_equal(figure.data[1].y, [np.nan, 5.0])


def test_steps_that_a_logarithm_cannot_show_are_left_out():
    figure = curves([Line("a", [0, 1, 20], [1.0, 2.0, 3.0])], uirevision="run", log_x=True)
    assert list(figure.data[1].x) == [1, 20]
    assert list(figure.data[1].y) == [2.0, 3.0]


def test_without_points_the_figure_says_so():
    figure = curves([Line("a", [], [])], uirevision="run", message="Wait for <b>it</b>.")
    assert not figure.data
    assert figure.layout.annotations[0].text == "Wait for &lt;b&gt;it&lt;/b&gt;."
    assert viz.empty_figure("one\ntwo").to_plotly().layout.annotations[0].text == "one<br>two"
    long = "No term but the cross-entropy has a weight: give one in the control room, and its pull shows here."
    lines = viz.empty_figure(long).to_plotly().layout.annotations[0].text.split("<br>")
    assert " ".join(lines) == long
    assert max(map(len, lines)) <= 40


def test_ema_of_a_constant_is_the_constant_and_of_span_zero_the_values():
    np.testing.assert_allclose(ema(X, np.full(5, 2.5), 4.0), 2.5)
    np.testing.assert_array_equal(ema(X, Y, 0.0), Y)
    assert len(ema([], [], 3.0)) == 0


def test_ema_is_the_weighted_mean_of_its_formula():
    x, y, span = np.array([0.0, 1.0, 4.0]), np.array([1.0, 5.0, 2.0]), 2.0
    for i in range(3):
        weights = np.exp(-(x[i] - x[: i + 1]) / span)
        assert ema(x, y, span)[i] == pytest.approx((weights * y[: i + 1]).sum() / weights.sum())


def test_ema_passes_over_gaps():
    averaged = ema([1, 2, 3], [np.nan, 4.0, np.nan], 5.0)
    assert np.isnan(averaged[0])
    np.testing.assert_allclose(averaged[1:], 4.0)
