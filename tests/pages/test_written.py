"""What is written into the pages' boxes: too much, half of it, or a file that is no text, is answered with words."""

import pytest

from qcore.lab import Lab
from tests.attacks.cpu import bounded
from tests.pages.drive import AUTOMATION, COMPARE, open_app, press, texts

MERGE = "l0: &a {kind: phase_lm}\nmodel:\n  <<: [*a, *a]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MERGE, "line 3: merge keys"),
        ("[" * 5_000, "line 1: it is nested more than"),
        ("optim:\n  steps: !!int ''\n", "line 2: '' is no int"),
        ("a: &a [*a]", "refers to a value that contains it"),
    ],
)
def test_yaml_that_cannot_be_read_is_answered_with_its_line(empty: Lab, text: str, words: str):
    at = open_app(preset="tiny", edit_as="YAML")
    with bounded(20.0):
        at.text_area(key="new:tiny:yaml").input(text).run()
    assert not at.exception
    assert words in at.error[0].value.replace("\\", "")
    assert next(button for button in at.button if button.label == "Start").disabled
    assert not empty.runs()


def test_an_uploaded_file_that_is_no_text_is_refused_by_name_and_leaves_the_box_alone(empty: Lab):
    at = open_app(preset="tiny", edit_as="YAML")
    before = at.text_area(key="new:tiny:yaml").value
    box = next(one for one in at.file_uploader if one.key == "new:tiny:yaml:file")
    box.set_value(("mine.yaml", b"seed: 1\n# caf\xe9\n", "application/yaml")).run()
    assert not at.exception
    assert "mine.yaml is not UTF-8: byte 0xE9 in line 2" in at.error[0].value.replace("\\", "")
    assert at.text_area(key="new:tiny:yaml").value == before
    box = next(one for one in at.file_uploader if one.key == "new:tiny:yaml:file")
    box.set_value(("good.yaml", b"seed: 7\n", "application/yaml")).run()
    assert at.text_area(key="new:tiny:yaml").value == "seed: 7\n"


def test_a_comma_too_many_on_the_automation_page_is_refused_and_training_goes_on(paused: Lab):
    at = open_app(AUTOMATION, run="alive")
    at.text_area[2].set_value("learning_rate: 1e-5 .. 0.01, change x2, every 50 steps,").run()
    with bounded(20.0):
        next(button for button in at.button if button.key == "apply:limits").click().run()
    assert "ends with a comma" in at.error[0].value
    assert paused.controls("alive")["limits"].value == []
    at.text_area[2].set_value("Learning rate: 1e-5 .. 0.01, change x2, every 50 steps").run()
    next(button for button in at.button if button.key == "apply:limits").click().run()
    assert paused.controls("alive")["limits"].value == ["Learning rate: 1e-5 .. 0.01, change x2, every 50 steps"]


def test_a_fork_takes_names_as_the_page_writes_them(finished: Lab):
    at = open_app(COMPARE, run="done", compare="Tree")
    at.text_area(key="fork_changes").set_value("Learning rate = 0.02\nClip-Norm = 0.5\nlearning rate = 1")
    press(at, "Fork")
    assert "'learning_rate' is given twice" in texts(at).replace("\\", "")
    assert not at.exception
