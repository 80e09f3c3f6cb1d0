"""Findings of curves on running models: an evaluation that is NaN, a probe that throws, a run taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore.config import FAULTS
from qcore.detect import Watch
from qcore.lab import Lab
from qcore.probes import Probe, register
from qcore.probes.registry import unregister
from tests.support.configs import small_config


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as opened:
        yield opened


def test_an_evaluation_that_is_nan_is_named_and_samples_are_searched_for_copies(lab: Lab) -> None:
    config = small_config(**FAULTS["H4"].changes, fault="H4", steps=2, sample_every=1, sample_length=12)
    name = lab.start(config)
    assert lab.wait(name, 60).state == "finished"
    [finding] = [one for one in lab.findings(name) if one.name == "nonfinite_series"]
    assert (finding.id, finding.since_step, finding.state) == ("nonfinite_series", 0, "active")
    assert "eval/ce" in finding.evidence["numbers"][0]["label"]
    copied = lab.reader(name).scalars("generation/copied")
    assert copied.steps.tolist() == [1, 2]
    assert all(1 <= value <= 12 for value in copied.values)


def test_a_probe_that_throws_is_a_finding(lab: Lab) -> None:
    def ill(seen: Any) -> dict[str, float]:
        raise RuntimeError(f"no such layer at step {seen.step}")

    register(Probe("ill", frozenset(), 1, ill))
    try:
        name = lab.start(small_config(kind="transformer", steps=2))
        assert lab.wait(name, 60).state == "finished"
    finally:
        unregister("ill")
    [finding] = [one for one in lab.findings(name) if one.name == "probe_failed"]
    assert (finding.id, finding.since_step) == ("probe_failed:ill", 0)
    assert "no such layer at step 0" in finding.remedies[0]["why"]


def test_a_watch_is_told_of_a_resume_and_not_of_a_start(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []
    note = Watch.note_event

    def listen(self: Watch, step: int, kind: str, payload: Any) -> None:
        told.append((step, kind))
        note(self, step, kind, payload)

    monkeypatch.setattr(Watch, "note_event", listen)
    name = lab.start(small_config(kind="transformer", steps=2))
    lab.wait(name, 60)
    assert told == []
    lab.resume(name, steps=4)
    assert lab.wait(name, 60).step == 4
    assert (2, "resume") in told
    told.clear()
    fork = lab.fork(name, step=2, changes={"steps": 4})
    lab.wait(fork, 60)
    assert [one for one in told if one[1] != "control"] == [(2, "restart")]
