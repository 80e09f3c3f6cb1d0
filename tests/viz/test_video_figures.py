import json

import numpy as np
import pytest

from qcore.viz import (
    SOURCES,
    Line,
    anchor_spread,
    curves_over_time,
    frame_spectrum,
    lag_changes,
    path_weights,
    similarity_map,
    source_style,
    tomography,
)


def drawn(figure):
    """The figure, checked by Plotly and by JSON."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def titles(figure):
    return figure.layout.title.text, figure.layout.xaxis.title.text, figure.layout.yaxis.title.text


def test_similarity_maps_share_one_scale_whatever_they_hold():
    maps = [drawn(similarity_map(np.full((4, 4), value), uirevision="run")) for value in (-0.2, 0.0, 1.0)]
    assert {(each.data[0].zmin, each.data[0].zmax) for each in maps} == {(-1, 1)}
    assert len({json.dumps(each.data[0].colorscale) for each in maps}) == 1


def test_frames_are_counted_from_one_in_ticks_and_hover():
    figure = drawn(similarity_map(np.eye(3), uirevision="run", title="Data"))
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "3"]
    assert figure.data[0].text[0][2] == "frames 1 and 3"
    assert titles(figure) == ("Data", "frame", "frame")


def test_many_frames_keep_at_most_twelve_labels():
    figure = drawn(similarity_map(np.eye(121), uirevision="run"))
    assert len(figure.layout.xaxis.ticktext) <= 12
    assert figure.layout.xaxis.ticktext[0] == "1"


@pytest.mark.parametrize("draw", [similarity_map, anchor_spread])
def test_a_map_without_values_says_so(draw):
    figure = drawn(draw([], uirevision="run", title="Data"))
    assert len(figure.data) == 0
    assert len(figure.layout.annotations[0].text) > 5


def test_weights_run_from_noise_on_the_left_to_data_on_the_right():
    t = np.linspace(0, 1, 11)
    weights = {"alpha": t, "beta": 0 * t, "gamma": 1 - t}
    figure = drawn(path_weights(t, weights, uirevision="run", title="Path"))
    assert list(figure.layout.xaxis.range) == [1, 0]
    assert {
        trace.name for trace in figure.data if trace.name in ("α: noise", "β: anchor", "γ: frames of the data")
    } == {
        "α: noise",
        "γ: frames of the data",
    }
    assert titles(figure)[1:] == ("t: noise → data", "")


def test_every_jump_has_a_line_and_a_name():
    t = np.linspace(0, 1, 11)
    figure = drawn(path_weights(t, {"alpha": t}, jumps=[0.2, 0.8], uirevision="run"))
    assert [shape.x0 for shape in figure.layout.shapes] == [0.2, 0.8]
    assert [note.text for note in figure.layout.annotations] == ["jump at t = 0.2", "jump at t = 0.8"]


def test_the_drawn_times_are_counted_in_bars_that_add_up_to_one():
    t = np.linspace(0, 1, 11)
    times = np.random.default_rng(0).uniform(0, 1, 5000)
    figure = drawn(path_weights(t, {"alpha": t}, sampled=times, uirevision="run"))
    [bars] = [trace for trace in figure.data if trace.type == "bar"]
    assert bars.y.sum() == pytest.approx(1)
    assert bars.name == "5000 times drawn"
    [rug] = [trace for trace in figure.data if trace.name == "times drawn"]
    assert len(rug.x) <= 200
    assert set(rug.x) <= set(times)


def test_a_path_without_weights_or_without_times_is_drawn():
    t = np.linspace(0, 1, 5)
    assert "0" in drawn(path_weights(t, {"alpha": 0 * t}, uirevision="run")).layout.annotations[0].text
    assert len(drawn(path_weights([], {}, uirevision="run")).data) == 0
    assert not [trace for trace in drawn(path_weights(t, {"alpha": t}, uirevision="run")).data if trace.type == "bar"]


def test_tomography_has_a_column_a_time_noise_first_and_each_adds_up_to_one():
    t = np.array([0.0, 0.5, 1.0])
    spectrum = np.array([[4.0, 0.0], [3.0, 1.0], [2.0, 2.0]])
    figure = drawn(tomography(t, spectrum, uirevision="run"))
    np.testing.assert_allclose(figure.data[0].z, [[0.5, 0.75, 1.0], [0.5, 0.25, 0.0]])
    assert figure.layout.xaxis.ticktext[0] == "1"
    assert figure.layout.xaxis.ticktext[-1] == "0"
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)


def test_tomography_of_nothing_and_of_a_spectrum_of_zeros():
    assert len(drawn(tomography([], [], uirevision="run")).data) == 0
    figure = drawn(tomography([1.0], [[0.0, 0.0]], uirevision="run"))
    np.testing.assert_array_equal(figure.data[0].z, [[0.0], [0.0]])


def test_spectra_are_shares_with_the_colours_of_their_source():
    figure = drawn(frame_spectrum({"data": [2.0, 2.0], "generated": [4.0, 0.0]}, uirevision="run"))
    lines = {trace.name: trace for trace in figure.data if trace.name in SOURCES and len(trace.x)}
    np.testing.assert_allclose(lines["data"].y, [0.5, 0.5])
    assert lines["generated"].y[0] == 1.0
    assert lines["generated"].line.color == source_style("generated")["color"]
    assert figure.layout.yaxis.type == "log"
    assert len(drawn(frame_spectrum({}, uirevision="run")).data) == 0


def test_sources_differ_in_colour_and_the_data_in_dash_too():
    styles = [source_style(source) for source in SOURCES]
    assert len({style["color"] for style in styles}) == 3
    assert [style["dash"] for style in styles] == ["dot", "solid", "solid"]


def test_the_spread_starts_at_zero_and_reaches_its_largest_value():
    figure = drawn(anchor_spread([[0.2, 0.5], [0.0, 0.1]], uirevision="run"))
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 0.5)
    assert "standardised" in figure.layout.xaxis9.title.text


def test_a_spread_of_zeros_is_drawn():
    assert drawn(anchor_spread(np.zeros((2, 2)), uirevision="run")).data[0].zmax > 0


def test_lines_over_time_run_from_noise_to_data():
    figure = drawn(
        curves_over_time([Line("a", [1, 0.5, 0], [0, 1, 2.0])], uirevision="run", title="Way", y_title="distance")
    )
    assert list(figure.layout.xaxis.range) == [1, 0]
    assert titles(figure) == ("Way, distance", "t: noise → data", "")


def test_changes_are_drawn_over_the_distance_of_frames_from_zero_up():
    figure = drawn(
        lag_changes({"data": [0.5, 0.7, 0.8], "generated": [0.1, 0.1, 0.1]}, uirevision="run", title="Change")
    )
    lines = {trace.name: trace for trace in figure.data if trace.name in SOURCES and len(trace.x)}
    assert list(lines["data"].x) == [1, 2, 3]
    assert list(lines["generated"].y) == [0.1, 0.1, 0.1]
    assert "RMS, standardised pixels" in titles(figure)[0]
    assert titles(figure)[1:] == ("frames apart", "")
    assert figure.layout.yaxis.rangemode == "tozero"
    assert len(drawn(lag_changes({}, uirevision="run")).data) == 0
    assert len(drawn(lag_changes({"data": []}, uirevision="run")).data) == 0
