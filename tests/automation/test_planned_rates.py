"""The planned learning rate is the one that is then used, step by step: policies, schedules, forks, changes by hand."""

import math

import pytest

from qcore.automation.learning_rate import learning_rate
from qcore.automation.planned_rates import RATE, board_at, dry_run_rates, planned_courses
from qcore.config import SetControl, check_schedule, default_run
from qcore.lab import Lab
from qcore.lab.forks import planned_steps
from qcore.runs.control_changes import changes_that_hold
from qcore.store import Event
from tests.attacks.cpu import bounded
from tests.support.configs import small_config

STEPS = 40


def logged(lab: Lab, name: str) -> dict[int, float]:
    series = lab.reader(name).scalars(RATE)
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def plan(lab: Lab, name: str, now: int, **more: object) -> dict[int, float]:
    """The rates that are planned at a step of a run, from what was known then."""
    events = [event for event in lab.reader(name).events() if event.step <= now]
    past = {step: rate for step, rate in logged(lab, name).items() if step <= now}
    found = planned_courses(lab.config(name), events, now, {RATE: (list(past), list(past.values()))}, **more)[RATE]
    assert found.now == now
    return dict(zip(found.steps, found.values, strict=True))


@pytest.mark.parametrize(
    "schedule",
    [
        [],
        ["10: learning_rate = 0.02"],
        ["5 .. 25: learning_rate = 0.01 -> 0.0001 log"],
        ["8 .. 20: learning_rate = 0.01 -> 0.002 cosine", "50%: lr_policy = constant", "30: warmup_steps = 35"],
        ["0: min_lr_ratio = 0.5", "25%: lr_policy = manual", "60% .. 90%: manual_learning_rate = 0.001 -> 0.01"],
        ["20: learning_rate = 0.005, min_lr_ratio = 0.9", "20 .. 30: learning_rate = 0.004 -> 0.001"],
        ["15: steps = 30"],
    ],
)
@pytest.mark.parametrize("policy", ["cosine", "constant", "manual"])
def test_the_plan_is_what_is_then_used(lab, policy, schedule):
    config = small_config(
        steps=STEPS,
        lr_policy=policy,
        warmup_steps=6,
        schedule=schedule,
        eval_every=1000,
        sample_every=1000,
        documents=40,
    )
    lab.wait(lab.start(config, name="run"), 120)
    used = logged(lab, "run")
    assert len(used) == lab.info("run").step
    for now in (0, 7, 22):
        planned = plan(lab, "run", now)
        assert planned == pytest.approx(used, rel=1e-12), now


def test_a_change_by_hand_and_the_past_of_a_fork_are_kept(lab):
    config = small_config(steps=STEPS, warmup_steps=4, schedule=["10 .. 30: learning_rate = 0.004 -> 0.0004"])
    lab.wait(lab.start(config, name="root"), 120)
    lab.fork("root", step=20, changes={"learning_rate": 0.01}, new_name="child")
    lab.wait("child", 120)
    planned = plan(lab, "child", 20)
    used = logged(lab, "child")
    assert {step: planned[step] for step in used} == pytest.approx(used, rel=1e-12)
    assert planned[21] != pytest.approx(plan(lab, "root", 20)[21]), "the way was taken over by hand"


def test_a_person_who_changes_the_rate_on_the_way_is_in_the_plan(lab):
    config = small_config(steps=STEPS, schedule=["0 .. 35: learning_rate = 0.004 -> 0.0004"])
    name = lab.start(config, name="run")
    lab.command(name, SetControl("learning_rate", 0.02))
    lab.wait(name, 120)
    at = next(event.step for event in lab.reader(name).events() if event.author == "person" and event.kind == "control")
    used = logged(lab, name)
    assert plan(lab, name, at) == pytest.approx(used, rel=1e-12)


def test_numbers_that_the_schedule_moves_have_their_past_and_their_future(lab):
    config = small_config(steps=STEPS, schedule=["10: z_loss_weight = 0.1", "20 .. 30: z_loss_weight = 0.1 -> 0.5"])
    lab.wait(lab.start(config, name="run"), 120)
    reader = lab.reader("run")
    ways = reader.scalars("control/z_loss_weight")
    recorded = {"control/z_loss_weight": (ways.steps.tolist(), ways.values.tolist())}
    events = [event for event in reader.events() if event.step <= 25]
    found = planned_courses(config, events, 25, recorded)["z_loss_weight"]
    course = dict(zip(found.steps, found.values, strict=True))
    assert [course[step] for step in (0, 10, 20, 25, 28, 40)] == pytest.approx([0.0, 0.1, 0.1, 0.3, 0.42, 0.5])
    assert board_at(config, reader.events(), 9)["z_loss_weight"] == 0.0


def test_a_long_run_is_drawn_by_its_corners_and_each_point_is_exact(lab):
    config = small_config(
        steps=1_000_000, warmup_steps=500, schedule=["300000 .. 600000: learning_rate = 0.01 -> 0.001"]
    )
    found = planned_courses(config, [], 0, {})[RATE]
    assert len(found.steps) < 3000
    [ramp] = check_schedule(config.value("schedule"), config.kind).ramps
    tried = dry_run_rates(config, [(650_000, "learning_rate", 0.5)], config.value("schedule"), 700_000)
    assert len(tried[0]) < 3000
    assert (tried[0][0], tried[0][-1]) == (1, 700_000)
    for steps, values in ((found.steps, found.values), tried):
        walked = 0
        for step, value in zip(steps, values, strict=True):
            if 300_000 < step <= 600_000:
                board = {**config.live_values(), "learning_rate": ramp.value(step - 1, 1_000_000)}
                assert value == pytest.approx(learning_rate(step, board), rel=1e-9)
                walked += 1
        assert walked > 100
    rates = dict(zip(*tried, strict=True))
    assert rates[650_001] > 100 * rates[650_000], "a change is at its step, and not before it"


CHANGES = {
    "steps": ["abc", None, -3, 10**400, [5]],
    "learning_rate": [None, "fast", 7.0, {"a": 1}],
    "schedule": [5, ["9" * 400 + ": ce_weight = 1"], ["whenever"], None],
    "z_loss_weight": ["nan", None, [0.5]],
    "nonsense": [1],
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_that_cannot_be_made_are_in_no_plan(name: str) -> None:
    config = small_config(steps=40, schedule=["10 .. 30: z_loss_weight = 0.1 -> 0.5"])
    good = {"learning_rate": 2e-3, "steps": 50, "z_loss_weight": 0.2}
    payloads = [{"name": name, "old": bad, "new": bad} for bad in CHANGES[name]]
    if name in good:
        payloads.insert(0, {"name": name, "old": "old", "new": good[name]})
    events = [Event(seq, seq, 5.0, "person", "control", payload) for seq, payload in enumerate(payloads)]
    expected = {**config.live_values(), **({name: good[name]} if name in good else {})}
    assert board_at(config, events, 20) == expected
    assert planned_steps(config, events) == expected["steps"]
    held = list(changes_that_hold(config, events))
    assert [event.payload["new"] for event in held] == ([good[name]] if name in good else [])
    assert [event.payload["old"] for event in held] == ([config.value(name)] if name in good else [])
    found = planned_courses(config, events, 5, {RATE: ([1, 2], [0.0, 0.1])})
    assert all(math.isfinite(value) for course in found.values() for value in course.values)
    assert max(found[RATE].steps) == expected["steps"]


def test_another_schedule_can_be_tried_without_touching_the_past(lab):
    config = small_config(steps=STEPS)
    lab.wait(lab.start(config, name="run"), 120)
    used = logged(lab, "run")
    tried = plan(lab, "run", 20, lines=["30: learning_rate = 0.5"])
    assert {step: tried[step] for step in range(1, 31)} == pytest.approx({step: used[step] for step in range(1, 31)})
    assert tried[31] > 50 * used[31]


@pytest.mark.parametrize(
    "line", ["{0} .. {1}: clip_norm = 1 -> 0.5", "1 .. 19999: clip_norm = 1 -> 0.{0}", "{0}: clip_norm = 0.5"]
)
def test_a_schedule_of_a_thousand_lines_is_planned_at_once(line: str) -> None:
    config = default_run().with_values({"steps": 20_000})
    lines = [line.format(10 * place, 10 * place + 9) for place in range(1, 1000)]
    with bounded(20.0):
        found = planned_courses(config, [], 0, {}, lines)
        dry_run_rates(config, [], lines, 2_000)
    assert len(found["clip_norm"].steps) <= 8_000
