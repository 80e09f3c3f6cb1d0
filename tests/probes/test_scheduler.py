"""The probe budget: what runs at a step, and what stretches when probes cost too much."""

import time

import pytest

from qcore.probes.scheduler import ProbeScheduler


@pytest.fixture
def clock(monkeypatch):
    """A clock that a probe advances by its pretended cost."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def spend(scheduler, name, seconds):
        with scheduler.measured(name):
            now[0] += seconds

    return spend


def train(scheduler, steps):
    for _ in range(steps):
        scheduler.observe_step(0.1)


def test_cheap_probes_keep_their_cadence(clock):
    scheduler = ProbeScheduler()
    train(scheduler, 100)
    assert scheduler.due("tokens", 10, 10, 3.0)
    clock(scheduler, "tokens", 0.003)
    assert [step for step in range(1, 41) if scheduler.due("tokens", step, 10, 3.0)] == [10, 20, 30, 40]
    assert scheduler.report() == pytest.approx(
        {"cost/tokens_ms": 3.0, "cost/tokens_every": 10.0, "cost/total_percent": 0.3, "cost/spent_percent": 0.03}
    )


def test_dear_probes_are_stretched_until_they_fit(clock):
    scheduler = ProbeScheduler()
    train(scheduler, 100)
    scheduler.due("gradients", 10, 10, 3.0)
    clock(scheduler, "gradients", 0.1)  # 10 % at every 10 steps
    assert [step for step in range(1, 81) if scheduler.due("gradients", step, 10, 3.0)] == [40, 80]
    report = scheduler.report()
    assert report["cost/gradients_every"] == 40
    assert report["cost/total_percent"] == pytest.approx(2.5)


def test_the_budget_is_shared_and_can_be_changed(clock):
    scheduler = ProbeScheduler()
    train(scheduler, 100)
    for name in ("a", "b"):
        scheduler.due(name, 10, 10, 3.0)
        clock(scheduler, name, 0.02)  # 2 % each: 4 % together, 1.5 % allowed
    assert not scheduler.due("a", 10, 10, 3.0)
    assert scheduler.due("a", 20, 10, 3.0)
    assert scheduler.due("a", 10, 10, 5.0)
    assert not scheduler.due("a", 20, 10, 0.0)


def test_a_dear_probe_does_not_thin_the_cheap_ones(clock):
    scheduler = ProbeScheduler()
    train(scheduler, 100)
    for name, cost in (("cheap", 0.002), ("dear", 0.5)):  # 0.2 % and 50 % at every 10 steps
        scheduler.due(name, 10, 10, 3.0)
        clock(scheduler, name, cost)
    report = scheduler.report()
    assert report["cost/cheap_every"] == 10
    assert report["cost/dear_every"] == 320  # 50 / 32 = 1.6 % fits what is left, 50 / 16 does not
    assert report["cost/total_percent"] == pytest.approx(0.2 + 50 / 32)


def test_a_run_before_training_is_not_the_price(clock):
    scheduler = ProbeScheduler()
    scheduler.due("a", 0, 10, 3.0)
    clock(scheduler, "a", 1.0)
    train(scheduler, 100)
    clock(scheduler, "a", 0.001)
    report = scheduler.report()
    assert report["cost/a_ms"] == pytest.approx(1.0)
    assert report["cost/spent_percent"] == pytest.approx(0.01)
    assert scheduler.due("a", 110, 10, 3.0)


def test_no_more_is_spent_than_was_earned(clock):
    scheduler = ProbeScheduler()
    scheduler.due("a", 0, 10, 3.0)
    clock(scheduler, "a", 0.05)
    spent = []
    for step in range(1, 201):
        train(scheduler, 1)
        if scheduler.due("a", step, 10, 3.0):
            clock(scheduler, "a", 0.05)
            spent.append(step)
        assert scheduler.report()["cost/spent_percent"] <= 3.0
    assert spent == [20, 40, 60, 80, 100, 120, 140, 160, 180, 200]


def test_a_budget_of_a_hundred_thins_nothing(clock):
    scheduler = ProbeScheduler()
    for step in range(1, 41):
        train(scheduler, 1)
        assert scheduler.due("a", step, 10, 100.0) == (step % 10 == 0)
        if step % 10 == 0:
            clock(scheduler, "a", 50.0)
    assert scheduler.report()["cost/a_every"] == 10


def test_a_disabled_probe_takes_no_budget(clock):
    scheduler = ProbeScheduler()
    train(scheduler, 100)
    scheduler.due("a", 10, 10, 3.0)
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
    for _ in range(2):
        assert [step for step in range(10) if scheduler.due("tokens", step, 2, 0.0)] == [3, 7]
        with scheduler.measured("tokens"):
            pass
    assert not any(scheduler.due("phase", step, 1, 100.0) for step in range(10))
    assert not scheduler.begins(100.0)
    assert ProbeScheduler().begins(3.0)
    assert not ProbeScheduler().begins(0.0)
