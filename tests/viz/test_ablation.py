"""The forest plot of an ablation: places, intervals, the line of no change, and what lies beyond the axis."""

import math

from qcore.viz.ablation import ForestRow, forest
from qcore.viz.theme import GREEN, GREY, VERMILLION

EFFECTS = [
    ForestRow("attention <off>", 0.2, 0.1, 0.3, "hurts", "3 seeds needed"),
    ForestRow("diversity", -0.05, -0.08, -0.02, "helps"),
    ForestRow("z loss", 0.01, -0.04, 0.06, "no detectable effect"),
]


def test_the_first_effect_is_at_the_top_with_its_interval_and_colour():
    figure = forest(EFFECTS, uirevision="a", title="Effects")
    [dots] = figure.data
    assert dots["x"] == [0.2, -0.05, 0.01]
    assert dots["y"] == [2, 1, 0]
    assert [round(length, 12) for length in dots["error_x"]["array"]] == [0.1, 0.03, 0.05]
    assert [round(length, 12) for length in dots["error_x"]["arrayminus"]] == [0.1, 0.03, 0.05]
    assert dots["marker"]["color"] == [VERMILLION, GREEN, GREY]
    assert figure.layout["yaxis"]["tickvals"] == [2, 1, 0]
    assert figure.layout["yaxis"]["ticktext"][0] == "attention &lt;off&gt;"
    assert "<off>" not in dots["text"][0]
    [line] = figure.layout["shapes"]
    assert (line["x0"], line["x1"]) == (0, 0)
    assert "nats per token" in figure.layout["xaxis"]["title"]["text"]
    figure.to_plotly()


def test_everything_fits_unless_one_effect_dwarfs_the_rest():
    low, high = forest(EFFECTS, uirevision="a").layout["xaxis"]["range"]
    assert low < -0.3 < 0.3 < high
    ruined = [*EFFECTS, ForestRow("no attention", 30.0, 29.0, 31.0, "hurts")]
    figure = forest(ruined, uirevision="a")
    assert figure.layout["xaxis"]["range"][1] < 2
    assert [note["text"] for note in figure.layout["annotations"]] == ["+30 →"]
    assert forest(EFFECTS, uirevision="a").layout["annotations"] == []


def test_one_seed_has_no_interval_and_no_effect_no_figure():
    figure = forest([ForestRow("alone", 0.1, -math.inf, math.inf)], uirevision="a")
    assert figure.data[0]["error_x"]["array"] == [0.0]
    assert "one seed" in figure.data[0]["text"][0]
    figure.to_json()
    assert forest([], uirevision="a").data == []
    assert forest([ForestRow("lost", math.nan, math.nan, math.nan)], uirevision="a").data == []
