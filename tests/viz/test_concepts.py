import json

import numpy as np
import pytest

from qcore.viz import XAxis
from qcore.viz.concepts import WIDTHS, alignment_curve, common_steps, concept_tokens, expert_load, stacked_shares


def checked(figure):
    """The figure after Plotly's and JSON's own checks."""
    json.loads(figure.to_json())
    return figure.to_plotly()


def test_alignment_is_drawn_over_a_band_of_two_standard_errors():
    figure = checked(
        alignment_curve([0, 100], [0.1, 0.8], [0.1, 0.2], [0.03, 0.07], uirevision="run", height=280, x=XAxis())
    )
    traces = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(traces["chance, low"].y, [0.04, 0.06])
    np.testing.assert_allclose(traces["chance ± 2 standard errors"].y, [0.16, 0.34])
    assert traces["chance ± 2 standard errors"].fill == "tonexty"
    assert {"same concept", "chance"} <= set(traces)


def test_nothing_measured_says_so():
    assert "No translations" in checked(alignment_curve([], [], [], [], uirevision="run")).layout.annotations[0].text
    assert "No token" in checked(stacked_shares(np.zeros((0, 3)), WIDTHS, uirevision="run")).layout.annotations[0].text


def test_shares_are_stacked_to_one():
    share = np.random.default_rng(1).dirichlet(np.ones(3), size=20)
    figure = checked(stacked_shares(share, WIDTHS, uirevision="run", title="Widths"))
    assert [trace.name for trace in figure.data] == list(WIDTHS)
    np.testing.assert_allclose(sum(np.asarray(trace.y) for trace in figure.data), 1, rtol=1e-6)
    assert len({trace.stackgroup for trace in figure.data}) == 1
    with pytest.raises(ValueError, match="for 2 names"):
        stacked_shares(share, ("one", "two"), uirevision="run")


def test_the_load_marks_what_is_even():
    load = np.array([[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]])
    figure = checked(expert_load(load, uirevision="run"))
    np.testing.assert_allclose(figure.data[0].z, load, rtol=1e-6)
    assert figure.data[0].zmax == pytest.approx(0.7)
    assert "even" in figure.layout.xaxis9.ticktext
    assert figure.data[1].text[4] == "0.70"
    assert len(checked(expert_load(np.full((1, 64), 1 / 64), uirevision="run")).data) == 2


def test_a_concept_holds_its_words_the_surest_first_and_the_fullest_comes_first():
    found = concept_tokens([2, 0, 2, -1, 2], [0.5, 0.9, 0.8, 0.0, 0.6])
    assert [(one.concept, one.tokens) for one in found] == [(2, [2, 4, 0]), (0, [1])]


def test_series_meet_at_the_steps_that_all_have():
    steps, first, second = common_steps(([0, 5, 10], [1.0, 2.0, 3.0]), ([5, 10, 15], [7.0, 8.0, 9.0]))
    assert (steps.tolist(), first.tolist(), second.tolist()) == ([5, 10], [2.0, 3.0], [7.0, 8.0])
    assert not len(common_steps(([], []), ([1], [2.0]))[0])
