"""The probe budget: what runs at a step, and what stretches when probes cost too much."""

import pytest

from qcore.train import probes
from qcore.train.probes import ProbeScheduler


@pytest.fixture
def clock(monkeypatch):
    """A clock that a probe advances by its pretended cost."""
    now = [0.0]
    monkeypatch.setattr(probes.time, "perf_counter", lambda: now[0])

    def spend(scheduler, name, seconds):
        with scheduler.measured(name):
            now[0] += seconds

    return spend


def test_cheap_probes_keep_their_cadence(clock):
    scheduler = ProbeScheduler()
    scheduler.observe_step(0.1)
    assert scheduler.due("tokens", 10, 10, 3.0)
    clock(scheduler, "tokens", 0.003)
    assert [step for step in range(1, 41) if scheduler.due("tokens", step, 10, 3.0)] == [10, 20, 30, 40]
    assert scheduler.report() == pytest.approx(
        {"cost/tokens_ms": 3.0, "cost/tokens_every": 10.0, "cost/total_percent": 0.3}
    )


def test_dear_probes_are_stretched_until_they_fit(clock):
    scheduler = ProbeScheduler()
    scheduler.observe_step(0.1)
    scheduler.due("gradients", 10, 10, 3.0)
    clock(scheduler, "gradients", 0.1)  # 10 % at every 10 steps
    assert [step for step in range(1, 81) if scheduler.due("gradients", step, 10, 3.0)] == [40, 80]
    report = scheduler.report()
    assert report["cost/gradients_every"] == 40
    assert report["cost/total_percent"] == pytest.approx(2.5)


def test_the_budget_is_shared_and_can_be_changed(clock):
    scheduler = ProbeScheduler()
    scheduler.observe_step(0.1)
    for name in ("a", "b"):
        scheduler.due(name, 10, 10, 3.0)
        clock(scheduler, name, 0.02)  # 2 % each: 4 % together
    assert not scheduler.due("a", 10, 10, 3.0)
    assert scheduler.due("a", 20, 10, 3.0)
    assert scheduler.due("a", 10, 10, 5.0)
    assert not scheduler.due("a", 20, 10, 0.0)


def test_a_failing_probe_is_still_measured(clock):
    scheduler = ProbeScheduler()

    def broken():
        with scheduler.measured("broken"):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        broken()
    assert "cost/broken_ms" in scheduler.report()
