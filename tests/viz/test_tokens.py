from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from qcore import viz
from qcore.viz import leading_tokens, shares


def histogram(*arguments: Any, **options: Any) -> go.Figure:
    """The figure as Plotly's own object: built, it is also checked."""
    return viz.histogram(*arguments, **options).to_plotly()


def race(*arguments: Any, **options: Any) -> go.Figure:
    """As above, of the race."""
    return viz.race(*arguments, **options).to_plotly()


LABELS = [f"t{token}" for token in range(40)]


def test_shares_sum_to_one_or_are_all_zero():
    assert shares([1, 3]).tolist() == [0.25, 0.75]
    assert shares([0, 0]).tolist() == [0.0, 0.0]


def test_bars_are_the_shares_of_the_leading_tokens_of_both_histograms():
    predicted, target = np.zeros(40, int), np.zeros(40, int)
    predicted[[3, 5]], target[[5, 9]] = [6, 2], [1, 3]
    figure = histogram(predicted, target, LABELS, uirevision="run")
    assert list(figure.layout.yaxis.ticktext) == ["t3", "t9", "t5"]
    assert [trace.name for trace in figure.data] == ["predicted", "target"]
    np.testing.assert_allclose(figure.data[0].x, [0.75, 0, 0.25])
    np.testing.assert_allclose(figure.data[1].x, [0, 0.75, 0.25])


def test_bars_and_the_rest_that_is_named_account_for_all_positions():
    rng = np.random.default_rng(0)
    predicted, target = rng.integers(1, 50, 40), rng.integers(1, 50, 40)
    figure = histogram(predicted, target, LABELS, uirevision="run", top=30)
    assert len(figure.data[0].x) == 30
    rest = [1 - float(np.sum(trace.x)) for trace in figure.data]
    said = f"all other tokens:<br>{100 * rest[0]:.1f} % predicted, {100 * rest[1]:.1f} % target"
    assert said in figure.layout.xaxis.title.text


def test_labels_are_shown_letter_by_letter():
    figure = histogram([1], [1], ["<b>&"], uirevision="run")
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;&amp;"


def test_without_positions_the_histogram_says_so():
    figure = histogram([0, 0], [0, 0], LABELS, uirevision="run", message="Nothing here.")
    assert not figure.data
    assert figure.layout.annotations[0].text == "Nothing here."


def test_leading_leaves_out_tokens_that_never_occur():
    assert leading_tokens([[0, 5, 0, 1]], 3) == [1, 3]
    assert leading_tokens([[0, 5, 0, 1], [9, 1, 0, 0]], 2) == [0, 1]


def test_the_race_follows_every_token_that_ever_led():
    steps, counts = [10, 20], np.zeros((2, 40), int)
    counts[0, 7], counts[1, [2, 7]] = 4, [3, 1]
    figure = race(steps, list(counts), LABELS, uirevision="run", top=1)
    lines = [trace for trace in figure.data[1:] if len(trace.x)]
    assert [line.name for line in lines] == ["t2", "t7"]
    np.testing.assert_allclose(lines[0].y, [0.0, 0.75])
    np.testing.assert_allclose(lines[1].y, [1.0, 0.25])
    assert counts.sum() == 8


def test_the_race_keeps_at_most_as_many_tokens_as_asked_and_an_empty_one_says_so():
    rng = np.random.default_rng(1)
    figure = race(list(range(30)), list(rng.integers(0, 99, (30, 40))), LABELS, uirevision="run", most=6)
    assert len([trace for trace in figure.data[1:] if len(trace.x)]) == 6
    assert not race([], [], LABELS, uirevision="run").data


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_colours_of_the_race_do_not_depend_on_who_leads(order: tuple[int, int]):
    counts = np.array([[5, 3, 0], [3, 5, 0]])[list(order)]
    figure = race([1, 2], list(counts), LABELS, uirevision="run")
    colors = {trace.name: trace.line.color for trace in figure.data[1:] if len(trace.x)}
    assert colors == {"t0": "#0072B2", "t1": "#D55E00"}
