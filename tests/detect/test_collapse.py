"""Collapses in mid-run are named early; healthy runs, with all their transients and changes, stay silent."""

from typing import Any

import numpy as np
import pytest

from qcore.detect import Verdict, Watch
from tests.detect.streams import Values, facts, first, healthy, healthy_loss, names, run, weights


def active_at(told: list[Verdict]) -> int:
    """The step at which token_collapse was first told."""
    return first(told, "token_collapse").last_step


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_run_is_silent(seed: int) -> None:
    assert run(Watch(facts()), range(401), seed=seed) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_of_scattered_batches_is_silent(seed: int) -> None:
    """Losses that scatter by a quarter of a nat from batch to batch, as of documents of different kinds."""
    assert run(Watch(facts()), range(1500), seed=seed, noise=0.25) == []


def test_unknown_references_and_series_are_no_trouble() -> None:
    bare = facts(unigram=None, bigram=None, trigram=None, generator=None, term_ranges={}, controls={})
    told = run(Watch(bare), range(201), spoil=lambda step, v: {"video/divergence": 9e9, "term/unheard_of": -1e9})
    assert told == []


def test_values_that_are_not_finite_say_that_and_nothing_else() -> None:
    nothing = {"causality/leak": float("nan"), "train/grad_norm": float("inf"), "tokens/mutual_information": np.nan}
    assert names(run(Watch(facts()), range(100), spoil=lambda step, v: nothing)) == {"nonfinite_series"}


def _jump(step: int, values: Values) -> Values | None:
    """A learning rate of 0.5 from step 200 on: within three steps the loss is far above the start's."""
    if step <= 200:
        return None
    loss = min(12.0, 0.8 + 3.0 * (step - 200))
    broken = {"term/ce": loss, "train/loss": loss, "train/grad_norm": 8.0, "train/lr": 0.5}
    if step % 10 == 0:
        broken |= {"tokens/mutual_information": 0.0, "tokens/top1_share": 1.0}
    return broken


def test_a_learning_rate_jump_is_named_within_a_few_steps_with_the_way_back() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "learning_rate", "old": 3e-3, "new": 0.5})
    told = run(watch, range(201, 231), spoil=_jump)
    verdict = first(told, "token_collapse")
    assert verdict.since_step == 201
    assert verdict.last_step <= 205
    assert verdict.remedies == [], "the cause has them"
    cause = first(told, "raised_rate")
    assert (cause.since_step, cause.evidence["raised_at"]) == (201, verdict.last_step)
    [change] = [remedy for remedy in cause.remedies if remedy["kind"] == "set"]
    assert change["changes"] == {"learning_rate": pytest.approx(3e-3)}
    assert "checkpoint from before step 201" in change["why"]


def test_under_a_manual_policy_the_manual_rate_is_set() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "manual_learning_rate", "old": 1e-3, "new": 0.05})
    watch.note_event(200, "control", {"name": "lr_policy", "old": "cosine", "new": "manual"})
    told = run(watch, range(201, 231), spoil=_jump)
    changes = [remedy["changes"] for remedy in first(told, "raised_rate").remedies]
    assert {"manual_learning_rate": pytest.approx(1e-3)} in changes


def _ramp(step: int, values: Values) -> Values | None:
    """A collapse that creeps in from step 200 on: the loss climbs by 0.01 nats a step, one token takes over at 300."""
    if step <= 200:
        return None
    share = min(1.0, (step - 200) / 150)
    loss = healthy_loss(200) + 0.01 * (step - 200)
    worse = {"term/ce": loss, "train/loss": loss, "train/grad_norm": 0.6 * (1 + 3 * share)}
    if step % 10 == 0:
        worse |= {"tokens/mutual_information": 3.4 * (1 - share), "tokens/top1_share": 0.09 + 0.6 * share}
    return worse


@pytest.mark.parametrize("seed", range(5))
def test_a_creeping_collapse_is_named_long_before_one_token_wins(seed: int) -> None:
    told = run(Watch(facts()), range(301), spoil=_ramp, seed=seed)
    assert names(told) == {"token_collapse"}
    assert active_at(told) <= 250  # the top share passes one half at step 303


def test_one_token_that_wins_is_named_when_nothing_else_moves() -> None:
    def spoil(step: int, values: Values) -> Values | None:
        return {"tokens/top1_share": 0.85} if step >= 200 and step % 10 == 0 else None

    told = run(Watch(facts()), range(301), spoil=spoil)
    assert (first(told, "token_collapse").since_step, active_at(told)) == (200, 210)
    assert "85 %" in told[0].title


def test_lost_information_is_named_when_nothing_else_moves() -> None:
    def spoil(step: int, values: Values) -> Values | None:
        return {"tokens/mutual_information": 1.5} if step >= 200 and step % 10 == 0 else None

    told = run(Watch(facts()), range(301), spoil=spoil)
    assert (first(told, "token_collapse").since_step, active_at(told)) == (200, 210)


def test_a_gradient_that_grows_while_the_loss_falls_is_learning() -> None:
    def spoil(step: int, values: Values) -> Values | None:
        return {"train/grad_norm": 2.5} if step >= 200 else None

    assert run(Watch(facts()), range(301), spoil=spoil) == []


def test_hidden_states_that_grow_alike_while_the_loss_grows_are_named() -> None:
    def spoil(step: int, values: Values) -> Values | None:
        if step < 300:
            return None
        alike = {"geometry/mean_cosine": 0.5} if step % 20 == 0 else {}
        return {"term/ce": healthy_loss(step) + 0.25, **alike}

    told = run(Watch(facts()), range(400), spoil=spoil, noise=0.02)
    assert names(told) == {"token_collapse"}
    assert "alike" in told[0].title


def _raised(by: float) -> Any:
    def spoil(step: int, values: Values) -> Values | None:
        return {"term/ce": values["term/ce"] + by} if step > 200 else None

    return spoil


@pytest.mark.parametrize("control", ["label_smoothing", "entropy_floor", "ce_weight", "diversity_weight"])
def test_a_loss_that_moves_because_the_objective_was_changed_is_no_collapse(control: str) -> None:
    watch = Watch(facts())
    told = run(watch, range(201))
    watch.note_event(200, "control", {"name": control, "old": 0.0, "new": 0.4})
    assert told + run(watch, range(201, 401), spoil=_raised(0.6)) == []


def test_a_loss_may_take_some_steps_to_follow_a_change_of_the_objective() -> None:
    def climbs(step: int, values: Values) -> Values | None:
        return {"term/ce": values["term/ce"] + 0.9 * min(1.0, (step - 200) / 30)} if step > 200 else None

    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "entropy_floor", "old": 0.3, "new": 2.0})
    assert run(watch, range(201, 401), spoil=climbs) == []


def test_a_loss_above_token_frequencies_is_a_collapse_whatever_was_changed() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "diversity_weight", "old": 0.0, "new": 5.0})
    told = run(watch, range(201, 230), spoil=_raised(6.0))
    assert (told[0].id, told[0].since_step, told[0].last_step) == ("token_collapse", 205, 210)
    assert "token frequencies" in told[0].title


def test_a_changed_weight_is_noticed_without_its_event() -> None:
    watch = Watch(facts())
    told = run(watch, range(201))
    assert told + run(watch, range(201, 401), spoil=_raised(0.6), term_weights=weights(diversity=0.3)) == []


def test_the_same_rise_without_a_change_of_the_objective_is_a_collapse() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "learning_rate", "old": 3e-3, "new": 6e-3})
    watch.note_event(200, "pause", {})
    assert names(run(watch, range(201, 401), spoil=_raised(0.6))) == {"token_collapse"}


def test_changing_the_objective_does_not_end_a_collapse_that_goes_on() -> None:
    watch = Watch(facts())
    run(watch, range(221), spoil=_jump)
    told = run(watch, range(221, 301), spoil=_jump, term_weights=weights(diversity=0.3))
    assert all(verdict.state == "active" for verdict in told if verdict.name == "token_collapse")
    assert "token_collapse" in names(told)


def test_a_collapse_that_is_over_is_resolved() -> None:
    told = run(Watch(facts()), range(400), spoil=lambda step, v: _jump(step, v) if step < 230 else None)
    states = [verdict.state for verdict in told if verdict.name == "token_collapse"]
    assert states[0] == "active"
    assert states[-1] == "resolved"
    assert states.count("resolved") == 1


def test_nothing_is_lost_before_anything_was_learned() -> None:
    """On the plateau and before it, the same signs are the ordinary start of a run."""

    def spoil(step: int, values: Values) -> Values:
        return {"term/ce": 5.0 if step < 40 else 6.5, "train/grad_norm": 0.5 if step < 40 else 4.0}

    told = run(Watch(facts()), range(100), spoil=spoil)
    assert "token_collapse" not in names(told)


def test_the_synthetic_run_passes_through_the_real_transients() -> None:
    """The healthy stream is a hard one: it copies at first, and one token wins on the plateau."""
    rng = np.random.default_rng(0)
    start, plateau = healthy(0, rng), healthy(20, rng)
    assert start["tokens/mutual_information"] > 1
    assert start["shift/copy_rate"] > 0.8
    assert plateau["tokens/top1_share"] > 0.7
    assert plateau["geometry/mean_cosine"] > 0.5
