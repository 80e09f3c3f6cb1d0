"""Each rule on the signature of its fault: it speaks at the right step, with the right name, and no other rule does."""

from collections.abc import Mapping
from typing import Any

import pytest

from qcore.config.fault_bank import FAULTS
from qcore.detect import RULES, Verdict, Watch
from qcore.detect.finding import restore, set_rate, set_weight
from qcore.detect.published_guide import guide_remedies
from tests.detect.streams import AT_START, WELL_FED, Values, facts, first, healthy_loss, names, run, weights

VALUES = {"diversity": 0.8, "coherence": 0.4}
"""Healthy values of terms that cannot be negative."""


@pytest.mark.parametrize("key", AT_START)
def test_faults_of_the_construction_speak_before_the_first_step(key: str) -> None:
    values, weighted, known = AT_START[key]
    told = run(Watch(facts(**known)), [0], spoil=lambda step, _: values, term_weights=weights(**weighted))
    assert [verdict.id for verdict in told] == [key]
    assert (told[0].since_step, told[0].state, told[0].name) == (0, "active", key.partition(":")[0])


@pytest.mark.parametrize("key", AT_START)
def test_a_fault_that_is_mended_is_resolved_and_stays_so(key: str) -> None:
    values, weighted, known = AT_START[key]
    ratio = {f"grad/norm/{term}": 0.3 for term in weighted} | {f"grad/ratio/{term}": 0.05 for term in weighted}
    mended = (
        ratio
        | {f"energy/sign/{term}": 1.0 for term in weighted}
        | {f"term/{term}": VALUES.get(term, -0.3) for term in weighted}
    )
    mended |= {"data/pad_is_target": 0.0, "data/target_top1_share": 0.09, "shift/targets_are_inputs": 0.0}
    mended |= {"repeat/difference": 0.0, "head/probability_share": 0.0, "sampler/cache_error": 1e-6}
    mended |= {"sampler/score_error": 1e-6, "sampler/failed_share": 0.0, "round_trip/loss": 0.0}
    mended |= {"optim/planned_lr_sum": 0.6, "geometry/mean_cosine": 0.1, "accumulation/error": 1e-6} | WELL_FED
    told = run(
        Watch(facts(**known)),
        range(0, 1001, 100),
        spoil=lambda step, _: values if step == 0 else mended,
        term_weights=weights(**weighted),
    )
    mine = [verdict.state for verdict in told if verdict.id == key]
    assert mine == ["active", "resolved"]
    assert names(told) == {key.partition(":")[0]}


def test_every_fault_of_the_bank_has_the_rules_it_expects() -> None:
    named = {code: {rule.name for rule in RULES if code in rule.faults} for code in FAULTS}
    known = {rule.name for rule in RULES}
    for code, case in FAULTS.items():
        assert set(case.findings) <= known
        assert named[code] & set(case.findings), code


# Leaks


def test_a_loss_under_the_generators_own_proves_a_leak() -> None:
    told = run(
        Watch(facts()), range(301), spoil=lambda step, v: {"eval/ce": 0.02} if step >= 200 and step % 50 == 0 else None
    )
    verdict = first(told, "future_leak")
    assert (verdict.since_step, verdict.last_step) == (200, 250)
    assert "0.02" in verdict.title


def test_easier_targets_than_the_text_are_no_leak() -> None:
    padded = {"data/pad_is_target": 0.8, "data/target_top1_share": 0.8, "eval/ce": 0.05}
    told = run(Watch(facts()), range(0, 301, 50), spoil=lambda step, v: padded)
    assert "future_leak" not in names(told)
    copied = {"shift/targets_are_inputs": 1.0, "eval/ce": 0.01}
    told = run(Watch(facts()), range(0, 301, 50), spoil=lambda step, v: copied)
    assert names(told) == {"unshifted_labels"}


def test_a_gap_of_the_strict_loss_is_a_leak_unless_rows_mix() -> None:
    gap = {"strict/gap": 0.3}
    assert names(run(Watch(facts()), [0, 100], spoil=lambda step, v: gap)) == {"future_leak"}
    assert "future_leak" not in names(run(Watch(facts()), [0], spoil=lambda step, v: gap))
    mixed = {"strict/gap": 0.3, "batch/dependence": 0.1}
    assert names(run(Watch(facts()), [0, 100], spoil=lambda step, v: mixed)) == {"batch_dependence"}


def test_copying_before_the_first_step_is_no_fault_but_a_trained_copy_is() -> None:
    untrained = {"shift/copy_rate": 1.0, "shift/ce_here": 0.1, "shift/ce_next": 7.4, "term/ce": 7.4}
    assert names(run(Watch(facts()), [0, 10], spoil=lambda step, v: untrained)) == set()
    trained = {**untrained, "term/ce": 0.1}
    told = run(Watch(facts()), [0, 10], spoil=lambda step, v: trained)
    assert names(told) == {"unshifted_labels"}


# Gradients


@pytest.mark.parametrize(
    ("term", "value"), [("dominance", 0.0), ("entropy_floor", 0.0), ("eos", 0.0), ("coherence", 0.0)]
)
def test_a_satisfied_term_may_have_no_gradient(term: str, value: float) -> None:
    quiet = {f"term/{term}": value, f"grad/norm/{term}": 0.0}
    told = run(Watch(facts()), range(0, 201, 50), spoil=lambda step, v: quiet, term_weights=weights(**{term: 0.5}))
    assert told == []


def test_phases_at_their_lowest_energy_are_not_called_saturated() -> None:
    quiet = {"term/local_energy": -1.0, "grad/norm/local_energy": 0.0}
    told = run(Watch(facts()), [0, 50], spoil=lambda step, v: quiet, term_weights=weights(local_energy=0.02))
    assert told == []


def test_a_term_without_weight_is_not_judged() -> None:
    dead = {"term/diversity": 3.7, "grad/norm/diversity": 0.0, "energy/sign/local_energy": -1.0, "term/coherence": 9.0}
    assert run(Watch(facts()), [0, 50], spoil=lambda step, v: dead) == []


def test_a_round_value_that_moves_without_gradient_is_constant_not_saturated() -> None:
    def spoil(step: int, values: Values) -> Values:
        return {"term/diversity": 0.25 if step == 0 else 0.31371, "grad/norm/diversity": 0.0}

    told = run(Watch(facts()), range(0, 151, 50), spoil=spoil, term_weights=weights(diversity=0.5))
    assert {verdict.id: verdict.state for verdict in told} == {
        "saturated_term:diversity": "resolved",
        "constant_term:diversity": "active",
    }


def test_a_term_that_loses_its_gradient_is_saturated() -> None:
    def spoil(step: int, values: Values) -> Values:
        return {"term/z_loss": 3.3333, "grad/norm/z_loss": 0.0 if step > 50 else 0.2}

    told = run(Watch(facts()), range(0, 151, 50), spoil=spoil, term_weights=weights(z_loss=1e-3))
    assert {(verdict.id, verdict.since_step) for verdict in told} == {("saturated_term:z_loss", 100)}


def test_a_large_gradient_in_range_is_a_matter_of_weight_and_an_unbounded_one_of_scale() -> None:
    drowns = {"term/coherence": 0.4, "grad/ratio/coherence": 6.0, "grad/cos/coherence": 0.1}
    told = run(Watch(facts()), range(0, 151, 50), spoil=lambda s, v: drowns, term_weights=weights(coherence=1.0))
    assert [(verdict.id, verdict.since_step, verdict.last_step) for verdict in told] == [
        ("harmful_term:coherence", 0, 50)
    ]
    remedies = {remedy["label"]: remedy["changes"] for remedy in told[0].remedies}
    assert remedies["Set coherence_weight to 0.017"] == {"coherence_weight": pytest.approx(0.017)}
    unbounded = {"term/z_loss": 55.0, "grad/ratio/z_loss": 12_300.0}
    told = run(Watch(facts()), [0], spoil=lambda step, v: unbounded, term_weights=weights(z_loss=1.0))
    assert [verdict.id for verdict in told] == ["unscaled_term:z_loss"]
    assert told[0].title == "The weighted gradient of z loss is 12,300 times that of the cross-entropy"


def test_remedies_write_numbers_as_a_person_does() -> None:
    assert set_rate("learning_rate", 1e-5, "")["label"] == "Set learning_rate to 0.00001"
    assert set_weight("z_loss", 3e-5, "")["label"] == "Set z_loss_weight to 0.00003"
    back = restore("learning_rate", 2e-5, 1200, "")
    assert back["label"] == "Put the weights of before step 1,200 back, with learning_rate 0.00002"
    for fix in guide_remedies("nan", {"clip_norm": 1.0, "learning_rate": 0.1}):
        assert "e-" not in fix["label"]


def test_a_term_of_the_wrong_size_is_not_called_harmful_too() -> None:
    values, weighted, _ = AT_START["unscaled_term:local_energy"]
    told = run(Watch(facts()), range(0, 201, 50), spoil=lambda s, v: values, term_weights=weights(**weighted))
    assert [verdict.id for verdict in told] == ["unscaled_term:local_energy"]


def test_a_term_against_the_loss_is_harmful_and_one_scattered_measurement_is_not() -> None:
    def against(step: int, values: Values) -> Values:
        wrong = step in (50, 150, 200)
        return {"term/dominance": 0.9, "grad/ratio/dominance": 0.7, "grad/cos/dominance": -0.8 if wrong else 0.0}

    told = run(Watch(facts()), range(0, 301, 50), spoil=against, term_weights=weights(dominance=1.0))
    assert [(verdict.id, verdict.state, verdict.since_step, verdict.last_step) for verdict in told] == [
        ("harmful_term:dominance", "active", 150, 200),
        ("harmful_term:dominance", "resolved", 150, 200),
    ]


def test_terms_of_the_mean_prediction_make_accumulation_inexact() -> None:
    inexact = {"accumulation/error": 0.2}
    assert run(Watch(facts()), [0], spoil=lambda s, v: inexact, term_weights=weights(diversity=0.3)) == []
    assert names(run(Watch(facts()), [0], spoil=lambda step, v: inexact)) == {"lost_accumulation"}


def test_taking_the_weight_away_resolves_what_was_said_about_the_term() -> None:
    watch = Watch(facts())
    wrong = {"energy/sign/local_energy": -1.0}
    run(watch, [0], spoil=lambda step, v: wrong, term_weights=weights(local_energy=0.02))
    [verdict] = run(watch, [1])
    assert (verdict.id, verdict.state, verdict.remedies) == ("wrong_sign:local_energy", "resolved", [])
    told = run(watch, [100], spoil=lambda step, v: wrong, term_weights=weights(local_energy=0.02))
    assert [(one.id, one.state, one.since_step) for one in told] == [("wrong_sign:local_energy", "active", 100)]


# Phases


def test_aligned_phases_need_two_measurements_and_withdraw_the_half_circle() -> None:
    def spoil(step: int, values: Values) -> Values:
        share = min(1.0, step / 60)
        aligned = {"phase/R": 0.4 + 0.59 * share, "phase/dimension_variance": 0.6 - 0.59 * share}
        return {**aligned, "phase/coverage": 0.2 if step >= 60 else 1.0}

    told = run(Watch(facts()), range(0, 141, 20), spoil=spoil, term_weights=weights(stability=5.0))
    assert [(verdict.id, verdict.since_step, verdict.last_step) for verdict in told] == [("aligned_phases", 60, 80)]
    assert told[0].remedies[0]["changes"] == {"stability_weight": 0.25}


def test_coherence_without_loss_of_variety_is_healthy() -> None:
    ordered = {"phase/R": 0.97, "phase/dimension_variance": 0.4}
    assert run(Watch(facts()), range(0, 101, 20), spoil=lambda step, v: ordered) == []


def test_a_dying_imaginary_channel_is_named_once_and_not_as_a_half_circle() -> None:
    def spoil(step: int, values: Values) -> Values:
        kept = 0.01 ** min(1.0, step / 60)
        return {"phase/im_re_ratio": kept**2, "phase/coverage": 0.4 if step >= 20 else 1.0}

    told = run(Watch(facts()), range(0, 141, 20), spoil=spoil)
    assert [(verdict.id, verdict.since_step, verdict.last_step) for verdict in told] == [("dead_imaginary", 20, 40)]
    assert "down from 100 %" in told[0].title


def test_one_token_everywhere_makes_hidden_states_alike_without_a_fault_of_the_stack() -> None:
    padded = {"geometry/mean_cosine": 0.7, "geometry/effective_rank": 0.1, "data/target_top1_share": 0.79}
    assert names(run(Watch(facts()), [0], spoil=lambda step, v: padded)) == {"padding_targets"}


def test_alike_hidden_states_in_mid_run_are_not_called_a_rank_collapse() -> None:
    assert run(Watch(facts()), range(0, 61, 20), spoil=lambda s, v: {"geometry/mean_cosine": 0.9} if s else None) == []


def test_hidden_states_that_stay_one_on_the_plateau_are_a_rank_collapse_after_two_measurements() -> None:
    def told(loss: float, spent: float, **known: float | None) -> list[Verdict]:
        def spoil(step: int, values: Values) -> Values:
            alike = {"geometry/mean_cosine": 0.99, "geometry/effective_rank": 0.02} if step >= 20 else {}
            return {**alike, "term/ce": loss, "optim/lr_sum": spent * step}

        return run(Watch(facts(**known)), range(0, 361, 20), spoil=spoil)

    verdict = first(told(4.4, 0.01), "rank_collapse")
    assert (verdict.since_step, verdict.last_step, verdict.evidence["role"]) == (300, 320, "symptom")
    assert "rank_collapse" not in names(told(4.4, 0.0001)), "every model passes through this on its way out"
    assert "rank_collapse" not in names(told(3.0, 0.01)), "states that tell tokens apart well enough for this loss"
    assert "rank_collapse" not in names(told(4.4, 0.01, bigram=4.4, trigram=4.43, generator=None)), (
        "a text in which one prediction is the best"
    )


def test_hidden_states_around_a_common_bias_are_no_rank_collapse() -> None:
    def told(cosine: float, rank: float, **known: float | None) -> set[str]:
        alike = {"geometry/mean_cosine": cosine, "geometry/effective_rank": rank}
        return names(run(Watch(facts(**known)), [0], spoil=lambda step, v: alike))

    assert told(0.95, 0.35) == set(), "PyTorch's default biases over small embeddings"
    assert told(0.87, 0.04) == {"rank_collapse"}
    assert told(0.6, 0.06, unigram=1.4, bigram=1.39, trigram=1.38, generator=None) == set(), (
        "four letters span four directions"
    )


def test_a_term_that_pulls_against_the_loss_at_the_last_hidden_state_is_harmful() -> None:
    """Measured oftener than over all parameters; each scope counts its own measurements."""

    def spoil(scopes: tuple[str, ...]) -> dict[str, float]:
        return {
            f"{scope}/{kind}/diversity": value for scope in scopes for kind, value in (("ratio", 1.0), ("cos", -0.9))
        }

    both = Watch(facts())
    told = both.observe(0, spoil(("grad",)), {"ce": 1.0, "diversity": 0.5})
    told += both.observe(10, spoil(("hidden",)), {"ce": 1.0, "diversity": 0.5})
    assert told == [], "one measurement of each"
    [verdict] = both.observe(20, spoil(("hidden",)), {"ce": 1.0, "diversity": 0.5})
    assert (verdict.id, verdict.since_step) == ("harmful_term:diversity", 10)


def test_a_term_whose_pull_turns_against_the_loss_is_harmful_at_the_first_measurement() -> None:
    """A doubling ratio with a falling cosine is a ramp; a steady pull of the same size is not."""

    def measured(ratio: float, cosine: float) -> dict[str, float]:
        return {"grad/ratio/diversity": ratio, "grad/cos/diversity": cosine}

    ramp, steady = Watch(facts()), Watch(facts())
    weights = {"ce": 1.0, "diversity": 0.5}
    for step, ratio, cosine in ((0, 0.05, 0.0), (10, 0.1, -0.1)):
        assert ramp.observe(step, measured(ratio, cosine), weights) == []
    [verdict] = ramp.observe(20, measured(0.3, -0.3), weights)
    assert (verdict.id, verdict.since_step, verdict.evidence["raised_at"]) == ("harmful_term:diversity", 20, 20)
    for step in range(0, 60, 10):
        assert steady.observe(step, measured(0.3 + 0.02 * step / 10, -0.3), weights) == []


def test_a_hinge_that_is_met_on_the_measured_rows_is_at_rest_whatever_the_batch_says() -> None:
    watch, weights = Watch(facts()), {"ce": 1.0, "entropy_floor": 0.1}
    for step, norm in ((0, 0.4), (10, 0.2), (20, 0.0), (30, 0.1), (40, 0.0)):
        values = {"grad/norm/entropy_floor": norm, "grad/value/entropy_floor": norm, "term/entropy_floor": 0.02}
        assert watch.observe(step, values, weights) == []


# Tokens


def test_padding_that_wins_is_an_end_of_sequence_collapse() -> None:
    def spoil(step: int, values: Values) -> Values:
        predicted = min(0.999, 0.79 + step / 300)
        return {"tokens/predicted_eos": predicted, "tokens/target_eos": 0.79, "tokens/mutual_information": 0.1}

    told = run(Watch(facts()), range(0, 101, 10), spoil=spoil)
    verdict = first(told, "eos_collapse")
    assert (verdict.since_step, verdict.last_step) == (40, 50)


def test_a_frequent_end_on_the_plateau_is_no_collapse_but_after_it_is() -> None:
    def spoil(step: int, values: Values) -> Values:
        if step % 10:
            return {}
        return {"tokens/predicted_eos": 0.9 if step <= 30 or step >= 200 else 0.03, "tokens/target_eos": 0.1}

    told = run(Watch(facts()), range(301), spoil=spoil)
    assert [(verdict.id, verdict.since_step, verdict.last_step) for verdict in told][:1] == [("eos_collapse", 200, 220)]


def test_stuck_on_the_plateau_and_out_of_it() -> None:
    def spoil(step: int, values: Values) -> Values:
        late = step >= 400
        information = {"tokens/mutual_information": 2.0 if late else 0.05} if step % 10 == 0 else {}
        return {"term/ce": 2.0 if late else 4.4, "optim/lr_sum": 1e-3 * step, **information}

    told = run(Watch(facts()), range(461), spoil=spoil)
    assert [(one.id, one.state, one.since_step) for one in told if one.state == "resolved" or one.last_step < 320] == [
        ("stuck", "active", 300),
        ("stuck", "resolved", 300),
    ]
    short = facts(controls={"steps": 200, "learning_rate": 3e-3})
    told = run(Watch(short), range(180), spoil=lambda s, v: spoil(s, v) | {"optim/lr_sum": 1e-2 * s})
    assert [(one.id, one.state, one.since_step) for one in told][:1] == [("stuck", "active", 150)], "most of its plan"


def test_a_text_without_a_plateau_is_not_said_to_keep_a_run_on_it() -> None:
    def told(bigram: float, trigram: float) -> set[str]:
        idle = {"term/ce": 1.39, "optim/lr_sum": 1.0, "optim/planned_lr_sum": 0.01, "tokens/mutual_information": 0.01}
        watch = Watch(facts(unigram=1.4, bigram=bigram, trigram=trigram, generator=None))
        return names(run(watch, range(360), spoil=lambda step, v: idle))

    assert told(1.41, 1.45) == set(), "random letters at their optimum"
    assert told(1.2, 0.9) == {"stuck"}


def test_units_that_a_text_without_context_does_not_need_are_no_loss() -> None:
    def told(trigram: float) -> set[str]:
        watch = Watch(facts(unigram=1.4, bigram=1.4, trigram=trigram, generator=None))
        return names(run(watch, range(201), spoil=lambda step, v: {"weights/dead_share": 0.0 if step < 50 else 0.3}))

    assert "unused_weights" not in told(1.41)
    assert "unused_weights" in told(0.5)


def test_a_small_room_asks_for_little_information() -> None:
    def spoil(step: int, values: Values) -> Values:
        return {"term/ce": 1.16, "optim/lr_sum": 1.0, "tokens/mutual_information": 0.17}

    known = {"unigram": 1.4, "bigram": 1.2, "trigram": 1.0, "generator": None}
    assert run(Watch(facts(**known)), range(360), spoil=spoil) == [], "more than a third of the .4 nats there are"


def test_too_little_planned_learning_says_how_many_steps_would_do() -> None:
    controls = {"learning_rate": 3e-3, "steps": 10}
    told = run(Watch(facts(controls=controls)), [0], spoil=lambda s, v: {"optim/planned_lr_sum": 0.02})
    assert told[0].remedies[0]["changes"] == {"steps": 67}
    slow = run(Watch(facts(controls={"learning_rate": 1e-4})), [0], spoil=lambda s, v: {"optim/planned_lr_sum": 0.015})
    assert slow[0].remedies[0]["changes"] == {"learning_rate": 1.3e-3}


def test_a_low_plan_is_no_trouble_for_a_run_that_has_left_the_plateau() -> None:
    """A fork of a healthy run, with a schedule that ends low: its own numbers show that the context is used."""
    watch = Watch(facts())
    run(watch, range(201))
    assert watch.active == []
    assert watch.observe(202, {"optim/planned_lr_sum": 0.01}, weights()) == []
    fresh = Watch(facts())  # the memory of a parent that had no detectors: only the newest numbers are known
    told = fresh.observe(200, {"tokens/mutual_information": 3.77, "term/ce": 0.75}, weights())
    told += fresh.observe(201, {"optim/planned_lr_sum": 0.01}, weights())
    assert told == []
    copying = Watch(facts())  # before its first step a tied model is informed, at a terrible loss
    copying.observe(0, {"tokens/mutual_information": 3.0, "term/ce": 9.0}, weights())
    assert [one.name for one in copying.observe(0, {"optim/planned_lr_sum": 0.01}, weights())] == ["stuck"]


def test_a_plan_that_was_too_short_is_forgiven_once_the_plateau_is_left() -> None:
    told = run(Watch(facts()), range(301), spoil=lambda s, v: {"optim/planned_lr_sum": 0.02} if s == 0 else {})
    assert [(one.name, one.state) for one in told] == [("stuck", "active"), ("stuck", "resolved")]
    assert told[1].title.startswith("The run stayed on the plateau, up to step")


def test_the_title_of_a_low_plan_does_not_speak_of_a_plateau_that_was_left() -> None:
    low = {"optim/planned_lr_sum": 0.02, "optim/lr_sum": 0.3}
    [told] = Watch(facts()).observe(0, low, weights())
    assert told.title == "The planned steps may be too few: Σ learning rate is 0.02, runs of this width needed 0.05"
    assert (told.evidence["role"], told.evidence["grade"]) == ("cause", "note")


def test_one_prediction_everywhere_is_the_best_of_a_text_whose_context_gives_nothing() -> None:
    """Random letters at their optimum, against a text of stories."""

    def is_told(**known: Any) -> bool:
        verdicts = run(Watch(facts(**known)), range(101), spoil=lambda step, v: {"tokens/row_variance": 1e-12})
        return "context_ignored" in names(verdicts)

    assert not is_told(unigram=1.386, bigram=1.386, trigram=1.385, generator=None)
    assert is_told()


def _samples(loop: float, loss: float) -> Mapping[int, Values]:
    spoken = {step: {"generation/repetition": loop, "generation/distinct_2": 0.1} for step in (50, 100, 150, 200)}
    losses = {step: {"eval/ce": healthy_loss(step) if step < 100 else loss} for step in (0, 50, 100, 150, 200)}
    return {step: {**spoken.get(step, {}), **losses[step]} for step in losses}


def test_loops_count_only_when_word_pairs_beat_the_loss() -> None:
    def told(loop: float, loss: float, **known: Any) -> list[tuple[str, int]]:
        samples = _samples(loop, loss)
        verdicts = run(Watch(facts(**known)), range(201), spoil=lambda step, v: samples.get(step))
        # told again when what may explain it changes
        found = [(verdict.name, verdict.since_step) for verdict in verdicts if verdict.name == "repetition"]
        return list(dict.fromkeys(found))

    assert told(0.9, 2.4) == [("repetition", 100)]
    assert told(0.9, 1.9) == []
    assert told(0.2, 2.4) == []
    assert told(0.9, 2.4, bigram=None) == []


def test_a_number_that_is_not_finite_is_named_and_resolved_after_the_resume() -> None:
    watch = Watch(facts(fault="N1"))
    run(watch, range(40), term_weights=weights(z_loss=1e-3))
    verdict = watch.failure(40, ["z_loss"], "the loss is not finite")
    assert (verdict.id, verdict.since_step, verdict.state) == ("nonfinite", 40, "active")
    assert "z_loss" in verdict.title
    assert [remedy["changes"] for remedy in verdict.remedies] == [
        {"fault": ""},
        {"z_loss_weight": 0.0},
        {"learning_rate": pytest.approx(3e-4)},
    ]
    told = run(watch, range(40, 60))
    assert [(one.id, one.state) for one in told] == [("nonfinite", "resolved")]


def test_a_failure_without_a_known_term_keeps_the_message() -> None:
    verdict = Watch(facts(controls={})).failure(7, [], "the gradient is not finite")
    assert "the gradient is not finite" in verdict.title
    assert verdict.remedies
