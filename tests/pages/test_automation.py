"""The Automation page: its texts reach the run, a dry run is shown, and what was done is listed with its reason."""

import shutil
from pathlib import Path

from qcore.lab import Lab
from qcore.runs.layout import RunLock
from qcore.store import DATABASE_NAME, Event, Inbox, RunWriter
from tests.pages.drive import AUTOMATION, TINY, charts, open_app, press, texts
from tests.support.configs import eventually


def test_a_text_is_applied_to_a_paused_run_and_its_course_is_drawn(paused: Lab):
    at = open_app(AUTOMATION, run="alive")
    assert "changes no number yet" in texts(at)
    at.text_area[0].set_value("2000000 .. 3000000: clip_norm = 1 -> 0.5").run()
    press(at, "Apply")
    eventually(lambda: paused.controls("alive")["schedule"].value)
    assert paused.controls("alive")["schedule"].value == ["2000000 .. 3000000: clip_norm = 1 -> 0.5"]
    at = open_app(AUTOMATION, run="alive")
    assert at.text_area[0].value == "2000000 .. 3000000: clip_norm = 1 -> 0.5"
    assert charts(at) == 2  # the rate as it is used, and what the schedule moves


def test_a_text_that_cannot_be_read_is_refused_with_words(standing: Lab):
    at = open_app(AUTOMATION, run="alive")
    at.text_area[1].set_value("when something: clip_norm = 1").run()
    next(button for button in at.button if button.key == "apply:rules").click().run()
    assert "is not a condition" in at.error[0].value
    assert standing.controls("alive")["rules"].value == []


def test_the_autopilot_is_a_switch_of_the_run(paused: Lab):
    at = open_app(AUTOMATION, run="alive")
    assert at.toggle[0].value is False
    at.toggle[0].set_value(True).run()
    eventually(lambda: paused.controls("alive")["autopilot"].value)
    assert "remedies one after the other" in texts(open_app(AUTOMATION, run="alive"))


def test_a_dry_run_lists_what_would_have_been_done(finished: Lab):
    at = open_app(AUTOMATION, run="done", automation="Dry run")
    at.text_area[1].set_value("when train/loss > 0 for 3 steps: learning_rate *= 0.5")
    press(at, "Try on the recorded run")
    table = at.dataframe[0].value
    assert table["author"].tolist() == ["rule"]
    assert table["what"][0].startswith("learning rate 0.003 → 0.0015")
    assert table["why"][0] == "when train/loss > 0 for 3 steps: learning_rate *= 0.5"
    assert charts(at) == 2  # the rate, and the loss with marks
    assert "Tried on the first 8 steps" in texts(at.run()), "the answer is still there"
    assert at.dataframe[0].value.equals(table)
    at.text_area[1].set_value("when train/loss > 1000: learning_rate *= 0.5")
    assert "have been changed since" in texts(at.run())
    press(at, "Try on the recorded run")
    assert "have been changed since" not in texts(at)
    assert "Nothing would have been done" in texts(at)


def test_a_text_for_a_run_that_has_ended_is_said_to_be_kept(finished: Lab):
    at = open_app(AUTOMATION, run="done")
    at.text_area[0].set_value("5: clip_norm = 0.5").run()
    next(button for button in at.button if button.key == "apply:schedule").click().run()
    assert not at.exception
    said = [one.value.replace("\\", "") for one in at.info]
    assert said == ["The change of schedule is kept: done takes it when it is resumed"]


def test_commands_of_two_runs_are_told_apart_and_none_goes_without_a_word(finished_dir: Path, empty: Lab):
    locks = {}
    for name in ("one", "two"):
        shutil.copytree(finished_dir / "done", empty.runs_dir / name)
        with Inbox(empty.runs_dir / name / DATABASE_NAME) as inbox:
            identity = inbox.submit("pause", {}, "person")  # counted per run: the same for both
        locks[name] = RunLock(empty.runs_dir / name)
        assert locks[name].acquire()
    at = open_app(run="one")
    at.session_state["sent"] = {("one", identity): "the pause", ("two", identity): "the pause"}
    at.run()
    assert not at.exception
    shown = texts(at)
    for name, lock in locks.items():
        assert f"the pause is sent to {name}, which applies it" in shown
        lock.release()
    at.run()
    assert not at.exception
    assert [one.value.replace("\\", "") for one in at.error] == [
        f"The pause was not done: {name} ended before it could answer" for name in ("one", "two")
    ]
    assert at.session_state["sent"] == {}


def test_an_action_is_undone_by_one_click_and_not_done_again(empty: Lab):
    rule = "when train/loss > 0 for 3 steps: learning_rate *= 0.5; at most 1 times"
    empty.start(TINY.with_values({"rules": [rule]}), name="ruled")
    assert empty.wait("ruled", 60).state == "finished"
    at = open_app(AUTOMATION, run="ruled", automation="What was done")
    assert at.dataframe[0].value["why"].tolist() == [rule]
    press(at, "Undo now")
    assert not at.exception
    assert empty.info("ruled").step == 2
    assert [node.branch for node in empty.run_tree()].count(True) == 1
    empty.resume("ruled")
    assert empty.wait("ruled", 60).state == "finished"
    assert empty.controls("ruled")["learning_rate"].value == TINY.value("learning_rate")
    assert empty.controls("ruled")["rules"].value == []


def test_what_was_done_stands_with_author_and_reason(empty: Lab):
    empty.start(TINY, name="done")
    empty.wait("done", 60)
    at = open_app(AUTOMATION, run="done", automation="What was done")
    assert "Nothing has been changed automatically" in texts(at)
    payload = {"name": "clip_norm", "old": 1.0, "new": 0.5, "reason": "Bad: clip harder"}
    with RunWriter(empty.runs_dir / "done" / DATABASE_NAME) as writer:
        writer.add_event(Event(99, 7, 0.0, "autopilot", "control", payload))
    table = open_app(AUTOMATION, run="done", automation="What was done").dataframe[0].value
    assert table["what"].tolist() == ["clip norm 1 → 0.5"]
    assert table["why"].tolist() == ["Bad: clip harder"]
