"""The rules about video on runs as they were measured: each names its fault in time, healthy runs hear nothing."""

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from qcore.base.words import number_words
from qcore.config import find_control, live_controls
from qcore.config.fault_bank import FAULTS
from qcore.detect import GUIDE, RULES, Verdict, Watch
from qcore.detect.history import History
from qcore.detect.video import _OF_THE_FLOW
from tests.detect import streams
from tests.detect.streams import first, names
from tests.detect.video_streams import (
    OF_DATA,
    SAMPLED_OTHERWISE,
    Values,
    facts,
    measured,
    run,
    sampled,
    weights,
)

SHARED = {"noise_correlation": 1.0}


def summary(verdicts: list[Verdict]) -> list[tuple[str, str, int, int]]:
    return [(one.id, one.state, one.since_step, one.evidence["raised_at"]) for one in verdicts]


# Families


def test_rules_of_one_family_are_silent_on_the_other() -> None:
    """What makes every language rule speak says nothing on a video run, and the other way round."""
    at_start: Values = {}
    weighted = dict.fromkeys((*streams.TERMS, *streams.PHASE_TERMS), 1.0)
    for key, (values, _, _) in streams.AT_START.items():
        if key == "failed_samples":  # of any family
            continue
        at_start |= {
            name: value for name, value in values.items() if not name.startswith(("grad/", "weights/", "update/"))
        }
    at_start.pop("accumulation/error")
    clips = Watch(facts())
    text = Watch(streams.facts())
    for step in range(0, 100, 10):
        assert clips.observe(step, at_start | {"eval/ce": 0.01, "generation/repetition": 1.0}, weighted) == []
        broken = {"flow/velocity_error": 1.0, "flow/position_response": 0.0, "flow/sample_noise_correlation": 0.5}
        assert text.observe(step, broken | {"frames/generated/divergence": 0.0}, streams.weights()) == []
    assert text.state()["latest"] == {}


def test_what_any_loop_can_get_wrong_is_named_on_video_runs_too() -> None:
    watch = Watch(facts(accumulation=4))
    told = watch.observe(0, {"accumulation/error": 0.5}, weights())
    told += watch.observe(20, {"weights/dead_share": 0.5, "weights/frozen_blocks": 0.0}, weights())
    told += watch.observe(40, {"term/temporal": 0.3127, "grad/norm/temporal": 0.0}, weights(temporal=0.5))
    told.append(watch.failure(50, ["flow"], "the loss is not finite"))
    assert names(told) == {"lost_accumulation", "unused_weights", "constant_term", "nonfinite"}
    guide = {remedy["label"] for remedy in told[-1].remedies if remedy["label"].startswith("The guide")}
    assert guide == {f"The guide: set {fix.control} to {number_words(fix.value)}" for fix in GUIDE.against("nan")}


# Healthy runs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sample_every", [5, 10, 25, 100])
def test_a_healthy_run_hears_nothing(seed: int, sample_every: int) -> None:
    """Its young samples flicker and its first are noise; gradients behind the head are 0 before the first update."""
    assert run(Watch(facts()), range(400), seed=seed, sample_every=sample_every) == []


@pytest.mark.parametrize("stretch", [1, 3, 20])
@pytest.mark.parametrize("kind", ["healthy", "young"])
def test_a_run_that_learns_slowly_is_left_the_time_it_needs(kind: str, stretch: int) -> None:
    watch = Watch(facts())
    watch.observe(0, measured(0, np.random.default_rng(0)), weights())
    for step in range(0, 400 * stretch, 20):
        assert watch.observe(step, sampled(kind, step // stretch), weights()) == [], step


def test_weak_orthogonality_that_is_met_is_no_constant_term() -> None:
    watch = Watch(facts())
    for step in range(0, 100, 20):
        values = {"term/orthogonality": 0.0, "grad/norm/orthogonality": 0.0, "grad/value/orthogonality": 0.0}
        assert watch.observe(step, values, weights(orthogonality=0.1)) == []


# V1


def test_shared_noise_is_named_at_the_second_sample_with_its_cause_and_remedy() -> None:
    watch = Watch(facts(controls={**SHARED, "flow_path": "quantum"}))
    told = run(watch, range(301), samples="shared", correlation=1.0)
    verdict = first(told, "averaging_collapse")
    assert names(told) == {"averaging_collapse"}
    assert (verdict.since_step, verdict.evidence["raised_at"]) == (25, 50)
    assert verdict.title == "Generated frames are 0.20 apart, the data's 0.86: the noise is the same in all"
    cure = verdict.remedies[0]
    assert cure["changes"] == {"noise_correlation": 0.0}
    assert "Shared noise leaves nothing to select the motion; no path weight can undo it" in cure["why"]
    guide = verdict.remedies[1:]
    assert [remedy["changes"] for remedy in guide] == [
        {"t_star": 0.15},
        {"repulsion": 7},
        {"frame_amplification": 7},
        {"orthogonality_weight": 0.2},
        {"anchor_decay": 30},
    ]
    assert all(remedy["label"].startswith("The guide: set ") for remedy in guide)
    assert [remedy["why"] for remedy in guide] == [fix.verdict for fix in GUIDE.against("averaging")]


def test_the_cure_is_not_offered_twice_and_resolves_the_finding() -> None:
    """After the change the loss jumps and clips flicker for a while, which is not told as flicker."""
    watch = Watch(facts(controls={**SHARED, "t_star": 0.15}))
    told = run(watch, range(301), samples="shared", correlation=1.0)
    assert {"t_star": 0.15} not in [remedy["changes"] for remedy in told[0].remedies]
    watch.note_event(301, "control", {"name": "noise_correlation", "old": 1.0, "new": 0.0})
    for step in range(301, 602):
        values = measured(step - 300, np.random.default_rng(step))
        if step % 25 == 0:
            values |= sampled("healthy", step - 300)
        told += watch.observe(step, values, weights())
    assert [(one.name, one.state) for one in told if one.state == "resolved"] == [("averaging_collapse", "resolved")]
    assert names(told) == {"averaging_collapse"}


@pytest.mark.parametrize("kind", ["pushed", "less common"])
def test_frames_that_overshoot_are_no_recovery_and_the_card_says_where_they_are(kind: str) -> None:
    """Clips that flicker after a collapse are as far from the data as before, on the other side."""
    watch = Watch(facts(controls=SHARED))
    run(watch, range(301), samples="shared", correlation=1.0)
    watch.note_event(301, "control", {"name": "noise_correlation", "old": 1.0, "new": 0.0})
    told = []
    for step in range(325, 602, 25):
        told += [*watch.observe(step, sampled(kind, step - 300), weights()), *watch.refreshed_verdicts()]
    collapse = [one for one in told if one.name == "averaging_collapse"]
    assert collapse
    assert {one.state for one in collapse} == {"active"}
    assert collapse[-1].title.startswith("Frames averaged into one and now ")
    assert collapse[-1].evidence["moving"] is True
    # Its numbers are of this look, not of the last one that showed the old trouble: the card must not say so.
    assert (collapse[-1].last_step, collapse[-1].evidence["shown_at"]) == (300, 600)
    assert "averaging_collapse" in {one.name for one in watch.active}


def test_a_finding_that_is_over_speaks_of_the_past_and_of_the_change_before_its_end() -> None:
    watch = Watch(facts(controls=SHARED))
    run(watch, range(301), samples="shared", correlation=1.0)
    watch.note_event(301, "control", {"name": "learning_rate", "old": 4e-3, "new": 3e-3})
    watch.note_event(302, "control", {"name": "noise_correlation", "old": 1.0, "new": 0.0})
    watch.note_event(303, "control", {"name": "clip_norm", "old": 1.0, "new": 2.0})
    told = []
    for step in range(325, 702, 25):
        told += [*watch.observe(step, sampled("healthy", step - 300), weights()), *watch.refreshed_verdicts()]
        if step == 450:  # a watch that is restored says the same
            other = Watch(facts(controls=SHARED))
            other.restore(json.loads(json.dumps(watch.state())))
            watch = other
    [over] = [one for one in told if one.state == "resolved"]
    assert over.title == ("Frames averaged into one, up to step 300; over after noise correlation 1 → 0 at step 302")
    assert over.evidence["resolved"]["change"] == {"name": "noise_correlation", "old": 1.0, "new": 0.0, "step": 302}
    assert over.evidence["resolved"]["was"].startswith("Frames averaged into one and now flicker")
    assert over.last_step < over.evidence["shown_at"] < over.evidence["resolved"]["step"]


def test_an_untrained_model_with_nearly_shared_noise_is_not_judged() -> None:
    """At ρ = 0.95 the noise itself has frames .31 apart and a cosine of .95."""
    noise = {"frames/generated/divergence": 0.31, "frames/generated/cosine": 0.95, "frames/generated/motion_ratio": 0.0}
    watch = Watch(facts(controls={"noise_correlation": 0.95}))
    for step in range(0, 200, 5):
        values = measured(step, np.random.default_rng(step)) | noise | {"flow/sample_noise_correlation": 0.95}
        assert watch.observe(step, values, weights()) == []


def test_a_collapse_with_noise_of_their_own_is_named_once_it_has_lasted_for_half_of_the_steps() -> None:
    told = run(Watch(facts(controls={"flow_path": "ring"})), range(401), samples="ring")
    verdict = first(told, "averaging_collapse")
    assert names(told) == {"averaging_collapse"}
    assert 250 <= verdict.evidence["raised_at"] <= 325
    assert verdict.remedies[0]["changes"] == {"flow_path": "plain"}
    plain = first(run(Watch(facts()), range(401), samples="ring"), "averaging_collapse")
    assert plain.remedies[0]["changes"] == {"orthogonality_weight": 0.3, "orthogonality_target": "data"}


def test_still_frames_of_still_data_are_no_collapse() -> None:
    still = {"frames/held_out/divergence": 0.2, "frames/held_out/cosine": 0.97, "frames/held_out/coherence": 0.1}
    told = run(
        Watch(facts(controls=SHARED)),
        range(301),
        samples="shared",
        correlation=1.0,
        spoil=lambda step, values: still if step == 0 else None,
    )
    assert told == []


# V2


def test_measuring_the_data_is_named_at_the_second_measurement() -> None:
    def spoil(step: int, values: Values) -> Values:
        return {
            name.replace("/data/", "/denoised/"): value
            for name, value in values.items()
            if name.startswith("frames/data/")
        }

    verdict = first(run(Watch(facts()), range(41), spoil=spoil), "data_not_model")
    assert (verdict.since_step, verdict.evidence["raised_at"]) == (0, 20)
    assert verdict.title == "6 measures of predicted clips are bit-identical to the data's: the data were measured"


def test_samples_that_never_change_are_not_of_the_model() -> None:
    frozen = {f"frames/generated/{name}": value for name, value in OF_DATA.items()}
    watch = Watch(facts())
    told = []
    for step in range(0, 101, 25):
        told += watch.observe(step, {**frozen, "flow/sample_noise_correlation": 0.0}, weights())
    assert summary(told) == [("data_not_model", "active", 25, 50)]
    assert "not changed by one bit" in told[0].title


def test_one_measure_in_common_or_one_that_differs_proves_nothing() -> None:
    watch = Watch(facts())
    for step in range(0, 200, 20):
        same = {f"frames/{of}/{name}": value for of in ("data", "denoised") for name, value in OF_DATA.items()}
        close = same | {"frames/denoised/cosine": np.nextafter(OF_DATA["cosine"], 1)}
        assert watch.observe(step, close, weights()) == []
    few = Watch(facts())
    for step in range(0, 200, 20):
        assert few.observe(step, {"frames/data/divergence": 0.5, "frames/denoised/divergence": 0.5}, weights()) == []


# V3


def test_a_wrong_velocity_is_named_before_training_and_resolved_at_once_when_mended() -> None:
    watch = Watch(facts(controls={"flow_path": "quantum"}, fault="V3"))
    told = watch.observe(0, {"flow/velocity_error": 7.2}, weights())
    assert summary(told) == [("wrong_velocity", "active", 0, 0)]
    assert told[0].title == "The target velocity is 720 % away from how the path moves"
    assert [remedy["changes"] for remedy in told[0].remedies] == [{"fault": ""}, {"flow_path": "plain"}, {}]
    told = watch.observe(50, {"flow/velocity_error": 1e-9}, weights())
    assert summary(told) == [("wrong_velocity", "resolved", 0, 0)]


@pytest.mark.parametrize("error", [1e-12, 1e-4, 0.005])
def test_rounding_is_no_wrong_velocity(error: float) -> None:
    assert Watch(facts()).observe(0, {"flow/velocity_error": error}, weights()) == []


def test_samples_of_a_wrong_velocity_are_not_named_twice() -> None:
    wrong = {"flow/velocity_error": 7.2}
    told = run(Watch(facts()), range(401), samples="pushed", spoil=lambda step, v: wrong if step % 50 == 0 else None)
    assert names(told) == {"wrong_velocity"}


# V4


def test_frames_pushed_apart_flicker_once_they_no_longer_become_better() -> None:
    controls = {"flow_path": "quantum", "orthogonality_weight": 1.0}
    told = run(Watch(facts(controls=controls)), range(401), samples="pushed", term_weights=weights(orthogonality=1.0))
    verdict = first(told, "flicker")
    assert names(told) == {"flicker"}
    assert 150 <= verdict.evidence["raised_at"] <= 300
    changes = [remedy["changes"] for remedy in verdict.remedies]
    assert changes == [{"orthogonality_target": "data"}, {"flow_path": "plain"}, {"frame_amplification": 3}]


def test_mixed_noise_that_flickers_is_offered_noise_of_its_own() -> None:
    watch = Watch(facts(controls={"noise_correlation": 0.9}))
    verdict = first(run(watch, range(401), samples="pushed", correlation=0.9), "flicker")
    assert verdict.remedies[0]["changes"] == {"noise_correlation": 0.0}


def test_more_change_that_goes_on_is_motion() -> None:
    fast = {"frames/generated/coherence": 0.5, "frames/generated/lag_ratio": 1.6}
    assert run(Watch(facts()), range(401), spoil=lambda step, values: fast) == []


def test_data_that_jump_about_themselves_are_no_measure_of_flicker() -> None:
    jumping = {"frames/held_out/coherence": -0.1}
    assert run(Watch(facts()), range(401), samples="pushed", spoil=lambda s, v: jumping if s == 0 else None) == []


# V5


def test_a_model_without_order_is_named_before_training() -> None:
    watch = Watch(facts(controls={"frame_amplification": 0.0}))
    told = watch.observe(0, {"flow/position_response": 0.0}, weights())
    assert summary(told) == [("frames_unordered", "active", 0, 0)]
    assert told[0].remedies[0]["changes"] == {"frame_amplification": 5.0}
    told = watch.observe(100, {"flow/position_response": 1.0}, weights())
    told += watch.observe(200, {"flow/position_response": 0.9}, weights())
    assert summary(told) == [("frames_unordered", "resolved", 0, 0)]


@pytest.mark.parametrize(("response", "named"), [(0.002, True), (0.0045, False), (0.0073, False), (0.3, False)])
def test_a_weak_order_is_named_and_a_usual_one_is_not(response: float, named: bool) -> None:
    """Measured: amplification 0.01 responds with .0045, the default 5 with 1, a random LTX-Video with .0073 to
    .0125."""
    told = Watch(facts()).observe(0, {"flow/position_response": response}, weights())
    assert names(told) == ({"frames_unordered"} if named else set())


# V6


@pytest.mark.parametrize(
    ("trained", "drawn", "samples", "spread"), [(0.0, 1.0, "more common", "1.15"), (1.0, 0.0, "less common", "1.60")]
)
def test_another_noise_in_sampling_is_named_and_explains_freeze_and_explosion(
    trained: float, drawn: float, samples: str, spread: str
) -> None:
    watch = Watch(facts(controls={"noise_correlation": trained, "sample_noise_correlation": drawn}))
    told = run(watch, range(301), samples=samples, correlation=drawn, sample_every=50)
    verdict = first(told, "noise_mismatch")
    assert names(told) == {"noise_mismatch"}
    assert (verdict.since_step, verdict.evidence["raised_at"]) == (50, 50)
    assert verdict.title.endswith(f"samples have {spread} times the data's spread")
    assert verdict.remedies[0]["changes"] == {"sample_noise_correlation": -1.0}


def test_a_change_of_the_training_noise_is_no_mismatch_when_samples_follow_it() -> None:
    watch = Watch(facts())
    run(watch, range(301))
    watch.note_event(301, "control", {"name": "noise_correlation", "old": 0.0, "new": 0.5})
    assert watch.observe(325, {"flow/sample_noise_correlation": 0.5}, weights()) == []


def test_history_finds_the_newest_value_in_a_range() -> None:
    history = History()
    for step in (0, 10, 20, 30):
        history.add("a", step, float(step))
    assert [history.at("a", step) for step in (0, 9, 10, 25, 99)] == [0, 0, 10, 20, 30]
    assert [history.at("a", 15, since) for since in (5, 10, 11)] == [10, 10, None]
    assert history.at("b", 15) is None


def test_what_bends_the_flow_are_live_controls() -> None:
    assert set(live_controls("video_flow")) >= set(_OF_THE_FLOW)


# Skipped files


def test_a_broken_file_is_named_with_its_reason() -> None:
    watch = Watch(facts(skipped=(("clips/broken.mp4", "no video stream"), ("clips/b.avi", "truncated"))))
    told = watch.observe(0, {"optim/planned_lr_sum": 1.0}, weights()) + run(watch, range(100))
    assert summary(told) == [("skipped_files", "active", 0, 0)]
    assert told[0].title == "2 left out: clips/broken.mp4 and 1 more (no video stream)"


# Restore


@pytest.mark.parametrize("at", [0, 30, 133, 250])
def test_a_restored_watch_finds_what_an_undisturbed_one_finds(at: int) -> None:
    options: dict[str, Any] = {"samples": "pushed", "term_weights": weights(orthogonality=1.0)}
    whole = Watch(facts())
    expected = run(whole, range(350), **options)
    before = Watch(facts())
    told = run(before, range(at), **options)
    after = Watch(facts())
    after.restore(json.loads(json.dumps(before.state(), allow_nan=False)))
    told += run(after, range(at, 350), **options)
    assert told == expected
    assert json.dumps(after.state()) == json.dumps(whole.state())


# Table and guide


def test_every_video_fault_of_the_bank_has_a_rule_that_names_it() -> None:
    for code in ("V1", "V2", "V3", "V4", "V5", "V6", "W1", "W2", "W3", "W4", "W5"):
        rules = {rule.name for rule in RULES if code in rule.faults and "video" in rule.families}
        assert rules & set(FAULTS[code].findings), code


def test_advice_of_the_guide_can_be_obeyed_and_says_what_it_is_worth() -> None:
    controls = live_controls("video_flow")
    assert {fix.symptom for fix in GUIDE.fixes} == {"averaging", "nan", "jitter"}
    for fix in GUIDE.fixes:
        assert controls[fix.control].check(fix.value) == fix.value
        assert len(fix.verdict) > 30
        assert fix.verdict.endswith(".")
    for band in GUIDE.bands:
        assert band.low is not None or band.high is not None
        assert band.verdict.endswith(".")


def test_the_guides_bands_hold_what_they_say() -> None:
    bands = {(band.measure, band.grade): band for band in GUIDE.bands}
    assert bands["divergence", "healthy"].holds(1.5)
    assert not bands["divergence", "healthy"].holds(OF_DATA["divergence"])
    assert bands["divergence", "excellent"].holds(2.5)
    assert not bands["orthogonality", "healthy"].holds(OF_DATA["orthogonality"])
    assert bands["cosine", "healthy"].holds(OF_DATA["cosine"])
    assert bands["energy", "healthy"].holds(2.0)
    assert not bands["energy", "healthy"].holds(3.5)
    assert bands["divergence", "warning"].holds(0.2)


def test_a_limit_of_the_guide_is_outside_its_band_and_the_next_number_inside() -> None:
    limits = [(band, side, limit) for band in GUIDE.bands for side, limit in band.limits]
    assert len(limits) == 8
    for band, side, limit in limits:
        assert not band.holds(limit)
        assert band.holds(math.nextafter(limit, math.inf if side == "above" else -math.inf))
        assert not band.holds(math.nextafter(limit, -math.inf if side == "above" else math.inf))
        assert not band.holds(math.nan)


def test_the_guide_promises_its_best_band_of_each_measure() -> None:
    assert {measure: band.range_text for measure, band in GUIDE.promises.items()} == {
        "divergence": "above 2",
        "orthogonality": "above 0.8",
        "energy": "between 1.5 and 3",
        "cosine": "below 0.9",
    }


def test_findings_can_be_stored_and_their_remedies_obeyed() -> None:
    told = run(Watch(facts(controls=SHARED, fault="V2")), range(301), samples="shared", correlation=1.0)
    told += run(Watch(facts(fault="V2")), range(401), samples="pushed")
    told += Watch(facts(skipped=(("a", "b"),))).observe(0, {"optim/planned_lr_sum": 1.0}, weights())
    told += run(Watch(facts(controls=SHARED)), range(100), samples="less common")
    broken = {"flow/velocity_error": 1.0, "flow/position_response": 0.001}
    told += Watch(facts()).observe(0, broken, weights())
    starved = {"clips/std": 56.0, "clips/mean": 34.0, "clips/time_distance": 0.5, "clips/time_limit": 0.19}
    starved |= {"clips/untrained_frames": 0.9, "clips/time_response": 0.0, "clips/input_response": 0.0}
    told += Watch(facts()).observe(0, starved | {"clips/roughness": 2.0}, weights())
    frozen = Watch(facts())
    for step in range(0, 101, 25):
        told += frozen.observe(step, {f"frames/generated/{name}": value for name, value in OF_DATA.items()}, weights())
    for spoiled in SAMPLED_OTHERWISE.values():
        told += run(Watch(facts()), range(101), spoil=lambda step, values: spoiled)  # noqa: B023
    assert names(told) == {rule.name for rule in RULES if rule.families == ("video",)} | {"skipped_files"}
    for verdict in told:
        assert json.loads(json.dumps(asdict(verdict), allow_nan=False)) == asdict(verdict)
        assert any(character.isdigit() for character in verdict.title)
        assert verdict.evidence["numbers"]
        own = [remedy for remedy in verdict.remedies if not remedy["label"].startswith("The guide")]
        assert len(own) <= 3
        for remedy in verdict.remedies:
            for name, value in remedy["changes"].items():
                control = find_control(name, "video_flow")
                assert control.check(value) == value
                assert control.live or remedy["kind"] == "new_run"
