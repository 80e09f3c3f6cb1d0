"""Rules about curves: each kind of trouble is named from a handful of scalars, and runs without it stay silent."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from qcore.detect import Facts, Verdict, Watch, judge_curves
from qcore.detect.curves import restarts_curves

V = 232
EVEN = math.log(V)
Values = dict[str, float]
Curve = Callable[[int, float], Values]
"""What a run measures at a step, given a normal number of that step."""
Events = Sequence[tuple[int, str, Mapping[str, Any]]]


def at(loss: float, held_out: float | None = None, **changes: float) -> Values:
    """One step's scalars."""
    found = {"term/ce": loss, "train/loss": loss, "train/grad_norm": 1.0, "train/lr": 1e-3}
    found |= {name.replace("__", "/"): value for name, value in changes.items()}
    return found if held_out is None else {**found, "eval/ce": held_out}


def feed(curve: Curve, steps: range, known: Mapping[str, Any] | None = None, events: Events = ()) -> list[Verdict]:
    """Everything that a watch tells of a curve; its memory goes through JSON on the way, as in a resumed run."""
    facts = Facts(**{"kind": "transformer", "vocab_size": V, **(known or {})})
    watch, told, noise = Watch(facts), [], np.random.default_rng(0).standard_normal(steps.stop + 1)
    for step in steps:
        for _, kind, payload in [event for event in events if event[0] == step - 1]:
            watch.note_event(step - 1, kind, payload)
        told += watch.observe(step, curve(step, float(noise[step])), {"ce": 1.0})
        if step == steps.stop // 2:
            state = json.loads(json.dumps(watch.state(), allow_nan=False))
            watch = Watch(facts)
            watch.restore(state)
    return told


def raised(told: list[Verdict]) -> dict[str, int]:
    """Step at which each finding was first raised."""
    found: dict[str, int] = {}
    for verdict in told:
        if verdict.state == "active":
            found.setdefault(verdict.name, int(verdict.evidence["raised_at"]))
    return found


def every(step: int, n: int, value: float) -> float | None:
    """The value at every n-th step."""
    return value if step % n == 0 else None


def learned(step: int, lowest: float = 1.0) -> float:
    """A loss that falls from ln V."""
    return lowest + (EVEN - lowest) * math.exp(-step / 40)


def overfit(step: int, z: float) -> Values:
    held_out = 3.0 + (2.4 * (1 - step / 200) ** 2 if step <= 200 else (step - 200) / 200)
    return at(learned(step, 0.05) + 0.03 * z, every(step, 25, held_out))


def spike(step: int, z: float) -> Values:
    fades = math.exp(-(step - 200) / 20) if step >= 200 else 0.0
    return at(learned(step) + 0.05 * z + 3.5 * fades, train__grad_norm=1 + 0.1 * z + 50 * fades)


def gradient_first(step: int, z: float) -> Values:
    return {**spike(step, z), **({"train/grad_norm": 20.0} if 195 <= step < 220 else {})}


def junk(step: int, z: float) -> Values:
    return at(9.0 if 200 <= step < 203 else learned(step) + 0.05 * z, every(step, 25, learned(step)))


def diverging(step: int, z: float) -> Values:
    loss = learned(step) + max(0.0, (step - 200) * 0.02)
    return at(loss + 0.05 * z, every(step, 25, loss))


def train_leak(step: int, z: float) -> Values:
    return at(max(0.08, EVEN - step / 10) + 0.01 * abs(z), every(step, 25, EVEN + step / 100))


def one_batch(step: int, z: float) -> Values:
    return at(6 * math.exp(-step / 30) + 0.03, every(step, 25, EVEN + 0.02 * z))


def scaled(step: int, z: float) -> Values:
    right = EVEN - min(step, 100) / 40
    return at((right + 0.1 * z) * (4 if step else 1), every(step, 25, right))


def rate_gone(step: int, z: float) -> Values:
    return at(learned(step) + 0.05 * z, train__lr=max(0.0, 1e-3 * (1 - step / 100)))


def far_start(step: int, z: float) -> Values:
    loss = 47 * math.exp(-step / 20) + 1
    return at(loss + 0.1 * z, every(step, 25, loss))


def full_rate(step: int, z: float) -> Values:
    return at(learned(step) + 6 * math.exp(-(((step - 12) / 8) ** 2)) + 0.1 * z)


def plateau(step: int, z: float) -> Values:
    loss = 4.45 + math.exp(-step / 20)
    return at(loss + 0.1 * z, every(step, 25, loss))


def resumed(step: int, z: float) -> Values:
    return at(2 + 0.1 * z + (math.exp(-(step - 200) / 20) if step > 200 else 0.0))


def eval_nan(step: int, z: float) -> Values:
    return at(learned(step) + 0.05 * z, every(step, 25, math.nan))


def loss_missing(step: int, z: float) -> Values:
    found = at(learned(step) + 0.05 * z)
    return found if step <= 200 else {name: found[name] for name in ("train/lr", "train/grad_norm")}


CASES: dict[str, tuple[Curve, set[str], int, dict[str, Any], Events]] = {
    "memorised": (overfit, {"overfit"}, 275, {"steps_per_pass": 10.0}, ()),
    "memorised, nobody counts passes": (overfit, {"overfit"}, 275, {}, ()),
    "a spike": (spike, {"loss_spike"}, 213, {}, ()),
    "a spike after its gradient": (gradient_first, {"loss_spike"}, 213, {}, ()),
    "junk": (junk, {"loss_spike"}, 206, {}, ()),
    "divergence": (diverging, {"divergence"}, 330, {}, ()),
    "the target in training's inputs": (
        train_leak,
        {"below_entropy", "gap_at_once", "worse_than_uniform"},
        75,
        {"generator": 0.48, "steps_per_pass": 1000.0},
        (),
    ),
    "one batch for ever": (one_batch, {"gap_at_once"}, 75, {"steps_per_pass": 1000.0}, ()),
    "one batch for ever, nobody counts passes": (one_batch, {"gap_at_once"}, 75, {}, ()),
    "loss times accumulation": (scaled, {"loss_scale"}, 25, {"accumulation": 4}, ()),
    "rate zero": (rate_gone, {"rate_zero_early"}, 125, {"controls": {"steps": 400}}, ()),
    "rate zero, no plan": (rate_gone, {"rate_zero_early"}, 130, {}, ()),
    "a start far off": (far_start, {"first_loss"}, 0, {"starts_level": True}, ()),
    "no warm-up": (full_rate, {"missing_warmup"}, 15, {}, ()),
    "plateau": (plateau, {"worse_than_unigram"}, 300, {"unigram": 4.45, "bigram": 2.2}, ()),
    "optimizer state lost": (resumed, {"resume_jump", "loss_spike"}, 205, {}, [(200, "resume", {})]),
    "held-out loss NaN": (eval_nan, {"nonfinite_series"}, 0, {}, ()),
    "no loss any more": (loss_missing, {"nonfinite_series"}, 230, {}, ()),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_trouble_is_named_from_its_curves(name: str) -> None:
    curve, expected, within, known, events = CASES[name]
    found = raised(feed(curve, range(401), known, events))
    # a model that loses what it had learned is what follows from some of them
    assert set(found) - {"token_collapse"} == expected
    assert min(found.values()) <= within


def healthy(step: int, z: float) -> Values:
    return at(learned(step) + 0.1 * z, every(step, 25, learned(step) + 0.05))


def dropout(step: int, z: float) -> Values:
    return at(learned(step) + 0.8 + 0.1 * z, every(step, 25, learned(step)))


def scattered(step: int, z: float) -> Values:
    return at(learned(step) + 0.3 * abs(z) ** 1.5, every(step, 25, learned(step) + 0.3))


def restarts(step: int, z: float) -> Values:
    """A rate that falls to nothing and starts anew every 100 steps: each time the loss rises by half a nat."""
    place = step % 100
    bump = 0.5 * math.exp(-place / 15) if step >= 100 else 0.0
    rate = 5e-4 * (1 + math.cos(math.pi * place / 100))
    return at(learned(step) + bump + 0.05 * z, every(step, 25, learned(step) + bump), train__lr=rate)


def early_stop(step: int, z: float) -> Values:
    return at(learned(step, 0.4) + 0.05 * z, every(step, 25, learned(step, 1.5)))


def old_start(step: int, z: float) -> Values:
    loss = 24 * math.exp(-step / 25) + 1
    return at(loss + 0.1 * z, every(step, 25, loss))


def optimum(step: int, z: float) -> Values:
    loss = 1.386 + 4 * math.exp(-step / 10)
    return at(loss + 0.02 * z, every(step, 25, loss))


def slow(step: int, z: float) -> Values:
    """A wide model at a small rate: long on the plateau, which it leaves in the end."""
    loss = 4.45 + 1.2 * math.exp(-step / 30) - 0.0015 * max(0, step - 100)
    return at(loss + 0.1 * z, every(step, 25, loss), train__lr=3e-4)


HEALTHY: dict[str, tuple[Curve, dict[str, Any]]] = {
    "plain": (healthy, {"steps_per_pass": 100.0, "generator": 0.6}),
    "dropout": (dropout, {}),
    "batches of unlike texts": (scattered, {}),
    "warm restarts": (restarts, {"controls": {"steps": 400}}),
    "tiny data, stopped early": (early_stop, {"steps_per_pass": 5.0}),
    "tied tables": (old_start, {}),
    "random letters at their optimum": (optimum, {"unigram": 1.386, "bigram": 1.38, "trigram": 1.37, "vocab_size": 8}),
    "wide and slow": (slow, {"unigram": 4.45, "bigram": 2.2}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_run_without_trouble_is_silent(name: str) -> None:
    curve, known = HEALTHY[name]
    assert raised(feed(curve, range(401), known)) == {}


def test_what_is_minimised_changed_and_the_curves_start_anew() -> None:
    """The same jump of two nats: for nothing it is trouble, after a change of the objective it is none."""

    def jump(step: int, z: float) -> Values:
        loss = learned(step) + (2.5 if step > 200 else 0.0)
        return at(loss + 0.05 * z, every(step, 25, loss))

    assert {"divergence", "loss_spike", "token_collapse"} >= set(raised(feed(jump, range(401)))) >= {"divergence"}
    change = (200, "control", {"name": "mask_padding", "old": True, "new": False})
    assert raised(feed(jump, range(401), events=[change])) == {}
    restart = (200, "restart", {})
    assert raised(feed(jump, range(401), events=[restart])) == {}
    rate = (200, "control", {"name": "learning_rate", "old": 1e-3, "new": 2e-3})
    assert "divergence" in raised(feed(jump, range(401), events=[rate]))
    assert not any(map(restarts_curves, ("learning_rate", "eval_every", "temperature", "steps")))


def test_a_rate_that_somebody_set_to_nothing_is_no_trouble() -> None:
    change = (100, "control", {"name": "learning_rate", "old": 1e-3, "new": 0.0})
    assert raised(feed(rate_gone, range(401), {"controls": {"steps": 400, "learning_rate": 1e-3}}, [change])) == {}


def test_an_odd_batch_is_a_batch_and_a_spike_says_what_came_first() -> None:
    def title(curve: Curve) -> str:
        return next(verdict.title for verdict in feed(curve, range(401)) if verdict.name == "loss_spike")

    assert title(junk).startswith("3 odd batches from step 200 on: a loss of 9.00")
    assert "left its range with it" in title(spike)
    assert "left its range 5 steps before" in title(gradient_first)


def test_overfitting_says_where_to_go_back_to() -> None:
    told = feed(overfit, range(401), {"steps_per_pass": 10.0, "controls": {"learning_rate": 1e-3}})
    verdict = next(one for one in told if one.name == "overfit")
    assert verdict.title.startswith("Overfitting since step 200: held out 3.000 there")
    assert "passes over the data" in verdict.title
    [back] = [remedy for remedy in verdict.remedies if remedy["kind"] == "restore"]
    assert "before step 201" in back["label"]
    bare = next(one for one in feed(overfit, range(401)) if one.name == "overfit")
    assert [remedy["kind"] for remedy in bare.remedies] == ["stop"]  # no rate that could be set


def test_a_series_that_is_finite_again_is_resolved() -> None:
    watch = Watch(Facts("transformer"))
    states = []
    for step in range(12):
        value = math.inf if 3 <= step < 6 else 1.0
        told = watch.observe(step, {"term/z_loss": value}, {"ce": 1.0})
        states += [(step, verdict.state) for verdict in told if verdict.name == "nonfinite_series"]
    assert states == [(3, "active"), (7, "resolved")]


@pytest.mark.parametrize(
    ("name", "value", "in_a_row", "speaks"),
    [
        ("eval/ce", math.nan, 1, True),
        ("train/grad_norm", math.inf, 3, False),  # half precision overflows now and then
        ("train/grad_norm", math.inf, 6, True),
        ("phase/im_re_ratio", math.nan, 2, True),
        ("causality/leak", math.nan, 1, False),
        ("own/series", math.nan, 2, True),
    ],
)
def test_what_counts_as_not_finite(name: str, value: float, in_a_row: int, speaks: bool) -> None:
    watch, told = Watch(Facts("transformer")), []
    for step in range(in_a_row):
        told += watch.observe(step, {name: value}, {"ce": 1.0})
    assert bool(told) is speaks
    assert all(verdict.name == "nonfinite_series" for verdict in told)


def test_a_probe_that_threw_is_a_finding_until_the_run_is_taken_up_again() -> None:
    watch = Watch(Facts("transformer"))
    verdict = watch.probe_failed(5, "kernels", "ValueError: no heads")
    assert (verdict.id, verdict.state, verdict.since_step) == ("probe_failed:kernels", "active", 5)
    assert "no heads" in verdict.remedies[0]["why"]
    assert watch.observe(6, {"optim/lr_sum": 0.1}, {}) == []
    watch.note_event(6, "resume", {})
    [over] = watch.observe(7, {"optim/lr_sum": 0.1}, {})
    assert (over.state, over.title) == ("resolved", "kernels: A measurement failed, up to step 5")


def test_curves_alone_are_judged_as_a_watch_judges_them() -> None:
    steps = range(401)
    noise = np.random.default_rng(0).standard_normal(402)
    series: dict[str, tuple[list[int], list[float]]] = {}
    for step in steps:
        for name, value in overfit(step, float(noise[step])).items():
            series.setdefault(name, ([], []))
            series[name][0].append(step)
            series[name][1].append(value)
    [verdict] = judge_curves(series, Facts("external"))
    assert (verdict.name, verdict.evidence["raised_at"], verdict.last_step) == ("overfit", 275, 400)
    assert judge_curves({}, Facts("external")) == []


def test_a_long_run_is_thinned_and_keeps_what_stands_out() -> None:
    steps = list(range(30_000))
    loss = [2.0 + 0.01 * (step % 7) for step in steps]
    loss[20_001] = math.nan
    held_out = ([5_000, 25_001], [2.1, math.nan])
    found = judge_curves({"train/loss": (steps, loss), "eval/ce": held_out}, Facts("external"))
    assert {(verdict.name, verdict.state) for verdict in found} == {("nonfinite_series", "active")}
    assert "eval" in found[0].evidence["numbers"][-1]["label"]
