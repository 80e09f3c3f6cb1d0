"""Cause and symptom apart: what a symptom follows from, what rules a cause out, what is in transition or offered."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from qcore.detect import RULES, Facts, Verdict, Watch, clears_of
from qcore.detect.causes import GRADES, ROLES, grade_of, role_of
from qcore.detect.remedies import MEASURED, offered, that_change
from qcore.detect.table.explanations import EXPLAINED_BY
from tests.detect.streams import Values, facts, run, weights

KNOWN = {rule.name: rule for rule in RULES}


def told_by(watch: Watch, step: int, **values: float) -> dict[str, Verdict]:
    told = watch.observe(step, {name.replace("__", "/"): value for name, value in values.items()}, weights())
    return {one.id: one for one in told}


def ended(step: int, values: Values) -> Values:
    """From step 200 on every position is predicted to be the end."""
    return {"tokens/predicted_eos": 0.95} if step >= 200 and step % 10 == 0 else {}


def active(watch: Watch, name: str) -> Verdict:
    return next(one for one in watch.active if one.id == name)


def test_the_table_of_causes_holds_together() -> None:
    for rule in RULES:
        assert (rule.role in ROLES, rule.grade in GRADES) == (True, True), rule.name
        assert (rule.name in EXPLAINED_BY) == bool(rule.explained_by), rule.name
        assert rule.role == "cause" or rule.explained_by, f"{rule.name}: a symptom of nothing"
        assert rule.name not in rule.explained_by
        for clear in clears_of(rule):
            assert bool(clear.series) != bool(clear.fact)
            assert {clear.low, clear.high} - {""} <= set(rule.thresholds), rule.name
            assert clear.low or clear.high
            assert not clear.series or rule.keeps_series(clear.series)
    assert {rule for rule, _ in MEASURED} <= set(KNOWN)


def test_a_symptom_says_what_was_ruled_out_by_which_number_and_what_nobody_measured() -> None:
    watch = Watch(facts())
    run(watch, range(231), spoil=ended)
    found = active(watch, "eos_collapse")
    assert found.title.endswith("; cause not found")
    assert (found.evidence["role"], found.evidence["grade"], found.evidence["causes"]) == ("symptom", "broken", [])
    padding = next(one for one in found.evidence["ruled_out"] if one["name"] == "padding_targets")
    assert (padding["value"], padding["limit"], padding["side"], padding["step"]) == (0.09, 0.4, "at most", 0)
    nothing = next(one for one in found.evidence["ruled_out"] if one["name"] == "harmful_term")
    assert nothing["value"] == 0.0, "no term but the cross-entropy has a weight"
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)
    bare = Watch(facts())
    run(bare, range(231), spoil=bare_values)
    missing = active(bare, "eos_collapse").evidence["not_measured"]
    assert {"name", "title", "series", "label"} == set(missing[0])
    assert "padding_targets" in {one["name"] for one in missing}


def bare_values(step: int, values: Values) -> Values:
    """Nothing but what the end's share needs, and a loss that arms the rules."""
    values.clear()
    share = {"tokens/predicted_eos": 0.95 if step >= 200 else 0.03, "tokens/target_eos": 0.03}
    return {"term/ce": 1.0, **({**share, "tokens/mutual_information": 3.0} if step % 10 == 0 else {})}


def test_a_cause_that_is_found_later_is_told_on_the_card_and_takes_the_remedies_over() -> None:
    watch = Watch(facts())
    run(watch, range(231), spoil=ended)
    assert active(watch, "eos_collapse").remedies
    told = told_by(watch, 231, data__target_top1_share=0.8)
    assert set(told) == {"padding_targets", "eos_collapse"}, "the symptom is told again"
    symptom = told["eos_collapse"]
    assert symptom.title.endswith("follows from “Padding counts as a target”")
    assert [(one["id"], one["active"]) for one in symptom.evidence["causes"]] == [("padding_targets", True)]
    assert symptom.remedies == []
    assert told["padding_targets"].remedies
    # and once the cause is mended, the symptom says that it is, and since it goes on, offers its own again
    told = told_by(watch, 232, data__target_top1_share=0.1)
    assert told["padding_targets"].state == "resolved"
    assert told["eos_collapse"].title.endswith("followed from “Padding counts as a target”, which is over")
    assert told["eos_collapse"].remedies
    other = Watch(facts())
    other.restore(json.loads(json.dumps(watch.state())))
    assert other.active == watch.active


def test_a_cause_in_the_same_call_is_named_whatever_the_order_of_the_rules() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "learning_rate", "old": 3e-3, "new": 0.5})
    told = []
    for step in range(201, 206):
        told += watch.observe(step, {"term/ce": 9.0, "train/grad_norm": 8.0, "train/lr": 0.5}, weights())
    assert [one.id for one in told][:2] == ["token_collapse", "raised_rate"]
    assert told[0].title.endswith("follows from “The learning rate was raised too far”")
    assert told[1].title.startswith("The learning rate was raised from 0.003 to 0.5 at step 200")
    assert [one["kind"] for one in told[1].remedies] == ["restore", "set"]
    assert all(one["changes"] == {"learning_rate": pytest.approx(3e-3)} for one in told[1].remedies)


def test_a_raise_that_does_no_harm_and_a_collapse_without_a_raise_are_no_raised_rate() -> None:
    watch = Watch(facts())
    run(watch, range(201))
    watch.note_event(200, "control", {"name": "learning_rate", "old": 1e-3, "new": 9e-3})
    assert run(watch, range(201, 260)) == []
    late = Watch(facts())
    run(late, range(301))
    late.note_event(200, "control", {"name": "learning_rate", "old": 1e-3, "new": 9e-3})
    told = [one for step in range(301, 320) for one in late.observe(step, {"term/ce": 9.0}, weights())]
    assert {one.id for one in told} == {"token_collapse", "loss_spike"}


def test_weights_that_died_are_a_symptom_and_weights_that_nothing_reads_a_cause() -> None:
    born, died = Watch(facts()), Watch(facts())
    assert told_by(born, 0, weights__dead_share=0.4)["unused_weights"].evidence["role"] == "cause"
    told_by(died, 0, weights__dead_share=0.01)
    found = told_by(died, 50, weights__dead_share=0.4)["unused_weights"]
    assert found.evidence["role"] == "symptom"
    assert "lost their gradient" in found.title


@pytest.mark.parametrize("series", ["batch/dependence", "phase/coverage"])
def test_between_its_limits_a_finding_is_in_transition(series: str) -> None:
    bad, between, well = {"batch/dependence": (0.5, 5e-5, 0.0), "phase/coverage": (0.4, 0.6, 0.9)}[series]
    watch = Watch(facts())
    name = series.replace("/", "__")
    [found] = told_by(watch, 0, **{name: bad}).values()
    told_by(watch, 10, **{name: between})
    [moving] = watch.refreshed_verdicts()
    assert (moving.state, moving.evidence["moving"], moving.last_step, moving.title) == ("active", True, 0, found.title)
    assert (moving.evidence["now"]["step"], moving.evidence["now"]["numbers"][0]["value"]) == (10, between)
    other = Watch(facts())
    other.restore(json.loads(json.dumps(watch.state())))
    assert other.active == watch.active == [moving]
    told_by(watch, 20, **{name: well})
    [over] = told_by(watch, 30, **{name: well}).values()
    assert (over.state, "now" in over.evidence) == ("resolved", False)


def test_a_text_that_never_ends_is_no_recovery_from_one_that_ends_at_once() -> None:
    def never(step: int, values: Values) -> Values:
        share = 0.95 if 200 <= step < 250 else 0.0
        return {"tokens/predicted_eos": share} if step >= 200 and step % 10 == 0 else {}

    watch = Watch(facts())
    run(watch, range(400), spoil=never)
    assert active(watch, "eos_collapse").evidence["moving"] is True


@pytest.mark.parametrize(
    ("known", "values"),
    [
        # the context carries 3.77 nats: nothing to leave
        ({}, {"tokens/mutual_information": 3.77, "term/ce": 0.7, "optim/lr_sum": 0.5}),
        # information is not what is measured well, but the loss is below token frequencies
        ({}, {"tokens/mutual_information": 0.1, "term/ce": 3.0, "optim/lr_sum": 0.5}),
        # random letters at their optimum: there is no room
        (
            {"unigram": 1.386, "bigram": 1.387, "trigram": 1.4, "generator": None},
            {"tokens/mutual_information": 0.01, "term/ce": 1.386, "optim/lr_sum": 0.5},
        ),
        # little room, and half of it is used
        (
            {"unigram": 1.386, "bigram": 1.0, "trigram": 0.98, "generator": None},
            {"tokens/mutual_information": 0.2, "term/ce": 1.19, "optim/lr_sum": 0.5},
        ),
    ],
)
def test_a_run_that_uses_what_there_is_of_its_context_is_not_stuck(known: dict[str, Any], values: Values) -> None:
    watch = Watch(facts(**known))
    told = [one for step in range(100, 160, 10) for one in watch.observe(step, values, weights())]
    assert "stuck" not in {one.id for one in told}


def test_stuck_offers_no_rate_below_the_one_that_is_used() -> None:
    for rate, changes in ((0.01, []), (1e-3, [{"learning_rate": pytest.approx(3e-3)}])):
        watch = Watch(facts(controls={"learning_rate": rate, "lr_policy": "constant"}))
        stays = {"tokens/mutual_information": 0.05, "term/ce": 4.4, "optim/lr_sum": 0.5}
        for step in range(300, 330, 10):
            watch.observe(step, stays, weights())
        found = active(watch, "stuck")
        assert [one["changes"] for one in found.remedies if one["kind"] == "set"] == changes
        assert (found.evidence["role"], found.evidence["grade"]) == ("symptom", "weak")


def test_a_wide_model_needs_less_of_the_rate() -> None:
    for width, found in ((64, {"stuck"}), (512, set())):
        assert set(told_by(Watch(facts(width=width)), 0, optim__planned_lr_sum=0.02)) == found


def test_smoothed_labels_at_rest_with_the_loss_are_no_harm() -> None:
    values = {"grad/ratio/label_smoothing": 1.0, "grad/cos/label_smoothing": -0.97, "term/label_smoothing": 3.0}
    watch = Watch(facts())
    told = [one for step in range(0, 60, 10) for one in watch.observe(step, values, weights(label_smoothing=0.3))]
    assert told == []


def test_a_text_that_the_vocabulary_does_not_know_is_not_called_padding() -> None:
    unknown = facts(data={"held_out_unknown_share": 0.6, "unknown_share": 0.6})
    told = told_by(Watch(unknown), 0, data__target_top1_share=0.6, data__pad_is_target=0.0, optim__planned_lr_sum=0.6)
    assert set(told) == {"unknown_tokens"}


def test_only_remedies_that_change_something_and_were_not_useless_are_offered() -> None:
    one = {"label": "x", "why": "", "kind": "set", "changes": {"learning_rate": 3e-3}}
    packed = {**one, "kind": "new_run", "changes": {"packing": "packed"}}
    stop = {**one, "kind": "stop", "changes": {}}
    kept = that_change([one, packed, stop], {"learning_rate": 3e-3}, {"packing": "packed"})
    assert kept == [stop]
    assert that_change([one, packed], {"learning_rate": 1e-3}, {"packing": "padded"}) == [one, packed]
    [shown] = offered("of_a_stranger", [one])
    assert shown["tried"] is None


def test_a_remedy_that_has_been_done_is_not_offered_at_the_next_look() -> None:
    watch = Watch(facts(controls={"label_shift": 0}))
    told = told_by(watch, 0, shift__targets_are_inputs=1.0)["unshifted_labels"]
    assert {"label_shift": 1} in [one["changes"] for one in told.remedies]
    watch.note_event(1, "control", {"name": "label_shift", "old": 0, "new": 1})
    told_by(watch, 5, shift__targets_are_inputs=1.0)
    [again] = watch.refreshed_verdicts()
    assert {"label_shift": 1} not in [one["changes"] for one in again.remedies]


def test_findings_of_earlier_versions_take_role_and_grade_of_their_rules() -> None:
    assert (role_of("flicker", {}), grade_of("flicker", {"grade": 5})) == ("symptom", "weak")
    assert (role_of("of_a_stranger", {}), grade_of("of_a_stranger", None)) == ("cause", "broken")
    watch = Watch(facts())
    run(watch, range(231), spoil=ended)
    old = json.loads(json.dumps(watch.state()))
    for case in old["cases"].values():
        for name in ("role", "grade", "causes", "now"):
            del case[name]
    later = Watch(facts())
    later.restore({**old, "version": 2})
    assert [(one.id, one.evidence["role"]) for one in later.active] == [("eos_collapse", "symptom")]


def test_names_of_rules_that_no_table_has_are_passed_over() -> None:
    known = {rule.name for rule in RULES}
    watch = Watch(Facts("transformer", 10, 8, 1, unigram=4.45, bigram=2.2))
    run(watch, range(231), spoil=ended)
    for found in watch.active:
        for kind in ("causes", "ruled_out", "open", "not_measured"):
            assert {one["name"] for one in found.evidence.get(kind, ())} <= known
