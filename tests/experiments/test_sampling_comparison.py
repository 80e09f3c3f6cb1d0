"""Coherence-aware against plain sampling of a run's checkpoint: pairs, intervals, repeatability, refusals."""

from __future__ import annotations

import pytest

from qcore.config import ConfigError, SamplingConfig
from qcore.experiments.sampling_comparison import MEASURES, compare_sampling, plain_settings
from qcore.lab import LabError
from tests.support.configs import small_config, small_video

AWARE = SamplingConfig(coherence_temperature=2.0, coherence_penalty=1.0, coherence_window=4, max_tokens=24)


def trained(lab, name: str, **changes: object) -> str:
    lab.start(small_config(**changes), name=name)
    assert lab.wait(name, timeout=60).state == "finished"
    return name


def test_pairs_share_prompt_and_seed_and_give_means_with_intervals(lab):
    name = trained(lab, "waves")
    *_, last = compare_sampling(lab, name, ["Once a", ""], AWARE, draws=3)
    *_, again = compare_sampling(lab, name, ["Once a", ""], AWARE, draws=3)
    assert last == again
    assert (last.pairs, last.total) == (6, 6)
    assert [measure.name for measure in last.measures] == list(MEASURES)
    for measure in last.measures:
        assert measure.difference.n == 6
        assert measure.difference.mean == pytest.approx(measure.aware.mean - measure.plain.mean)
        assert measure.aware.low <= measure.aware.mean <= measure.aware.high
    assert any(measure.difference.mean != 0 for measure in last.measures)
    assert not list(lab.reader(name).generations("prompt", limit=9))


def test_a_rule_too_weak_to_turn_a_draw_shows_no_difference(lab):
    name = trained(lab, "waves")
    almost = AWARE.model_copy(update={"coherence_temperature": 1e-12, "coherence_penalty": 0.0})
    first = next(iter(compare_sampling(lab, name, ["Once a"], almost)))
    assert (first.pairs, first.total) == (1, 16)
    assert all(measure.difference.mean == 0 for measure in first.measures)
    assert plain_settings(AWARE).model_dump() == {
        **AWARE.model_dump(),
        "coherence_temperature": 0.0,
        "coherence_penalty": 0.0,
    }


def test_what_cannot_be_compared_is_refused(lab):
    name = trained(lab, "plain", kind="transformer")
    with pytest.raises(ConfigError, match="has no phases"):
        next(iter(compare_sampling(lab, name, ["Once"], AWARE)))
    with pytest.raises(ConfigError, match="raise coherence_temperature or coherence_penalty"):
        next(iter(compare_sampling(lab, name, ["Once"], plain_settings(AWARE))))
    with pytest.raises(ConfigError, match="draws = 0 of 1 prompts"):
        next(iter(compare_sampling(lab, name, ["Once"], AWARE, draws=0)))
    with pytest.raises(LabError, match="no checkpoint of step 3"):
        next(iter(compare_sampling(lab, name, ["Once"], AWARE, checkpoint=3)))
    with pytest.raises(ConfigError, match="has no phases"):
        list(lab.sample(name, "Once", AWARE))


def test_a_run_whose_own_sampling_needs_phases_that_its_model_lacks_says_so_at_its_start(lab):
    lab.start(small_config(kind="transformer", coherence_penalty=1.0), name="wrong")
    info = lab.wait("wrong", timeout=60)
    assert info.state == "failed"
    assert "has no phases" in info.message


def test_a_video_run_has_no_text_to_compare(lab):
    lab.start(small_video(steps=2), name="clips")
    lab.wait("clips", timeout=60)
    with pytest.raises(LabError, match="draws no text"):
        next(iter(compare_sampling(lab, "clips", ["Once"], AWARE)))
