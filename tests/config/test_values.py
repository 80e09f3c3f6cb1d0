"""Checking of single values: types, ranges, texts that stand for numbers, and what a message says."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.config import ConfigError, Control, all_controls, find_control, nearest_hint

NUMBERS = [control for control in all_controls() if control.kind in ("int", "float")]
FLOAT = Control("rate", "optim", "float", 0.5, "A number.", low=0, high=1, unit="nats")
INT = Control("count", "optim", "int", 3, "A whole number.", low=-5, high=10**6)
BOOL = Control("flag", "model", "bool", False, "A truth value.")
CHOICE = Control("policy", "optim", "choice", "cosine", "One of two.", choices=("cosine", "constant"))
TEXT = Control("path", "data", "text", "", "A text.")
TEXTS = Control("prompts", "probes", "texts", [], "Texts.")


@given(st.sampled_from(NUMBERS), st.data())
@settings(max_examples=100, deadline=None)
def test_every_number_within_range_is_kept(control: Control, data: st.DataObject) -> None:
    assert control.low is not None
    assert control.high is not None
    if control.kind == "int":
        value: float = data.draw(st.integers(math.ceil(control.low), math.floor(control.high)))
    else:
        value = data.draw(st.floats(control.low, control.high))
    checked = control.check(value)
    assert checked == value
    assert type(checked) is (int if control.kind == "int" else float)
    assert control.check(repr(value)) == value, "the CLI's text means the same number"


@given(st.sampled_from(NUMBERS), st.floats() | st.integers())
@settings(max_examples=150, deadline=None)
def test_a_number_is_either_in_range_or_refused_with_the_range(control: Control, value: float) -> None:
    assert control.low is not None
    assert control.high is not None
    fits = control.low <= value <= control.high and (control.kind == "float" or value == math.floor(value))
    if fits:
        assert control.check(value) == value
    else:
        with pytest.raises(ConfigError, match="is refused: it must be") as refused:
            control.check(value)
        assert control.name in str(refused.value)
        assert control.range_text in str(refused.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", "-Infinity", "1e999"])
@pytest.mark.parametrize("control", [FLOAT, INT], ids=["float", "int"])
def test_nan_and_infinity_are_refused(control: Control, value: object) -> None:
    with pytest.raises(ConfigError, match="is refused"):
        control.check(value)


@pytest.mark.parametrize("value", [True, False, None, [], [1], {}, b"1", 1j, "", "one", "0x1", object()])
@pytest.mark.parametrize("control", [FLOAT, INT], ids=["float", "int"])
def test_what_is_no_number_is_refused(control: Control, value: object) -> None:
    with pytest.raises(ConfigError, match="is refused"):
        control.check(value)


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**80, "9" * 400, 10**5000], ids=lambda value: "huge")
@pytest.mark.parametrize("control", [FLOAT, INT], ids=["float", "int"])
def test_huge_numbers_are_refused_in_a_short_message(control: Control, value: object) -> None:
    with pytest.raises(ConfigError, match="is refused") as refused:
        control.check(value)
    assert len(str(refused.value)) < 250


def test_a_whole_number_is_never_rounded() -> None:
    assert INT.check("1e3") == INT.check(1000.0) == 1000
    for value in (0.5, "2.5", 1e-9):
        with pytest.raises(ConfigError, match="a whole number from -5 to 1000000"):
            INT.check(value)
    seed = find_control("seed")
    assert seed.check(2**31 - 1) == 2**31 - 1
    assert seed.check(str(2**31 - 1)) == 2**31 - 1


@pytest.mark.parametrize(("value", "meant"), [(True, True), (False, False), ("true", True), (" False ", False)])
def test_truth_values(value: object, meant: bool) -> None:
    assert BOOL.check(value) is meant


@pytest.mark.parametrize("value", [0, 1, 1.0, "yes", "", None])
def test_what_is_no_truth_value_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="true or false"):
        BOOL.check(value)


@pytest.mark.parametrize("value", ["cosin", None, 1, ["cosine"], {}, "Cosine"])
def test_a_choice_is_one_of_its_names(value: object) -> None:
    assert CHOICE.check("constant") == "constant"
    with pytest.raises(ConfigError, match="one of cosine, constant"):
        CHOICE.check(value)
    with pytest.raises(ConfigError, match=r"did you mean 'cosine'\?"):
        CHOICE.check("cosin")


def test_texts() -> None:
    assert TEXT.check("ein Text") == "ein Text"
    assert TEXTS.check("first\n\nsecond\n") == ["first", "second"]
    assert TEXTS.check(["", "a"]) == ["", "a"], "an empty prompt in a list is kept: it samples from nothing"
    for value in (1, None, b"x"):
        with pytest.raises(ConfigError):
            TEXT.check(value)
        with pytest.raises(ConfigError):
            TEXTS.check([value])


def test_a_checked_list_is_a_copy() -> None:
    given_list = ["a"]
    checked = TEXTS.check(given_list)
    given_list.append("b")
    assert checked == ["a"]


def test_a_long_value_is_shown_cut() -> None:
    with pytest.raises(ConfigError) as refused:
        CHOICE.check("x" * 10_000)
    assert len(str(refused.value)) < 200


def test_a_label_reads_as_words_with_the_unit() -> None:
    assert Control("entropy_floor", "objective", "float", 0, "…", unit="nats").label == "Entropy floor (nats)"


def test_no_hint_when_nothing_is_near() -> None:
    assert nearest_hint("zzzz", ["learning_rate"]) == ""


def test_a_text_is_one_that_a_file_can_hold() -> None:
    """A run's configuration is a file that must be readable: its bytes and its values are bounded."""
    for control, value, words in (
        (TEXT, "a\0b", r"without the character U\+0000"),
        (TEXTS, ["a", "b\0"], r"without the character U\+0000"),
        (TEXT, "語" * 100_000, "at most 262144 bytes, not 300000"),
        (TEXTS, ["x" * 200_000] * 2, "at most 262144 letters"),
        (TEXTS, "x\n" * 25_000, "at most 20000 of them"),
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            control.check(value)
        assert len(str(refused.value)) < 400
    assert TEXT.check("語" * 50_000) == "語" * 50_000
