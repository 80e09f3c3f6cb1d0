"""Schedules, rules and the autopilot in real runs: what they do, that it is logged, repeated and can be undone."""

import shutil

import pytest

from qcore.config import Pause, Restore, SetControl, Step, Stop
from qcore.lab import Lab
from qcore.store import Event
from tests.support.configs import eventually, small_config, small_video


def events(lab: Lab, name: str, *authors: str) -> list[Event]:
    return [event for event in lab.reader(name).events() if event.author in authors]


def changes(lab: Lab, name: str, *authors: str) -> list[tuple[int, str, object, object]]:
    return [
        (event.step, event.payload["name"], event.payload["old"], event.payload["new"])
        for event in events(lab, name, *authors)
        if event.kind == "control"
    ]


def test_a_ramp_moves_a_control_and_leaves_its_course_in_a_series(lab: Lab) -> None:
    schedule = ["4 .. 8: clip_norm = 1 -> 0.2", "stage late 10: z_loss_weight = 0.5, eos_weight = 0.1"]
    name = lab.start(small_config(schedule=schedule))
    assert lab.wait(name, 60).state == "finished"
    course = lab.reader(name).scalars("control/clip_norm")
    assert course.steps.tolist() == [4, 5, 6, 7, 8]
    assert course.values.tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert changes(lab, name, "schedule") == [
        (5, "clip_norm", 1.0, pytest.approx(0.8)),
        (8, "clip_norm", pytest.approx(0.4), pytest.approx(0.2)),
        (10, "z_loss_weight", 0.0, 0.5),
        (10, "eos_weight", 0.0, 0.1),
    ]
    reasons = [event.payload["reason"] for event in events(lab, name, "schedule") if event.kind == "control"]
    assert reasons == ["a ramp over steps 4 to 8"] * 2 + ["late", "late"]
    assert {5, 8, 10} <= {saved.step for saved in lab.checkpoints(name) if saved.reason == "automatic change"}
    assert lab.replay(name).identical


def test_a_hand_takes_a_ramp_over(lab: Lab) -> None:
    name = lab.start(small_config(steps=5000, schedule=["2 .. 100000: clip_norm = 0.9 -> 0.1"]))
    eventually(lambda: lab.info(name).step >= 5)
    lab.outcome(name, lab.command(name, SetControl("clip_norm", 0.5)), 20)
    taken = changes(lab, name, "person")[0][0]
    eventually(lambda: lab.info(name).step >= taken + 5)
    lab.outcome(name, lab.command(name, Pause()), 20)
    assert lab.controls(name)["clip_norm"].value == 0.5
    assert lab.reader(name).scalars("control/clip_norm").steps.max() <= taken


def test_a_rule_acts_with_author_and_reason_and_a_replay_does_the_same(lab: Lab) -> None:
    text = "when train/loss > 0 for 3 steps: learning_rate *= 0.5; every 6 steps"
    name = lab.start(small_config(rules=[text], limits=["learning_rate: every 6 steps"], schedule=[]))
    assert lab.wait(name, 60).state == "finished"
    found = changes(lab, name, "rule")
    assert [step for step, *_ in found] == [2, 8]
    assert found[1][3] == pytest.approx(found[0][2] / 4)
    assert {event.payload["reason"] for event in events(lab, name, "rule")} == {text}
    assert {2, 8} <= {saved.step for saved in lab.checkpoints(name) if saved.reason == "automatic change"}
    assert lab.replay(name).identical


@pytest.mark.parametrize("make", [small_config, small_video])
def test_weights_that_were_put_back_are_put_back_in_a_replay_and_in_a_fork(lab: Lab, make) -> None:
    rule = "when train/lr < 0.0015: restore; at most 1 times"
    name = lab.start(make(steps=14, checkpoint_every=5, learning_rate=3e-3, warmup_steps=0, rules=[rule]))
    assert lab.wait(name, 60).state == "finished"
    (put_back,) = [event for event in events(lab, name, "rule") if event.kind == "restore"]
    assert put_back.payload["from_step"] == 5 < put_back.step < 12
    assert lab.replay(name).identical
    fork = lab.fork(name, step=12, new_name="child")
    assert lab.wait(fork, 60).state == "finished"
    mine, theirs = (lab.reader(run).scalars("train/loss", start=13) for run in (name, fork))
    assert mine.values.tolist() == theirs.values.tolist()


def test_a_person_can_put_weights_back(lab: Lab) -> None:
    name = lab.start(small_config(steps=100_000, checkpoint_every=4, keep_checkpoints=1000))
    eventually(lambda: lab.info(name).step >= 9)
    lab.command(name, Pause())
    eventually(lambda: lab.info(name).state == "paused")
    at = lab.info(name).step
    row = lab.outcome(name, lab.command(name, Restore(6)), 20)
    assert (row.status, row.message) == ("applied", f"weights of step 4 at step {at}")
    row = lab.outcome(name, lab.command(name, Restore(1)), 20)
    assert row.status == "refused"
    assert "no checkpoint from before step 1" in row.message


def test_altered_weights_are_passed_over_and_where_no_others_are_the_command_is_refused(lab: Lab) -> None:
    name = lab.start(small_config(steps=100_000, checkpoint_every=4, keep_checkpoints=1000))
    eventually(lambda: lab.info(name).step >= 13)
    lab.command(name, Pause())
    eventually(lambda: lab.info(name).state == "paused")
    damage(lab, name, 8)
    row = lab.outcome(name, lab.command(name, Restore(9)), 20)
    assert (row.status, row.message[:17]) == ("applied", "weights of step 4")
    damage(lab, name, 4)
    row = lab.outcome(name, lab.command(name, Restore(9)), 20)
    assert row.status == "refused"
    assert "no checkpoint from before step 9 can be restored: checkpoint step-000004 is refused" in row.message
    at = lab.info(name).step
    lab.command(name, Step(2))
    eventually(lambda: lab.info(name).step == at + 2)
    lab.command(name, Stop())
    assert lab.wait(name, 60).state == "stopped"
    for saved in lab.checkpoints(name):
        if saved.step > 12:
            shutil.rmtree(saved.path)
    lab.resume(name, steps=at + 4)  # from step 12 it comes to the step at which the weights were put back
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    (refused,) = [event for event in lab.reader(name).events() if event.kind == "refused"]
    assert (refused.step, refused.payload["from_step"]) == (at, 4)
    assert "step-000004 is refused" in refused.payload["reason"]


def damage(lab: Lab, name: str, step: int) -> None:
    path = lab.folder(name) / f"step-{step:06d}" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_rule_that_finds_nothing_to_put_back_saves_nothing_and_says_so_once(lab: Lab) -> None:
    rule = "when train/loss > 0: restore; every 1 steps"
    name = lab.start(small_config(rules=[rule], checkpoint_every=1000))
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    assert [saved.reason for saved in lab.checkpoints(name)] == ["end of run"]
    warned = [line.message for line in lab.reader(name).log() if line.level == "warning"]
    assert len([line for line in warned if "nothing can be restored" in line]) == 1


def test_the_autopilot_undoes_a_misalignment_and_rewinding_undoes_the_autopilot(lab: Lab) -> None:
    name = lab.start(small_config(steps=30, label_shift=0, autopilot=True, checks_every=2))
    assert lab.wait(name, 60).state == "finished"
    (change,) = [change for change in changes(lab, name, "autopilot") if change[1] == "label_shift"]
    assert change[2:] == (0, 1)
    finding = next(found for found in lab.findings(name) if found.name == "unshifted_labels")
    assert finding.state == "resolved"
    lab.rewind(name, change[0])
    assert lab.controls(name)["label_shift"].value == 0


def test_off_by_default(lab: Lab) -> None:
    name = lab.start(small_config(label_shift=0))
    assert lab.wait(name, 60).state == "finished"
    assert events(lab, name, "autopilot", "rule", "schedule") == []
    assert any(found.name == "unshifted_labels" and found.state == "active" for found in lab.findings(name))
