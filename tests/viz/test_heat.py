import json

import numpy as np
import pytest

from qcore import viz
from qcore.viz import Axis, Line, Scale, XAxis, heat, with_cursor
from qcore.viz.heat import limit_of, one_sided_scale, rgba, two_sided_scale

X, Y = Axis("column", ["a", "<b>"]), Axis("row", ["r1", "r2", "r3"])


def drawn(z, **options):
    """The map, checked by Plotly and by JSON."""
    options = {"x": X, "y": Y, "scale": Scale(-1, 1, two_sided_scale()), "uirevision": "run"} | options
    figure = heat(z, **options)
    json.loads(figure.to_json())
    return figure.to_plotly()


def test_cells_are_the_values_given_the_first_row_on_top_and_nan_stays_empty():
    z = np.array([[1.0, -1.0], [np.nan, 0.5], [0.0, 0.25]])
    figure = drawn(z)
    np.testing.assert_array_equal(figure.data[0].z, z)
    assert list(figure.layout.yaxis.range) == [2.5, -0.5]
    assert figure.layout.xaxis.ticktext[1] == "&lt;b&gt;"
    assert figure.data[0].hoverongaps is False


def test_numbers_stand_in_the_known_cells_only():
    figure = drawn(np.array([[1.0, -1.0], [np.nan, 0.5]]), numbers=".2f")
    text = figure.data[1]
    cells = list(zip(text.y.tolist(), text.x.tolist(), text.text, strict=True))
    assert cells == [(0, 0, "1.00"), (0, 1, "−1.00"), (1, 1, "0.50")]


def test_the_scale_shows_the_colours_of_the_cells_over_its_range():
    figure = drawn(np.zeros((2, 2)), scale=Scale(0, 4, one_sided_scale(), "weight <w>", {0: "0", 4: "four"}))
    cells, bar = figure.data[0], figure.data[-1]
    assert (cells.zmin, cells.zmax) == (bar.zmin, bar.zmax) == (0, 4)
    assert cells.colorscale == bar.colorscale
    assert (bar.z.min(), bar.z.max()) == (0, 4)
    assert figure.layout.xaxis9.title.text == "weight &lt;w&gt;"
    assert list(figure.layout.xaxis9.ticktext) == ["0", "four"]
    assert figure.layout.yaxis.domain[1] < figure.layout.yaxis9.domain[0]


def test_colour_fades_to_nothing_at_zero_from_both_sides():
    scale = two_sided_scale(0.5)
    assert [stop for stop, _ in scale] == [0, 0.5, 0.5, 1]
    assert scale[1][1].endswith(",0)")
    assert scale[2][1].endswith(",0)")
    assert scale[0][1].endswith(",0.5)")
    assert one_sided_scale("#0072B2")[0][1] == "rgba(0,114,178,0)"
    assert rgba("#D55E00", 0.25) == "rgba(213,94,0,0.25)"


def test_the_limit_leaves_out_the_largest_values_and_never_is_zero():
    assert limit_of(np.linspace(-1, 1, 2001)) == pytest.approx(0.97, abs=0.01)
    assert limit_of([0, 0, np.nan]) == 1
    assert limit_of([]) == 1
    assert limit_of([-3e-9]) == pytest.approx(3e-9)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ValueError, match="matrix"):
        drawn(np.zeros(shape))


def test_one_cell_and_no_cell_are_drawn():
    assert drawn(np.ones((1, 1)), x=Axis(), y=Axis()).data[0].z.shape == (1, 1)
    drawn(np.zeros((0, 0)), x=Axis(), y=Axis())


def test_the_cursor_is_a_line_at_the_step_and_changes_nothing_else():
    curves = viz.curves([Line("a", [1, 2], [3.0, 4.0])], uirevision="run")
    marked = with_cursor(curves, 7)
    assert marked.to_plotly().layout.shapes[0].x0 == 7
    assert "shapes" not in curves.layout
    assert marked.data is curves.data
    assert with_cursor(curves, None) is curves


def test_the_cursor_keeps_the_reference_lines_and_is_left_out_where_a_logarithm_cannot_show_it():
    lines = [Line("a", [1, 2], [3.0, 4.0])]
    curves = viz.curves(lines, uirevision="run", references=[viz.Reference("one", 1.0)])
    assert [shape["x0"] for shape in with_cursor(curves, 2).layout["shapes"]] == [0, 2]
    logarithmic = viz.curves(lines, uirevision="run", x=XAxis(log=True))
    assert with_cursor(logarithmic, 0) is logarithmic
    empty = viz.empty_figure("nothing")
    assert with_cursor(empty, 3) is empty
