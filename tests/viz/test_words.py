"""Numbers, changes and events as a person reads them; series by their titles."""

import math
import re

import pytest

from qcore.viz import (
    distinct_words,
    event_words,
    limit_words,
    number_words,
    percent_words,
    series_words,
    spell_out_numbers,
    value_words,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        (0.0, "0"),
        (-0.0, "0"),
        (1465, "1,465"),
        (100_000, "100,000"),
        (1234567.8, "1,234,568"),
        (6.7051, "6.705"),
        (0.33631, "0.3363"),
        (9.303e-05, "0.00009303"),
        (1e-5, "0.00001"),
        (-0.02636, "−0.02636"),
        (9.3e-8, "9.3e-8"),
        (0.19, "0.19"),
        (999.96, "1,000"),
    ],
)
def test_numbers_are_plain(value: float | None, words: str):
    assert number_words(value) == words


@pytest.mark.parametrize("power", range(-12, 15))
@pytest.mark.parametrize("lead", [1.0, 1.2345, 9.9996, -3.3333])
def test_a_number_in_words_is_the_number_to_four_digits(power: int, lead: float):
    value = lead * 10.0**power
    text = number_words(value).replace("−", "-").replace(",", "")
    assert float(text) == pytest.approx(value, rel=5.1e-4)
    assert "nan" not in text


def test_places_signs_and_shares():
    assert number_words(0.7164, places=3) == "0.716"
    assert number_words(-0.0001, places=2) == "0.00"
    assert number_words(0.25, signed=True) == "+0.25"
    assert number_words(math.nan, places=3) == "not finite"
    assert percent_words(0.256) == "26 %"
    assert percent_words(0.051) == "5.1 %"
    assert percent_words(math.nan) == "not finite"
    assert limit_words(0.3363, "at most") == "at most 0.3363"
    assert limit_words(0.3363, None) == "limit 0.3363"
    assert limit_words(None, "at most") == ""


def test_sentences_of_other_rooms_lose_their_powers_of_ten():
    said = "effect: the change moves eval/ce by +9.303e-05, 95 % from +8.424e-05 to +0.0001018"
    assert (
        spell_out_numbers(said) == "effect: the change moves eval/ce by +0.000093, 95 % from +0.0000842 to +0.0001018"
    )
    assert spell_out_numbers("learning_rate 1e-05, name2e5x stays") == "learning_rate 0.00001, name2e5x stays"


def test_values_never_show_python():
    for value, words in (
        (True, "on"),
        (False, "off"),
        (0.0, "0"),
        (1e-05, "0.00001"),
        (1.23456789, "1.23457"),
        (100_000, "100,000"),
        ([], "nothing"),
        (["a", "b"], "2 lines"),
        (None, "nothing"),
        ("quantum", "quantum"),
        ({"learning_rate": 0.01, "seed": 2}, "learning rate 0.01, seed 2"),
    ):
        assert value_words(value) == words


EVENTS = {
    "start": ({"from_step": 0}, "started"),
    "resume": ({"from_step": 8}, "resumed"),
    "control": ({"name": "diversity_weight", "old": 0.0, "new": 0.2, "reason": "x"}, "diversity weight 0 → 0.2"),
    "fork": ({"parent": "a", "changes": {"learning_rate": 0.01}}, "forked from a: learning rate 0.01"),
    "grow": ({"old": {"layers": 2}, "new": {"layers": 3}, "model": {"kind": "x"}}, "grown: layers 2 → 3"),
    "checkpoint": ({"step": 5, "reason": "requested"}, "checkpoint written: requested"),
    "pause": ({}, "paused"),
    "continue": ({}, "continued"),
    "step": ({"count": 3}, "ran 3 steps"),
    "stop": ({}, "stopped"),
    "finish": ({}, "finished"),
    "failed": ({"message": "the loss is not finite", "terms": ["ce"], "at_step": 3}, "failed: the loss is not finite"),
    "restore": ({"from_step": 40}, "weights of step 40 restored"),
    "rewind": ({"from_step": 90, "to_step": 4, "branch": "b"}, "rewound from step 90; b keeps what came after"),
    "new_kind": ({"some_thing": {"a_b": 1}}, "new kind: some thing a b 1"),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_events_are_words_and_say_step_and_author_nowhere(kind: str):
    payload, words = EVENTS[kind]
    assert event_words(kind, payload) == words
    assert not re.search(r"[{}\[\]_]|None|True|False", words)


def test_a_series_that_nobody_declared_is_words_too():
    assert series_words("future/new_thing").text == "new thing (future)"
    assert series_words("odd").text == "odd"
    assert len(set(distinct_words(["a/b_c", "a/b c"]).values())) == 2
