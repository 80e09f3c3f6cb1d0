"""Rules about how clips are sampled: each difference from training has its name, and none is called flicker."""

from __future__ import annotations

import pytest

from qcore.detect import Watch
from tests.detect.streams import names
from tests.detect.video_streams import AS_TRAINED, SAMPLED_OTHERWISE, Values, facts, run


@pytest.mark.parametrize("name", SAMPLED_OTHERWISE)
@pytest.mark.parametrize("samples", ["healthy", "pushed"])
def test_samples_that_are_drawn_otherwise_are_named_so_and_never_flicker(name: str, samples: str) -> None:
    told = run(Watch(facts()), range(301), samples=samples, spoil=lambda step, values: SAMPLED_OTHERWISE[name])
    found = {one.name: one for one in reversed(told)}
    assert set(found) == {name}
    assert found[name].evidence["raised_at"] <= (50 if name == "sample_spread" else 25)
    assert found[name].state == "active"


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"sampler/velocity_error": 2.0, "sampler/velocity_cosine": -1.0}, "the sign is wrong"),
        ({"sampler/velocity_error": 0.02, "sampler/velocity_mirrored": 1e-6}, "at 1 − t"),
        ({"sampler/velocity_error": 0.8}, "80 % away"),
        ({"sampler/time_first": 0.5}, "begins at t = 0.5"),
        ({"sampler/time_last": 0.4}, "ends at t = 0.4"),
        ({"average/loss_ratio": 2.2}, "2.20 times the live weights"),
    ],
)
def test_a_finding_on_the_sampler_says_in_what_it_differs(measured: Values, words: str) -> None:
    told = run(Watch(facts()), range(101), spoil=lambda step, values: measured)
    assert [one.title for one in told if words in one.title]
    assert len(names(told)) == 1


def test_a_few_steps_of_a_solver_may_lead_to_the_mean() -> None:
    few = {"frames/generated/std_ratio": 0.1, "sampler/steps": 2.0}
    assert run(Watch(facts()), range(101), spoil=lambda step, values: few) == []


def test_clips_flicker_only_where_their_sampler_is_known() -> None:
    def unknown(step: int, values: Values) -> Values:
        for name in AS_TRAINED:
            values.pop(name, None)
        return {}

    assert "flicker" in names(run(Watch(facts()), range(301), samples="pushed"))
    assert "flicker" not in names(run(Watch(facts()), range(301), samples="pushed", spoil=unknown))
