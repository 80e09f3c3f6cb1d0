"""The probe budget: what runs at a step, what stretches when it costs too much, and what every run has all the same."""

import time

import pytest

from qcore.probes.scheduler import FEWEST, NEVER, TRIAL, ProbeScheduler

STEP = 0.1


@pytest.fixture
def clock(monkeypatch):
    """A clock that a probe advances by its pretended cost."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def spend(scheduler, name, seconds):
        with scheduler.measured(name):
            now[0] += seconds

    return spend


@pytest.fixture
def trained(clock):
    """Trains a run whose probes have these cadences and costs; the steps at which each of them ran, and the scheduler.

    At every step what has been spent is within the budget, but for what a probe's first measurement takes beyond what
    was set aside for it.
    """

    def run(probes, steps, budget=2.0, first=True, overhead=0.0):
        scheduler, ran = ProbeScheduler(), {name: [] for name in probes}
        cadences = {name: every for name, (every, _) in probes.items()}
        beyond = max(0.0, max(cost for _, cost in probes.values()) - TRIAL * STEP)
        if first:
            scheduler.expect(cadences, budget, steps)
            for name, (_, cost) in probes.items():
                clock(scheduler, name, cost)
        for step in range(1, steps + 1):
            scheduler.observe_step(STEP)
            for name in scheduler.choose(step, cadences, budget, steps):
                clock(scheduler, name, probes[name][1])
                ran[name].append(step)
            scheduler.charge(overhead)
            assert scheduler.spent <= budget / 100 * STEP * step + beyond + overhead + 1e-9
        return ran, scheduler

    return run


def test_cheap_probes_keep_their_cadence(trained):
    ran, scheduler = trained({"tokens": (10, 0.003)}, 60, budget=3.0)
    assert ran["tokens"] == [10, 20, 30, 40, 50, 60]
    report = scheduler.report()
    assert report["cost/tokens_ms"] == pytest.approx(3.0)
    assert report["cost/tokens_every"] == 10.0
    assert report["cost/total_percent"] == pytest.approx(0.3)


def test_dear_probes_are_stretched_until_they_fit(trained):
    ran, scheduler = trained({"gradients": (10, 0.1)}, 600, budget=3.0)  # 10 % at every 10 steps
    assert [step for step in ran["gradients"] if step >= 200] == [*range(200, 601, 40)]
    report = scheduler.report()
    assert report["cost/gradients_every"] == 40
    assert report["cost/total_percent"] == pytest.approx(2.5)


def test_what_a_person_changes_holds_at_once(clock):
    scheduler = ProbeScheduler()

    def turn_of(step, budget, every=10, steps=10_000):
        return "a" in scheduler.choose(step, {"a": every}, budget, steps)

    scheduler.choose(109, {"a": 10}, 3.0, 10_000)
    for _ in range(100):
        scheduler.observe_step(STEP)
    clock(scheduler, "a", 0.04)  # 4 % every 10 steps
    assert not turn_of(110, 3.0)
    assert turn_of(120, 3.0)
    assert turn_of(130, 5.0)
    assert not turn_of(140, 0.0)
    assert not turn_of(150, 5.0, every=40)
    assert turn_of(160, 5.0, every=40)


def test_a_dear_probe_does_not_thin_the_cheap_ones_nor_they_it(trained):
    ran, scheduler = trained({"cheap": (10, 0.002), "dear": (10, 0.5)}, 6400, budget=3.0)
    report = scheduler.report()
    assert report["cost/cheap_every"] == 10
    assert report["cost/dear_every"] == 320  # 50 / 32 = 1.6 % fits what is left, 50 / 16 does not
    assert report["cost/total_percent"] == pytest.approx(0.2 + 50 / 32)
    assert len(ran["cheap"]) >= 620, "of 640"
    assert len(ran["dear"]) >= 19, "of 20"


@pytest.mark.parametrize("steps", [120, 400, 5000])
def test_every_probe_measures_at_least_five_times_between_the_first_look_and_the_last(trained, steps):
    """Cheap and dear, asked for often and rarely, as long as five of each can be paid; spread over the whole run."""
    part = 0.02 * STEP * steps / (FEWEST + 1)  # of the budget, for a look at all of them
    probes = {
        "often": (1, 0.02 * part),
        "cheap": (10, 0.08 * part),
        "dear": (10, 0.3 * part),
        "dearer": (50, 0.4 * part),
        "rare": (10 * steps, 0.1 * part),
    }
    ran, _ = trained(probes, steps)
    for name, found in ran.items():
        assert found[-1] == steps, name
        between = found[:-1]
        assert len(between) >= FEWEST, (name, found)
        gaps = [b - a for a, b in zip([0, *between], found, strict=True)]
        assert max(gaps) <= 2 * steps / (FEWEST + 1), (name, found)


def test_where_five_cannot_be_paid_all_have_about_as_many(trained):
    ran, _ = trained({"a": (10, 0.05), "b": (20, 0.1), "c": (50, 0.2)}, 400)  # 0.8 s for looks of 0.35 s
    assert {name: len(found) - 1 for name, found in ran.items()} == {"a": 3, "b": 2, "c": 2}


def test_at_most_one_dear_probe_runs_at_a_step(trained):
    ran, _ = trained(dict.fromkeys("abc", (10, 0.03)), 400, budget=50.0)
    steps = [step for found in ran.values() for step in found]
    assert len([step for step in steps if step < 400]) == len({step for step in steps if step < 400})


def test_what_costs_next_to_nothing_waits_for_nobody(trained):
    ran, _ = trained({"slight": (10, 1e-4), "dear": (50, 0.3)}, 120)
    assert set(ran["slight"]) >= {20, 40, 60, 80, 100, 120}


def test_who_asks_for_nothing_in_between_gets_nothing(trained):
    ran, scheduler = trained({"a": (NEVER, 0.001), "b": (10, 0.001)}, 100)
    assert ran["a"] == [100]
    assert scheduler.report()["cost/total_percent"] == pytest.approx(0.1)


def test_what_goes_with_every_step_is_paid_first(trained):
    ran, _ = trained({"a": (1, 0.004)}, 400, budget=2.0, overhead=0.001)
    assert 95 <= len(ran["a"]) <= 105, "1 % of the 2 are left, which pay for a quarter of the steps"


def test_neither_the_first_look_nor_the_last_is_paid_from_the_budget(trained):
    ran, scheduler = trained({"a": (10, 0.05)}, 100)
    assert ran["a"][-1] == 100
    between = len(ran["a"]) - 1
    assert scheduler.spent == pytest.approx(0.05 * between)
    assert scheduler.probing == pytest.approx(0.05 * (between + 1))


def test_a_run_before_training_is_not_the_price(clock):
    """A look that took long, as nothing was warm, keeps nobody waiting for as long."""
    scheduler = ProbeScheduler()
    scheduler.expect({"a": 10}, 3.0, 1000)
    clock(scheduler, "a", 1.0)
    first = 0
    for step in range(1, 40):
        scheduler.observe_step(STEP)
        if "a" in scheduler.choose(step, {"a": 10}, 3.0, 1000):
            clock(scheduler, "a", 0.001)
            first = first or step
    assert 10 <= first < 20, "the budget of 33 steps would pay for what it took before training"
    assert scheduler.report()["cost/a_ms"] == pytest.approx(1.0)
    assert scheduler.report()["cost/a_every"] == 10


def test_a_resumed_run_asks_what_has_not_been_measured_yet_at_its_next_turn(trained):
    ran, _ = trained({"a": (10, 0.001)}, 60, first=False)
    assert ran["a"] == [10, 20, 30, 40, 50, 60]
    scheduler = ProbeScheduler()
    chosen = []
    for step in range(205, 225):
        scheduler.observe_step(STEP)
        chosen += [step] * len(scheduler.choose(step, {"a": 10}, 2.0, 400))
    assert chosen == [210, 220]


def test_a_turn_that_was_passed_by_is_made_up_for(clock):
    """The period changes while the run goes on, from 40 to 30 steps and back: no turn is lost, none comes twice."""
    scheduler, chosen = ProbeScheduler(), []
    for step in range(1, 200):
        scheduler.observe_step(STEP)
        every = 30 if 85 < step < 115 else 40
        if scheduler.choose(step, {"a": every}, 50.0, 10_000):
            clock(scheduler, "a", 1e-4)
            chosen.append(step)
    assert chosen == [40, 80, 95, 120, 160]


def test_a_budget_of_a_hundred_thins_nothing(clock):
    scheduler = ProbeScheduler()
    for step in range(1, 41):
        scheduler.observe_step(STEP)
        chosen = scheduler.choose(step, {"a": 10, "b": 10}, 100.0, 1000)
        assert chosen == ({"a", "b"} if step % 10 == 0 else set())
        for name in chosen:
            clock(scheduler, name, 50.0)
    assert scheduler.report()["cost/a_every"] == 10


def test_a_disabled_probe_takes_no_budget(clock):
    scheduler = ProbeScheduler()
    scheduler.observe_step(STEP)
    scheduler.choose(10, {"a": 10}, 3.0, 100)
    clock(scheduler, "a", 0.01)
    scheduler.forget("a")
    assert scheduler.report()["cost/total_percent"] == 0.0


def test_a_failing_probe_is_still_measured(clock):
    scheduler = ProbeScheduler()

    def broken():
        with scheduler.measured("broken"):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        broken()
    assert "cost/broken_ms" in scheduler.report()


def test_a_plan_takes_the_place_of_cadence_and_cost():
    scheduler = ProbeScheduler()
    scheduler.follow({"tokens": frozenset({3, 7})}, begins=False)
    scheduler.observe_step(1e-6)
    cadences = {"tokens": 2, "phase": 1}
    for _ in range(2):
        assert [step for step in range(10) if scheduler.choose(step, cadences, 0.0, 5)] == [3, 7]
        with scheduler.measured("tokens"):
            pass
    assert scheduler.choose(7, cadences, 100.0, 5) == {"tokens"}
    assert not scheduler.begins(100.0)
    assert ProbeScheduler().begins(3.0)
    assert not ProbeScheduler().begins(0.0)


def test_what_looks_at_updates_does_so_at_the_second_one_outside_the_budget() -> None:
    scheduler, cadences = ProbeScheduler(), {"weights": 50, "tokens": 50, "off": NEVER}
    of_updates = frozenset({"weights", "off"})
    seen = {step: scheduler.choose(step, cadences, 2.0, 400, of_updates) for step in (1, 2, 3)}
    assert seen == {1: set(), 2: {"weights"}, 3: set()}
    scheduler.choose(2, cadences, 2.0, 400, of_updates)
    scheduler.observe_step(1e-3)
    with scheduler.measured("weights"):
        pass
    assert (scheduler.is_outside, scheduler.spent) == (True, 0.0)
    assert ProbeScheduler(last_look=False).choose(2, cadences, 2.0, 400, of_updates) == set(), "an older run"
    assert ProbeScheduler().choose(2, cadences, 100.0, 400, of_updates) == set(), "nothing is thinned there"
