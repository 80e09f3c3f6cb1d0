"""Forms keep what was typed: over other views and pages, and over a start that was refused."""

import ast
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pages.session import advice
from pages.widgets import changes_text
from qcore.config import PRESETS, SetControl
from qcore.lab import Lab, RunInfo, inputs
from qcore.runs.waiting import waiting_words
from tests.pages.drive import (
    AUTOMATION,
    COMPARE,
    CONTROL_ROOM,
    ENDLESS,
    GENERATIONS,
    TOKENS,
    errors,
    open_app,
    press,
    texts,
)
from tests.pages.sent import charts_of
from tests.support.configs import eventually, small_config, small_video

FORM = "new:tiny:phase_lm"


def view(at, name):
    """Choose a view of the control room."""
    key = next(str(one.key) for one in at.button_group if str(one.key).startswith("view:"))
    return at.button_group(key=key).set_value(name).run()


@pytest.fixture(autouse=True)
def fresh():
    inputs._cached_problems.cache_clear()


def story(sentences: int) -> str:
    animals = ("cat", "dog", "cow", "hen", "fox")
    return "\n\n".join(f"The {animals[n % 5]} number {n} sat on the {animals[n % 3]}." for n in range(sentences))


def fill(at, path: str):
    at.selectbox(key=f"{FORM}:source").set_value("text").run()
    at.text_input(key=f"{FORM}:path").input(path).run()
    at.number_input(key=f"{FORM}:steps").set_value(7).run()
    at.number_input(key=f"{FORM}:width").set_value(32).run()
    return at.text_input(key="new:name").input("mine").run()


def filled(at) -> tuple[object, ...]:
    return (
        at.selectbox(key=f"{FORM}:source").value,
        at.text_input(key=f"{FORM}:path").value,
        at.number_input(key=f"{FORM}:steps").value,
        at.number_input(key=f"{FORM}:width").value,
        at.text_input(key="new:name").value,
    )


def test_a_wrong_path_is_refused_next_to_the_field_and_nothing_is_lost(
    finished: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = len(finished.runs())
    at = open_app(view="New run", preset="tiny")
    wrong = str(tmp_path / "my.txt")
    fill(at, wrong)
    assert not at.exception
    said = [error.value.replace("\\", "") for error in at.error]
    assert len([one for one in said if "does not exist" in one]) == 2, "beside Start and next to the field"
    assert next(button for button in at.button if button.label == "Start").disabled
    at = view(at, "Watch")
    at = view(at, "New run")
    assert filled(at) == ("text", wrong, 7, 32, "mine")
    at.switch_page(TOKENS).run()
    at.switch_page(CONTROL_ROOM).run()
    assert filled(at) == ("text", wrong, 7, 32, "mine")
    Path(wrong).write_text(story(400))
    real = time.monotonic
    monkeypatch.setattr(inputs, "time", SimpleNamespace(monotonic=lambda: real() + inputs._FRESH_SECONDS))
    at.run()
    assert not at.error
    press(at, "Start")
    assert finished.wait("mine", 60).state == "finished"
    assert len(finished.runs()) == before + 1
    assert (finished.config("mine").value("width"), finished.config("mine").value("path")) == (32, wrong)
    finished.delete("mine")


def test_a_start_that_is_refused_keeps_every_value(finished: Lab):
    at = open_app(view="New run", preset="tiny")
    at.number_input(key=f"{FORM}:steps").set_value(7).run()
    at.text_input(key="new:name").input("done").run()
    press(at, "Start")
    assert any("is taken" in error.value for error in at.error)
    assert at.number_input(key=f"{FORM}:steps").value == 7
    assert at.text_input(key="new:name").value == "done"


def test_edits_of_two_presets_and_a_written_configuration_are_kept_apart(finished: Lab):
    at = open_app(view="New run", preset="tiny")
    at.number_input(key=f"{FORM}:steps").set_value(7).run()
    at.selectbox(key="preset").set_value("pam").run()
    at.number_input(key="new:pam:pam:steps").set_value(9).run()
    at.selectbox(key="preset").set_value("tiny").run()
    assert at.number_input(key=f"{FORM}:steps").value == 7
    at.button_group(key="edit_as").set_value("YAML").run()
    at.text_area(key="new:tiny:yaml").input("optim: {steps: 5}").run()
    at.button_group(key="edit_as").set_value("Form").run()
    at = view(view(at, "Watch"), "New run")
    at.button_group(key="edit_as").set_value("YAML").run()
    assert at.text_area(key="new:tiny:yaml").value == "optim: {steps: 5}"


def test_another_preset_is_shown_with_its_own_size_at_once(finished: Lab):
    at = open_app(view="New run", preset="tiny")
    assert "377,665 parameters" in texts(at)
    at.selectbox(key="preset").set_value("tiny-transformer").run()
    shown = texts(at)
    assert "375,552 parameters" in shown
    assert "377,665" not in shown
    assert len([button for button in at.button if button.label == "Start"]) == 1


@pytest.mark.parametrize("name", ["fork_changes", "effect_changes"])
def test_changes_are_kept_and_picked_by_title(finished: Lab, name: str):
    where = {"fork_changes": "Tree", "effect_changes": "Effect of a change"}[name]
    at = open_app(COMPARE, run="done", compare=where)
    at.text_area(key=name).input("Z loss weight = 0.5").run()
    at.selectbox(key=f"{name}:pick").set_value("diversity_weight").run()
    at.number_input(key=f"{name}:value:phase_lm:diversity_weight").set_value(0.25).run()
    at.button(key=f"{name}:add").click().run()
    assert not at.exception
    at.switch_page(TOKENS).run()
    at.switch_page(COMPARE).run()
    assert at.text_area(key=name).value == "Z loss weight = 0.5\ndiversity_weight = 0.25"
    assert "a number from 0 to 10" in texts(at)


def test_a_refused_fork_keeps_the_form_and_a_good_one_takes_titles(finished: Lab):
    at = open_app(COMPARE, run="done")
    at.selectbox(key="fork_changes:pick").set_value("path").run()
    assert "; now nothing." in texts(at)
    at.number_input(key="fork_step:done:8").set_value(5).run()
    at.text_area(key="fork_changes").input("learning rate = 5").run()
    at.text_input(key="fork_name").input("forked").run()
    at.text_input(key="fork_why").input("what if").run()
    press(at, "Fork")
    assert any("learning" in error.value and "from 1e" in error.value for error in at.error)
    assert at.text_input(key="fork_name").value == "forked"
    at.text_area(key="fork_changes").input("Learning rate = 0.01").run()
    press(at, "Fork")
    assert not at.exception
    assert finished.wait("forked", 60).state == "finished"
    assert finished.lineage("forked").changes == {"learning_rate": 0.01}
    finished.delete("forked")


def test_sweep_values_are_checked_before_it_starts(finished: Lab):
    at = open_app(COMPARE, run="done", compare="Sweep")
    at.text_input(key="sweep_values:learning_rate").input("0.001, 7").run()
    assert any("learning" in error.value for error in at.error)
    assert at.button(key="do:sweep").disabled
    at.text_input(key="sweep_values:learning_rate").input("0.001, 0.001").run()
    assert any("twice" in error.value for error in at.error)
    at.text_input(key="sweep_values:learning_rate").input("0.001, 0.003").run()
    assert not at.error
    assert "2 values" in texts(at)


def test_automation_texts_and_benchmark_fields_are_kept(finished: Lab):
    at = open_app(AUTOMATION, run="done")
    at.text_area[0].set_value("5: clip_norm = 0.5").run()
    at.switch_page(TOKENS).run()
    at.switch_page("pages/benchmark.py").run()
    at.text_input(key="bench:changes").input("context=32").run()
    at.switch_page(AUTOMATION).run()
    assert at.text_area[0].value == "5: clip_norm = 0.5"
    at.switch_page("pages/benchmark.py").run()
    assert at.text_input(key="bench:changes").value == "context=32"


@pytest.mark.parametrize("kind", ["phase_lm", "pam", "flux_lm", "transformer", "video_flow", "ltx_video"])
def test_a_new_run_from_this_one_has_its_configuration_and_its_controls(empty: Lab, kind: str):
    small = {"steps": 4, "seed": 5}
    if kind == "video_flow":
        config = small_video(**small)
    elif kind == "ltx_video":
        config = PRESETS["video-ltx-tiny"].config.with_values({**small, "clips": 16, "batch_size": 2})
    else:
        config = small_config(kind=kind, **small)
    empty.start(config, name="first", preset="some-preset")
    empty.wait("first", 120)
    empty.command("first", SetControl("learning_rate", 0.0021))
    empty.resume("first", steps=5)
    empty.wait("first", 120)
    for place in ("Watch", "All runs"):
        at = open_app(run="first", view=place)
        press(at, "New run from this one")
        assert not at.exception
        assert at.session_state["view"] == "New run"
        shown = texts(at).replace("\\", "")
        assert "some-preset" in shown
        assert "Learning rate 0.0021" in shown
    press(at, "Start")
    assert not at.exception
    name = next(info.name for info in empty.runs() if info.name != "first")
    expected = config.with_values({"learning_rate": 0.0021, "steps": 5})
    assert empty.config(name) == expected
    assert empty.info(name).preset == "some-preset"
    empty.wait(name, 120)


def test_a_new_run_from_a_living_one_is_what_was_shown_whatever_that_one_does_meanwhile(paused: Lab):
    at = press(open_app(run="alive"), "New run from this one")
    width = next(one for one in at.number_input if str(one.key).endswith(":phase_lm:width"))
    steps = next(one for one in at.number_input if str(one.key).endswith(":phase_lm:steps"))
    width.set_value(48)
    steps.set_value(4).run()
    paused.outcome("alive", paused.command("alive", SetControl("learning_rate", 0.0007)), 20)
    at = view(view(at, "Watch"), "New run")
    kept = next(one for one in at.number_input if str(one.key).endswith(":phase_lm:width"))
    assert (str(kept.key), kept.value) == (str(width.key), 48)
    paused.outcome("alive", paused.command("alive", SetControl("learning_rate", 0.0009)), 20)
    press(at, "Start")
    assert not at.exception
    name = next(info.name for info in paused.runs() if info.name != "alive")
    assert paused.config(name) == ENDLESS.with_values({"width": 48, "steps": 4})
    at = press(open_app(run="alive"), "New run from this one")
    assert "Learning rate 0.0009" in texts(at).replace("\\", "")


def test_every_field_that_is_typed_into_is_kept_for_the_session():
    """But for knobs: what is put into them is sent."""
    typed, kept = {"text_input", "text_area", "number_input"}, {"persist_state", "bind"}
    lost = []
    for path in Path(changes_text.__file__).parents[1].glob("**/*.py"):
        tree = ast.parse(path.read_text())
        for scope in ast.walk(tree):
            if not isinstance(scope, ast.FunctionDef) or (path.name, scope.name) == ("control_widgets.py", "knob"):
                continue
            shared = {
                str(key.value)
                for node in ast.walk(scope)
                if isinstance(node, ast.Dict)
                for key in node.keys
                if isinstance(key, ast.Constant)
            }
            for call in ast.walk(scope):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in typed:
                    given = {word.arg for word in call.keywords}
                    if not kept & (given | (shared if None in given else set())):
                        lost.append(f"{path.name}:{call.lineno}")
    assert lost == []


def test_a_key_is_one_kind_of_field_on_all_pages():
    """What the session holds of one would else be given to the other, which it cannot be."""
    kinds: dict[str, set[str]] = {}
    for path in Path(changes_text.__file__).parents[1].glob("**/*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                words = {word.arg: word.value for word in call.keywords}
                key = words.get("key")
                if isinstance(key, ast.Constant):
                    kinds.setdefault(str(key.value), set()).add(call.func.attr)
    assert {key: found for key, found in kinds.items() if len(found) > 1} == {}


def test_a_prompt_is_there_when_its_page_is_opened_again(finished: Lab):
    at = open_app(GENERATIONS, run="done")
    at.text_area(key="prompt:done").input("Once a cat").run()
    at.switch_page(TOKENS).run()
    at.switch_page(GENERATIONS).run()
    assert at.text_area(key="prompt:done").value == "Once a cat"


def test_before_a_start_it_is_said_for_whom_it_waits_and_it_may_go_first(empty: Lab):
    empty.start(ENDLESS, name="long")
    eventually(lambda: empty.info("long").state == "running")
    at = open_app(view="New run", preset="tiny", run="long")
    assert any("It will wait for long (step" in info.value.replace("\\", "") for info in at.info)
    at.text_input(key="new:name").input("second").run()
    at.number_input(key=f"{FORM}:steps").set_value(500_000).run()
    press(at, "Start")
    eventually(lambda: empty.info("second").state == "queued")
    eventually(lambda: empty.info("second").waits_for == ("long",))
    words = waiting_words(empty.info("second"), empty.runs())
    assert words.startswith("queued: waits for long (step ")
    assert words.endswith("place 1; pause or stop it to go first")
    at = open_app(view="All runs", run="second")
    assert "queued: waits for long" in at.dataframe[0].value["state"].tolist()
    at = open_app(run="second")
    assert "queued: waits for long (step" in texts(at)
    notes = [note["text"] for note in charts_of(at)["loss"]["layout"]["annotations"]]
    assert any(note.startswith("Queued: waits for long (step") for note in notes)
    at = open_app(view="New run", preset="tiny", run="long")
    at.text_input(key="new:name").input("third").run()
    at.number_input(key=f"{FORM}:steps").set_value(500_000).run()
    at.checkbox(key="new:first").check().run()
    press(at, "Start")
    eventually(lambda: empty.info("third").state == "running")
    assert {empty.info(name).state for name in ("long", "second")} == {"paused"}


@pytest.mark.parametrize(
    ("cause", "message", "words", "helps"),
    [
        ("numeric", "", "learning rate", True),
        ("", "the loss is not finite at step 3: ce", "learning rate", True),
        ("data", "", "Put the data where", False),
        ("", "ValueError: data.path '~/my.txt' does not exist", "Put the data where", False),
        ("", "MemoryError: Unable to allocate 3.35 GiB", "memory", False),
        ("disk", "", "Free space", True),
        ("", "OSError: [Errno 28] No space left on device", "Free space", True),
        ("folder gone", "", "folder back", False),
        ("configuration", "", "in the same way", False),
        ("bug", "", "traceback", False),
        ("", "KeyError: 3", "traceback", False),
    ],
)
def test_the_advice_fits_the_cause(cause: str, message: str, words: str, helps: bool):
    info = RunInfo("r", "failed", message=message, cause=cause)
    assert words in advice.remedy(info)
    assert advice.resume_helps(info) == helps
    assert ("learning rate" in advice.remedy(info)) == (words == "learning rate")


def test_every_cause_that_is_kept_has_an_advice():
    from qcore.runs.failures import CAUSES

    assert set(CAUSES) == set(advice._ADVICE)


def test_a_run_whose_text_vanished_says_so_and_not_the_learning_rate(empty: Lab, tmp_path: Path):
    book = tmp_path / "book.txt"
    book.write_text(story(400))
    config = small_config(source="text", path=str(book), steps=4)
    empty.wait(empty.start(config, name="lost"), 60)
    os.unlink(book)
    empty.resume("lost", steps=9)
    assert empty.wait("lost", 60).state == "failed"
    at = open_app(run="lost")
    told = errors(at)[0]
    assert "Put the data where the run looks for them" in told
    assert "earning rate" not in told
    assert "Waiting for the first step" not in str(texts(at))


def test_titles_and_names_are_one():
    for name in ("learning_rate", "learning rate", "Learning rate", "LEARNING-RATE"):
        assert changes_text.declared_name(name, "phase_lm") == "learning_rate"
    assert changes_text.declared_name("EOS weight", "phase_lm") == "eos_weight"
    assert changes_text.declared_name("Width (channels)", "phase_lm") == "width"
