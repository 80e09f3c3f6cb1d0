"""The watch as a whole: verdicts that can be stored, hysteresis, restore, bounded memory, cost."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcore import detect
from qcore.config import find_control
from qcore.detect import RULES, Facts, Rule, Verdict, Watch
from qcore.detect.history import CHART_POINTS, History, Track
from qcore.detect.plateau import PlateauDetector
from qcore.detect.rule import is_above, is_below, update_latch
from qcore.probes import catalog
from tests.detect import test_curves
from tests.detect.streams import AT_START, Values, facts, healthy, run, weights

_BAD_DATA = {
    "documents": 360.0,
    "duplicates": 320.0,
    "skipped_share": 0.9,
    "held_out_compared": 36.0,
    "held_out_equal": 30.0,
    "held_out_unknown_share": 0.6,
    "tags_share": 0.4,
    "characters_per_token": 9.0,
}
_IN_PIECES = {
    "held_out_compared": 36.0,
    "contained_share": 0.9,
    "long_runs": 5000.0,
    "held_out_unknown_share": 0.6,
    "spaceless_share": 0.9,
    "by_words": 1.0,
}


def _every_verdict() -> list[Verdict]:
    told = []
    for fault in ("", "L1"):
        for values, weighted, known in AT_START.values():
            watch = Watch(facts(**{**known, "fault": fault}))
            told += run(watch, range(0, 401, 50), spoil=lambda s, v: values, term_weights=weights(**weighted))  # noqa: B023
        told += run(Watch(facts(fault=fault)), range(400), spoil=_broken)
        told += run(Watch(facts(fault=fault, data=_BAD_DATA, skipped=(("a", "is a PNG picture"),))), range(50))
        told += run(Watch(facts(fault=fault, data=_IN_PIECES)), range(50))
        watch = Watch(facts(fault=fault))
        run(watch, range(50))
        told.append(watch.failure(50, ["z_loss", "layers.0.weight"], "the gradient is not finite"))
    for curve, _, _, known, events in test_curves.CASES.values():
        told += test_curves.feed(curve, range(401), known, events)
    return [*told, Watch(facts()).probe_failed(5, "kernels", "ValueError: no heads")]


def _broken(step: int, values: Values) -> Values:
    """Everything that goes wrong in mid-run, one after another."""
    broken: Values = {}
    if step > 120 and step % 20 == 0:
        broken |= {"phase/R": 0.99, "phase/dimension_variance": 0.01, "phase/im_re_ratio": 0.01, "phase/coverage": 0.2}
    if step > 150:
        broken |= {"term/ce": 9.0, "train/grad_norm": 30.0}
        if step % 10 == 0:
            broken |= {"tokens/mutual_information": 0.0, "tokens/predicted_eos": 1.0, "tokens/top1_share": 1.0}
    if step > 0 and step % 50 == 0:
        broken |= {"generation/repetition": 0.9, "eval/ce": 3.0}
        broken |= {"sampler/end_expected": 0.9, "sampler/end_probability": 0.001, "sampler/ended_share": 0.0}
    return broken


def test_evidence_explanations_and_remedies_can_be_stored_and_obeyed() -> None:
    told = _every_verdict()
    assert {verdict.name for verdict in told} >= {rule.name for rule in RULES if "text" in rule.families} - {
        "harmful_term",
        "raised_rate",
    }
    for verdict in told:
        assert json.loads(json.dumps(asdict(verdict), allow_nan=False)) == asdict(verdict)
        over = {"resolved"} if verdict.state == "resolved" else set()
        always = {"numbers", "figure", "raised_at", "role", "grade"}
        known = {"causes", "ruled_out", "open", "not_measured"} if verdict.evidence["role"] == "symptom" else set()
        assert set(verdict.evidence) - {"moving", "shown_at", "now"} == always | over | known
        assert verdict.evidence["raised_at"] >= verdict.since_step
        assert verdict.evidence["numbers"]
        for number in verdict.evidence["numbers"]:
            assert set(number) == {"label", "value", "unit", "limit", "side"}
            assert number["side"] in (("at most", "at least", "above") if number["limit"] is not None else ("",))
            assert isinstance(number["value"], float)
        _check_figure(verdict.evidence["figure"])
        assert re.search(r"\d|lowers", verdict.title)
        assert verdict.since_step <= verdict.last_step
        _check_remedies(verdict)


def _check_figure(figure: dict[str, Any] | None) -> None:
    if figure is None:
        return
    assert set(figure) == {"title", "y_title", "lines", "limit", "side"}
    for line in figure["lines"]:
        assert set(line) == {"name", "steps", "values"}
        assert 2 <= len(line["steps"]) == len(line["values"]) <= CHART_POINTS
        assert line["steps"] == sorted(set(line["steps"]))


def _check_remedies(verdict: Verdict) -> None:
    if verdict.state == "resolved":
        assert verdict.remedies == []
        return
    # what follows from a cause that stands leaves the remedies to it
    explained = any(one["active"] for one in verdict.evidence.get("causes", ()))
    assert (0 if explained else 1) <= len(verdict.remedies) <= 4
    for remedy in verdict.remedies:
        assert set(remedy) == {"label", "why", "kind", "changes"}
        assert remedy["kind"] in ("set", "restore", "pause", "stop", "new_run")
        assert bool(remedy["changes"]) == (remedy["kind"] in ("set", "restore", "new_run"))
        for name, value in remedy["changes"].items():
            control = find_control(name)
            assert control.check(value) == value
            assert control.live or remedy["kind"] == "new_run"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_table_explains_each_rule_in_two_sentences(rule: Rule) -> None:
    assert len(re.findall(r"[.!?](?=\s|$)", rule.explanation)) == 2
    assert rule.explanation.endswith(".")
    assert rule.title
    assert rule.reads
    assert rule.thresholds
    assert all(math.isfinite(value) for value in rule.thresholds.values())
    assert rule.false_alarms


def test_every_rule_has_a_title_in_the_past_tense() -> None:
    assert all(rule.past and rule.past[0].isupper() and "." not in rule.past for rule in RULES)


def test_every_finding_is_held_against_a_limit_that_its_own_numbers_break() -> None:
    """A rule that speaks while all of its numbers are in order contradicts itself."""

    def breaks(number: dict[str, Any]) -> bool:
        value, limit = number["value"], number["limit"]
        return bool(value >= limit if number["side"] == "at most" else value <= limit)

    for verdict in _every_verdict():
        held = [number for number in verdict.evidence["numbers"] if number["limit"] is not None]
        if verdict.state == "active" and held:
            assert any(map(breaks, held)), verdict


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


# Hysteresis


def test_a_value_that_swings_around_its_limit_raises_one_finding() -> None:
    swing = [0.06, 0.04] * 30
    watch, told = Watch(facts()), []
    for step, error in enumerate(swing):
        told += watch.observe(step, {"accumulation/error": error}, weights())
    assert {verdict.state for verdict in told} == {"active"}
    assert len(told) <= 1 + len(swing) // 20  # told again at every tenth measurement above the limit
    assert told[0].since_step == 0
    assert told[-1].last_step > told[0].last_step


def test_an_active_finding_is_told_again_at_every_tenth_measurement() -> None:
    watch = Watch(facts())
    told = [watch.observe(step, {"batch/dependence": 0.5}, weights()) for step in range(31)]
    assert [step for step, verdicts in enumerate(told) if verdicts] == [0, 10, 20, 30]
    assert [verdict.last_step for verdicts in told for verdict in verdicts] == [0, 10, 20, 30]


def test_one_clean_probe_does_not_clear_a_leak_and_two_do() -> None:
    watch = Watch(facts())
    states = []
    for step, leak in enumerate([0.4, 0.0, 0.4, 0.0, 0.0, 0.0, 0.4]):
        states += [
            (step, one.state, one.since_step) for one in watch.observe(step, {"causality/leak": leak}, weights())
        ]
    assert states == [(0, "active", 0), (4, "resolved", 0), (6, "active", 6)]


def test_latches() -> None:
    store: dict[str, Any] = {}
    answers = [
        update_latch(store, "x", step, bad, raise_after=2, clear_after=2)
        for step, bad in enumerate([True, None, True, True, False, None, False, False, True])
    ]
    assert answers == [False, False, False, True, True, True, True, False, False]
    assert store["x"]["since"] == 8
    assert (is_above(2, 1, 0), is_above(0.5, 1, 0), is_above(0, 1, 0)) == (True, None, False)
    assert (is_below(0, 1, 2), is_below(1.5, 1, 2), is_below(2, 1, 2)) == (True, None, False)


# Restore


@pytest.mark.parametrize("at", [0, 19, 133, 158, 200])
def test_a_restored_watch_finds_what_an_undisturbed_one_finds(at: int) -> None:
    weighted = weights(local_energy=0.02)
    whole = Watch(facts())
    expected = run(whole, range(300), spoil=_broken, term_weights=weighted)
    before = Watch(facts())
    told = run(before, range(at), spoil=_broken, term_weights=weighted)
    state = before.state()
    text = json.dumps(state, allow_nan=False)
    after = Watch(facts())
    after.restore(json.loads(text))
    told += run(after, range(at, 300), spoil=_broken, term_weights=weighted)
    assert told == expected
    assert json.dumps(after.state()) == json.dumps(whole.state())
    assert json.dumps(state) == text  # what was saved does not change with the watch that saved it


def test_a_state_of_another_version_is_left_aside() -> None:
    watch = Watch(facts())
    watch.restore({"version": 0, "cases": 3})
    watch.restore({})
    assert run(watch, range(50)) == []


def _damaged(state: dict[str, Any]) -> Iterator[Any]:
    """States that no watch has written, each wrong in one place."""
    yield from (5, None, [], "x")
    for key in state:
        if key != "version":
            yield {name: value for name, value in state.items() if name != key}
            yield {**state, key: "x"}
            yield {**state, key: [5]}
    track = next(iter(state["history"].values()))
    for change in ({"stride": 0}, {"older": 5}, {"recent": [[1]]}, {"count": "x"}, {"recent": [["x", "y"]]}):
        yield {**state, "history": {"term/ce": {**track, **change}}}
    yield {**state, "pulse": {**state["pulse"], "losses": ["x"]}}
    yield {**state, "latest": {"term/ce": "x"}}
    yield {**state, "weights": {"ce": None}}
    yield {**state, "changes": {"learning_rate": {"step": "x", "old": 1, "new": 2}}}
    case = state["cases"]["future_leak"]
    for change in ({"since": "x"}, {"active": 1}, {"report": 5}, {"report": {**case["report"], "numbers": [5]}}):
        yield {**state, "cases": {"future_leak": {**case, **change}}}
    yield {**state, "memories": {"future_leak": 5}}


def test_a_damaged_state_is_refused_whole() -> None:
    watch = Watch(facts())
    run(watch, range(3), spoil=lambda s, v: {"causality/leak": 0.5})
    state = json.loads(json.dumps(watch.state()))
    fresh = Watch(facts())
    before = json.dumps(fresh.state())
    for damaged in _damaged(state):
        with pytest.raises(ValueError, match="memory of the detectors"):
            fresh.restore(damaged)
        assert json.dumps(fresh.state()) == before, damaged
    fresh.restore(state)
    assert json.dumps(fresh.state()) == json.dumps(state)


def test_a_state_with_rules_that_are_gone_is_read() -> None:
    watch = Watch(facts())
    run(watch, [0], spoil=lambda s, v: {"causality/leak": 0.5})
    state = watch.state()
    state["memories"]["of_old"] = {}
    state["cases"]["of_old"] = {**state["cases"]["future_leak"], "rule": "of_old"}
    fresh = Watch(facts())
    fresh.restore(state)
    assert set(fresh.state()["cases"]) == {"future_leak"}


# Memory and cost


def test_history_is_bounded_and_keeps_the_beginning_and_the_end() -> None:
    track = Track()
    for step in range(100_000):
        track.add(step, float(step))
        assert len(track) <= 3 * CHART_POINTS
    line = track.line()
    assert len(line) == CHART_POINTS
    assert line[0] == (0, 0.0)
    assert [step for step, _ in line[-30:]] == list(range(99_970, 100_000))
    assert [step for step, _ in line] == sorted({step for step, _ in line})
    assert max(later - earlier for (earlier, _), (later, _) in pairwise(line)) < 8_000
    assert Track.restore(json.loads(json.dumps(track.state()))).line() == line


def test_a_short_history_is_kept_whole_and_one_point_is_no_chart() -> None:
    history = History()
    history.add("a", 0, 1.0)
    assert history.chart("t", "y", {"a": "a", "missing": "b"}) is None
    for step in range(1, 50):
        history.add("a", step, 1.0)
    history.add("a", 49, 2.0)  # a second measurement of a step replaces the first
    history.add("a", 3, 9.0)  # and one of an earlier step is left out
    figure = history.chart("t", "y", {"a": "a"}, 0.5)
    assert figure is not None
    assert figure["lines"][0]["steps"] == list(range(50))
    assert figure["lines"][0]["values"][-1] == 2.0


def test_a_watch_does_not_grow_with_the_run() -> None:
    watch = Watch(facts())
    sizes = []
    for steps in (range(3000), range(3000, 9000)):
        for step in steps:
            free = {"term/ce": 1.0 + 0.01 * (step % 7), "train/grad_norm": 0.5, "train/loss": 1.0, "train/lr": 1e-3}
            watch.observe(step, {**free, f"unread/{step}": 1.0}, weights())
        sizes.append(len(json.dumps(watch.state())))
    assert sizes[1] < 1.2 * sizes[0]
    assert set(watch.state()["latest"]) == {"term/ce", "train/grad_norm", "train/loss", "train/lr"}


def test_every_series_that_a_detector_names_is_declared_by_a_rule() -> None:
    named = re.compile(r'catalog\.(\w+)(?:\(("\w+"(?:, "\w+")*)\))?')
    found = set()
    for path in Path(detect.__file__).parent.glob("*.py"):
        for name, arguments in named.findall(path.read_text("utf-8")):
            value = getattr(catalog, name)
            if callable(value) and arguments:
                value = value(*json.loads(f"[{arguments}]"))
            if isinstance(value, str) and catalog.find(value):
                found.add(value)
    assert len(found) > 40
    assert {name for name in found if not any(rule.keeps_series(name) for rule in RULES)} == set()


def test_an_ordinary_step_asks_only_the_rules_that_read_it() -> None:
    watch = Watch(facts())
    run(watch, range(100))
    before = watch.evaluations
    for step in range(101, 110):
        free = healthy(step, np.random.default_rng(step))
        watch.observe(step, {**free, "train/step_ms": 10.0, "cost/tokens_ms": 1.0}, weights())
    # token_collapse, unscaled_term, nonfinite, raised_rate; six of the curves, which mostly return at their first line
    assert watch.evaluations - before == 9 * (4 + 6)
    before = watch.evaluations
    watch.observe(110, {"train/step_ms": 10.0, "cost/tokens_ms": 1.0}, weights())
    assert watch.evaluations == before


def test_the_events_kept_are_bounded() -> None:
    watch = Watch(facts())
    for step in range(1000):
        watch.note_event(step, "control", {"name": f"control_{step % 200}", "old": 0, "new": 1})
        watch.note_event(step, "sample", {})
    assert len(watch.state()["changes"]) == 64


# Pulse


def test_a_pulse_needs_a_loss_under_the_unigram_and_information() -> None:
    for loss, information, armed in ((7.0, 3.0, False), (4.4, 0.1, False), (4.4, 0.5, False), (3.0, 1.0, True)):
        pulse = PlateauDetector(4.45)
        for _ in range(10):
            pulse.observe({"term/ce": loss, "tokens/mutual_information": information})
        assert pulse.armed is armed
    unknown = PlateauDetector(None)
    for loss in (7.0, 5.0, 3.0):
        for _ in range(5):
            unknown.observe({"term/ce": loss, "tokens/mutual_information": 1.0})
        assert unknown.armed is (loss == 3.0)


def test_a_curve_that_stays_under_the_unigram_arms_without_any_information() -> None:
    pulse = PlateauDetector(4.45)
    for loss, steps, armed in ((4.4, 40, False), (3.9, 14, False), (4.4, 6, False), (3.9, 20, True)):
        for _ in range(steps):
            pulse.observe({"term/ce": loss})
        assert pulse.armed is armed, loss
    again = PlateauDetector(4.45)
    again.restore({**pulse.state(), "armed": False})
    again.observe({})
    for _ in range(5):
        again.observe({"term/ce": 3.9})
    assert again.armed, "the blocks under it were remembered"
    known, unknown = PlateauDetector(1.4, 0.02), PlateauDetector(None)
    for _ in range(100):
        known.observe({"term/ce": 0.2})
        unknown.observe({"term/ce": 5.0})
    assert not known.armed, "random letters: nothing can be learned from the context"
    for _ in range(49):
        unknown.observe({"term/ce": 2.0})
    assert not unknown.armed
    unknown.observe({"term/ce": 2.0})
    assert unknown.armed, "half of the first loss, for long"


# Replay


def test_facts_need_little() -> None:
    assert Watch(Facts("transformer", 10, 8, 1)).observe(0, {"causality/leak": 1.0}, {})[0].name == "future_leak"


def test_the_last_look_is_the_last_look() -> None:
    """Whatever was told: step, title and numbers are those of the newest measurement that showed it."""
    watch = Watch(facts())
    kept: dict[str, Verdict] = {}
    looks: dict[str, list[int]] = {}

    def keep(step: int, told: list[Verdict]) -> None:
        for verdict in [*told, *watch.refreshed_verdicts()]:
            kept[verdict.id] = verdict
            if verdict.state == "active":
                looks.setdefault(verdict.id, []).append(step)
        for verdict in watch.active:
            assert kept[verdict.id] == verdict

    for step in range(200, 320):
        keep(step, watch.observe(step, {"batch/dependence": 0.5 + step / 1000}, weights()))
    found = kept["batch_dependence"]
    assert found.last_step == 319
    assert looks["batch_dependence"] == list(range(looks["batch_dependence"][0], 320))
    shown = {number["value"] for number in found.evidence["numbers"]}
    assert 0.5 + 319 / 1000 in shown
    assert found.evidence["figure"]["lines"][0]["steps"][-1] == 319
    for step in range(320, 400):
        keep(step, watch.observe(step, {"batch/dependence": 0.0}, weights()))
    over = kept["batch_dependence"]
    assert (over.state, over.last_step) == ("resolved", 319)
    assert over.title.endswith("up to step 319")
    assert over.evidence["resolved"]["was"] == found.title
    assert over.evidence["resolved"]["step"] > 319
    assert watch.refreshed_verdicts() == []


def test_what_a_look_offers_changes_at_every_tenth_only() -> None:
    watch = Watch(facts())
    offered = []
    for step in range(200, 260):
        told = watch.observe(step, {"batch/dependence": 0.6}, weights())
        again = watch.refreshed_verdicts()
        assert not {verdict.id for verdict in told} & {verdict.id for verdict in again}
        offered += [verdict.remedies for verdict in again if verdict.id == "batch_dependence"]
    assert offered
    assert all(remedies == offered[0] for remedies in offered)
