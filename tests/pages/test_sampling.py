"""Coherence-aware beside plain sampling on the Generations page: a pair side by side, and many pairs measured."""

from qcore.lab import Lab
from tests.pages.drive import GENERATIONS, open_app, press, texts


def test_the_pair_is_drawn_with_one_seed_and_shown_side_by_side(finished: Lab):
    at = open_app(GENERATIONS, run="done", pair="true")
    assert "Nothing to compare yet" in at.info[0].value
    at.number_input(key="sampling:done:coherence_temperature").set_value(2.0)
    at.number_input(key="sampling:done:coherence_window").set_value(4)
    at.number_input(key="sampling:done:max_tokens").set_value(20)
    at.text_area(key="prompt:done").input("Once")
    press(at, "Generate")
    assert not at.exception
    plain, aware = finished.reader("done").generations("prompt")[-2:]
    assert (plain.settings["coherence_temperature"], aware.settings["coherence_temperature"]) == (0.0, 2.0)
    assert plain.settings["sample_seed"] == aware.settings["sample_seed"]
    shown = texts(at)
    assert "**Plain**" in shown
    assert "**Coherence-aware**" in shown
    assert shown.index("**Coherence-aware**") < shown.index("**Plain**")
    at.number_input(key="pairs").set_value(2)
    press(at, "Measure over seeds")
    assert not at.exception
    table = at.dataframe[-1].value
    assert list(table["measure"])[:3] == ["distinct-1", "distinct-2", "distinct-3"]
    assert "Means of 2 pairs" in texts(at)


def test_without_the_toggle_one_text_is_shown(finished: Lab):
    at = open_app(GENERATIONS, run="done")
    at.number_input(key="sampling:done:coherence_penalty").set_value(1.0)
    at.number_input(key="sampling:done:max_tokens").set_value(5)
    before = len(finished.reader("done").generations("prompt"))
    press(at, "Generate")
    assert not at.exception
    assert len(finished.reader("done").generations("prompt")) == before + 1
    assert "**Plain**" not in texts(at)
