"""Charts of a benchmark: a line a model, axes that say what they are, references, and the empty state."""

from __future__ import annotations

from qcore.viz.bench import QualityCurve, generation_speed, quality_curves


def shown(figure: object) -> list[str]:
    return [trace["name"] for trace in figure.data if len(trace["x"])]  # type: ignore[attr-defined]


def test_generation_has_a_line_a_model_against_position() -> None:
    figure = generation_speed({"a": [(100, 50.0), (2000, 49.0)], "b": [(100, 80.0), (2000, 20.0)]}, uirevision="x")
    assert shown(figure) == ["a", "b"]
    assert figure.layout["xaxis"]["title"]["text"] == "position of the token"
    assert figure.to_plotly() is not None


def test_quality_has_references_and_a_dash_a_seed() -> None:
    curves = [QualityCurve("a", 0, [1, 2], [3.0, 2.5]), QualityCurve("a", 1, [1, 2], [3.1, 2.6])]
    references = {"bigram": 3.4, "generator": None}
    figure = quality_curves(curves, against="seconds", references=references, uirevision="x")
    assert shown(figure) == ["a", "a, seed 1"]
    colours = {trace["line"]["color"] for trace in figure.data if len(trace["x"])}
    assert len(colours) == 1, "one colour a model"
    assert [shape["y0"] for shape in figure.layout["shapes"]] == [3.4]
    assert figure.layout["xaxis"]["title"]["text"] == "seconds of training"
    assert figure.to_plotly() is not None


def test_nothing_yet_is_said() -> None:
    empty = quality_curves([], against="tokens", references={}, uirevision="x")
    assert empty.data == []
    assert "No run has finished" in empty.layout["annotations"][0]["text"]
    assert generation_speed({}, uirevision="x").data == []
