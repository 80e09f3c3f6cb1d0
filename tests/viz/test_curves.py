from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from qcore import viz
from qcore.store.series import Series
from qcore.viz import NO_STEPS, Extremes, Line, Mark, Reference, XAxis, YAxis, ema
from qcore.viz.extent import outliers

X = np.array([1, 2, 3, 5, 8], dtype=np.int64)
Y = np.array([4.0, 3.0, np.nan, 2.0, 1.0])


def curves(lines: list[Line], **options: Any) -> go.Figure:
    """The figure as Plotly's own object: built, it is also checked."""
    return viz.curves(lines, **options).to_plotly()


def test_traces_hold_exactly_the_points_given_and_inputs_stay_as_they_were():
    x, y = X.copy(), Y.copy()
    figure = curves([Line("a", x, y), Line("b", x, 2 * y)], uirevision="run", y=YAxis(log=True))
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
        layout = curves([Line("a", X[:points], Y[:points])], uirevision="run", y=YAxis(log=log_y)).layout
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
    layout = curves([Line("a", X[Y > 0], Y[Y > 0])], uirevision="run", references=references, y=YAxis(log=log_y)).layout
    assert [shape.y0 for shape in layout.shapes] == [1.90, 1.91, 6.0]
    assert [note.text for note in layout.annotations] == ["trigram", "bigram", "uniform"]
    expected = np.log10([1.90, 1.91, 6.0]) if log_y else [1.90, 1.91, 6.0]
    np.testing.assert_allclose([note.y for note in layout.annotations], expected)
    assert layout.annotations[1].yshift - layout.annotations[0].yshift > 10


def test_a_reference_that_a_logarithm_cannot_show_is_left_out():
    layout = curves([Line("a", X, Y)], uirevision="run", references=[Reference("zero", 0.0)], y=YAxis(log=True)).layout
    assert not layout.shapes


def test_values_that_a_logarithm_cannot_show_become_gaps():
    figure = curves([Line("a", [1, 2], [0.0, 5.0])], uirevision="run", y=YAxis(log=True))
    np.testing.assert_array_equal(figure.data[1].y, [np.nan, 5.0])


def test_steps_that_a_logarithm_cannot_show_are_left_out():
    figure = curves([Line("a", [0, 1, 20], [1.0, 2.0, 3.0])], uirevision="run", x=XAxis(log=True))
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


# what a chart cannot show is said


def notes(figure: go.Figure) -> str:
    """What the chart says under its title, rows joined."""
    said = [note.text for note in figure.layout.annotations if note.name == "notes"]
    return " ".join(said).replace("<br>", " ")


def top(figure: go.Figure) -> float | None:
    return figure.layout.yaxis.autorangeoptions.clipmax


STEPS = np.arange(200)


def decay() -> Any:
    """A loss that begins at 7.4 and settles near half a nat."""
    return 0.48 + 6.9 * np.exp(-STEPS / 6) + 0.02 * np.sin(STEPS)


def test_a_gap_is_counted_and_placed():
    y = np.ones(100)
    y[40:91] = np.nan
    y[60] = np.inf
    figure = curves([Line("held out", np.arange(100), y)], uirevision="run", title="Loss")
    assert notes(figure) == "not finite at steps 40–90 (51 of 100 points)"
    two = curves([Line("a", np.arange(100), y), Line("b", [0, 1], [1.0, np.nan])], uirevision="run", title="Loss")
    assert notes(two) == "a: not finite at steps 40–90 (51 of 100 points) · b: not finite at step 1 (1 of 2 points)"


def test_a_series_that_was_never_finite_keeps_its_place_and_says_since_when():
    y = np.full(60, np.nan)
    lines = [Line("training", np.arange(60), np.ones(60)), Line("held out", np.arange(10, 70), y)]
    figure = curves(lines, uirevision="run")
    assert [trace.name for trace in figure.data if trace.showlegend] == ["training", "held out: NaN since step 10"]
    assert "held out: not finite at steps 10–69 (60 of 60 points)" in notes(figure)
    alone = curves([lines[1]], uirevision="run")
    assert alone.layout.showlegend
    assert alone.layout.yaxis.showticklabels is False


def test_what_was_not_measured_is_no_trouble():
    assert notes(curves([Line("a", [1, 2], [np.nan, 1.0], gaps=True)], uirevision="run")) == ""


def test_the_counts_of_a_downsampled_series_are_those_of_the_whole():
    values = np.ones(5000)
    values[1000:4001] = np.nan
    series = Series(np.arange(5000), np.arange(5000.0), values).downsampled(100)
    figure = curves([Line.of("a", series)], uirevision="run", title="a")
    assert notes(figure) == "not finite at steps 1,000–4,000 (3,001 of 5,000 points)"


def test_what_a_logarithmic_axis_leaves_out_is_counted():
    lines = [Line("a", [0, 1, 2], [0.0, -1.0, 5.0]), Line("b", [0, 1, 2], [1.0, 1.0, 0.0])]
    figure = curves(lines, uirevision="run", y=YAxis(log=True), x=XAxis(log=True))
    assert "3 points ≤ 0 left out of the logarithmic axis" in notes(figure)
    assert "2 points at step 0 left out of the logarithmic axis" in notes(figure)
    assert figure.layout.yaxis.tickformat == ",~g"  # 20 and 500, never a bare 2 or 5
    assert figure.layout.yaxis.dtick is None


def test_the_start_of_a_curve_does_not_squeeze_the_rest():
    figure = curves([Line("loss", STEPS, decay())], uirevision="run", title="Loss")
    late = decay()[100:]
    assert top(figure) < 1.0
    assert late.max() < top(figure)
    assert notes(figure) == "start ↑ 7.4"
    whole = curves([Line("loss", STEPS, decay())], uirevision="run", title="Loss", extremes=Extremes(whole=True))
    assert top(whole) is None
    assert notes(whole) == ""


def test_a_peak_that_comes_later_is_no_start():
    y = decay()
    y[70] = 5.0
    figure = curves([Line("loss", STEPS, y)], uirevision="run")
    assert top(figure) is None or top(figure) > 5.0
    y = 1 - np.exp(-STEPS / 6)  # a curve that rises has no height to leave out
    assert top(curves([Line("accuracy", STEPS, y)], uirevision="run")) is None
    assert top(curves([Line("loss", STEPS, 7 - 0.03 * STEPS)], uirevision="run")) is None


def test_a_short_line_beside_a_long_one_does_not_bring_the_start_back():
    lines = [Line("training", STEPS, decay()), Line("held out", STEPS[::40], decay()[::40])]
    assert top(curves(lines, uirevision="run")) < 1.0


def test_what_is_over_something_else_than_steps_is_shown_whole():
    assert top(curves([Line("a", STEPS, decay())], uirevision="run", x=NO_STEPS)) is None


def test_references_far_above_are_named_at_the_edge_and_do_not_widen_the_axis():
    references = [Reference("uniform", 5.45), Reference("trigram", 0.55), Reference("floor", 1e-4)]
    y = np.linspace(0.6, 0.5, 100)
    figure = curves([Line("loss", np.arange(100), y)], uirevision="run", references=references)
    assert top(figure) < 0.7
    assert "uniform 5.45 ↑" in notes(figure)
    assert [note.text for note in figure.layout.annotations if note.name != "notes"] == ["trigram"]
    assert figure.layout.yaxis.autorangeoptions.clipmin > 0.3
    assert len(figure.layout.shapes) == 3  # whoever zooms out sees them


@pytest.mark.parametrize("value", [1e6, -1e6, np.float64(1e300)])
@pytest.mark.parametrize("place", [0, 1, 57, 198, 199])
@pytest.mark.parametrize("count", [1, 3])
def test_outliers_are_left_out_of_axis_and_smoothing_and_counted(value: float, place: int, count: int):
    rng = np.random.default_rng(3)
    clean = 1 + 0.05 * rng.standard_normal(200)
    y = clean.copy()
    places = [min(199, place + one) if place < 100 else place - one for one in range(count)]
    y[places] = value
    figure = curves([Line("a", STEPS, y)], uirevision="run", span=10.0, extremes=Extremes(ignore_outliers=True))
    assert f"{count} outlier{'' if count == 1 else 's'} left out" in notes(figure)
    options = figure.layout.yaxis.autorangeoptions
    assert 0.5 < options.clipmin < options.clipmax < 1.5
    smooth = np.asarray(figure.data[2].y)
    assert np.nanmax(np.abs(smooth[np.isfinite(smooth)] - 1)) < 0.2
    plain = curves([Line("a", STEPS, y)], uirevision="run", span=10.0)
    assert notes(plain) == "" or "outlier" not in notes(plain)


@pytest.mark.parametrize(
    "y",
    [
        decay(),
        np.where(STEPS < 100, 1.0, 5.0),
        np.linspace(0, 1, 200),
        np.full(200, 3.0),
        np.sin(STEPS / 9),
        np.random.default_rng(0).standard_normal(200),
        np.exp(np.random.default_rng(1).standard_normal(200)),
        np.array([1.0, 1e6, 1.0]),
    ],
)
def test_steps_slopes_starts_and_noise_are_no_outliers(y: Any):
    assert not outliers(np.asarray(y, dtype=np.float64)).any()


def test_noise_is_no_cliff():
    y = 0.98 + 0.001 * np.sin(STEPS)
    low, high = curves(
        [Line("coverage", STEPS, y)], uirevision="run", y=YAxis(least=0.25)
    ).layout.yaxis.autorangeoptions.include
    assert high - low == pytest.approx(0.25)
    assert low < y.min() < y.max() < high
    low, high = curves([Line("a", STEPS, 100 * y)], uirevision="run").layout.yaxis.autorangeoptions.include
    assert high - low >= 1.9
    low, high = curves(
        [Line("a", STEPS, 0.001 * y)], uirevision="run", y=YAxis(least=0.1)
    ).layout.yaxis.autorangeoptions.include
    assert (low, high) == (0.0, 0.1)


def test_steps_are_whole_and_one_point_has_one_tick():
    one = curves([Line("a", [0], [3.0])], uirevision="run").layout
    assert list(one.xaxis.tickvals) == [0]
    assert curves([Line("a", [0, 1, 2], [3.0, 2.0, 1.0])], uirevision="run").layout.xaxis.dtick == 1
    assert curves([Line("a", [0, 100_000], [3.0, 2.0])], uirevision="run").layout.xaxis.tickformat == ",.9~g"


def test_markers_only_where_there_are_few():
    few, many = (curves([Line("a", np.arange(n), np.ones(n))], uirevision="run") for n in (49, 50))
    assert (few.data[1].mode, many.data[1].mode) == ("lines+markers", "lines")


def test_a_value_alone_between_two_gaps_is_seen():
    y = np.ones(60)
    y[[9, 11]] = np.nan
    figure = curves([Line("a", np.arange(60), y)], uirevision="run")
    assert (list(figure.data[2].x), figure.data[2].mode) == ([10], "markers")


def test_titles_have_their_unit_and_wrap_where_it_is_narrow():
    figure = curves([Line("a", X, Y)], uirevision="run", title="Entropy", y_title="nats", height=230)
    assert figure.layout.title.text == "Entropy, nats"
    assert not figure.layout.yaxis.title.text
    long = viz.curves([Line("a", X, Y)], uirevision="run", title="Largest <share>", y_title="share of all positions")
    assert long.layout["title"]["text"].startswith("Largest &lt;share&gt;<br>")
    assert viz.heading(long) == "Largest <share>, share of all positions. not finite at step 3 (1 of 5 points)"
    assert (
        viz.curves([Line("a", X, Y)], uirevision="r", title="Loss in nats", y_title="nats")
        .layout["title"]["text"]
        .startswith("Loss in nats")
    )


@pytest.mark.parametrize(("name", "room"), [("limit", 68), ("healthy below", 92), ("x" * 200, 130)])
def test_the_name_of_a_reference_has_room_beside_the_curve(name: str, room: int):
    layout = curves([Line("a", X, Y)], uirevision="run", references=[Reference(name, 2.0)]).layout
    assert layout.margin.r == room
