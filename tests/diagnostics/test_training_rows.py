"""Targets against inputs and rows against each other: exact for every text, periodic ones among them."""

import numpy as np
import pytest

from qcore.diagnostics import TrainedRows, row_order, target_check

PAD, BOS, EOS = 0, 1, 2
SPECIALS = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS}


def text(length: int, seed: int = 0, vocabulary: int = 40, document: int = 17) -> np.ndarray:
    """Ids with the end of a text, and the start of the next, at every 17th place."""
    ids = np.random.default_rng(seed).integers(4, vocabulary, length)
    ids[document::document] = EOS
    ids[document + 1 :: document] = BOS
    return ids


def rows_of(windows: np.ndarray, per_update: int = 4, whole: np.ndarray | None = None, **changes: np.ndarray):
    """Windows [R, T + 1] as an update has them, four rows in each, beside their text."""
    whole = windows.flatten() if whole is None else whole
    length = windows.shape[1] - 1
    own = {
        "inputs_RT": windows[:, :-1],
        "targets_RT": windows[:, 1:],
        "mask_RT": np.ones((len(windows), length), bool),
        "update_R": np.arange(len(windows)) // per_update,
        "text_WT": np.stack([whole[at * length : (at + 1) * length] for at in range(len(whole) // length)]),
        "windows": len(whole) // length,
        "tokens_N": whole,
    }
    return TrainedRows(**{**own, **changes})


WINDOWS = np.stack([text(33, seed) for seed in range(24)])
PERIODIC = np.tile(np.array([5, 6, 7]), 24 * 11).reshape(24, 33)


@pytest.mark.parametrize("windows", [WINDOWS, PERIODIC, np.full((24, 33), 9)])
def test_next_tokens_are_right_whatever_the_text(windows):
    found = target_check(rows_of(windows), **SPECIALS)
    assert (found.wrong, found.trained, found.covered, found.padding) == (0.0, 1.0, 1.0, 0.0)
    assert np.isnan(found.lag)
    assert abs(found.ends - found.end_targets) <= len(windows), "but for those at the border of a row"


@pytest.mark.parametrize("lag", [-1, 0, 2, 3, 16])
def test_the_lag_of_all_targets_is_found(lag):
    inputs = WINDOWS[:, :-1]
    found = target_check(rows_of(WINDOWS, targets_RT=np.roll(inputs, -lag, axis=1)), **SPECIALS)
    assert found.wrong > 0.9
    assert found.lag == lag
    assert found.lag_share > 0.9
    assert found.other_share == 0


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_targets_that_are_not_shifted_is_counted(share):
    at = np.random.default_rng(3).random((24, 32)) < share
    found = target_check(rows_of(WINDOWS, targets_RT=np.where(at, WINDOWS[:, :-1], WINDOWS[:, 1:])), **SPECIALS)
    assert found.wrong == pytest.approx(share, abs=0.06)
    assert (found.lag, found.lag_share) == (0.0, 1.0)


def test_an_input_that_was_replaced_by_its_answer_is_no_lag():
    at = np.random.default_rng(3).random((24, 32)) < 0.1
    found = target_check(rows_of(WINDOWS, inputs_RT=np.where(at, WINDOWS[:, 1:], WINDOWS[:, :-1])), **SPECIALS)
    assert found.wrong == pytest.approx(0.1, abs=0.03)
    assert found.shown_share == 1.0
    assert found.lag_share < 0.5


def test_targets_of_another_row_of_the_update_are_found():
    exchanged = WINDOWS.reshape(6, 4, 33)[:, [1, 0, 3, 2]].reshape(24, 33)
    found = target_check(rows_of(WINDOWS, targets_RT=exchanged[:, 1:]), **SPECIALS)
    assert found.other_share == 1.0
    assert found.lag_share < 0.5


def test_which_tokens_count_is_told_from_real_ones():
    padded = WINDOWS.copy()
    padded[:, 20:] = PAD
    mask = padded[:, 1:] != PAD
    assert target_check(rows_of(padded, mask_RT=mask), **SPECIALS).trained == 1.0
    half = mask & (np.arange(32) < 10)
    found = target_check(rows_of(padded, mask_RT=half), **SPECIALS)
    assert found.trained == pytest.approx(10 / 19)
    assert (found.covered, found.first, found.last) == (pytest.approx(10 / 19), 0.0, 10 / 32)
    assert target_check(rows_of(padded), **SPECIALS).padding > 0.3, "padding that counts as a target"


def test_an_end_that_is_never_a_target_is_seen_in_the_inputs():
    found = target_check(rows_of(WINDOWS, mask_RT=WINDOWS[:, 1:] != EOS), **SPECIALS)
    assert found.ends >= 24
    assert found.end_targets == 0
    dropped = np.where(WINDOWS == EOS, 5, WINDOWS)  # the end was never written: the next text begins all the same
    found = target_check(rows_of(dropped), **SPECIALS)
    assert (found.ends >= 24, found.end_targets) == (True, 0)


def order_of(windows: np.ndarray, whole: np.ndarray, per_update: int = 8):
    return row_order(rows_of(windows, per_update, whole), np.bincount(whole, minlength=40))


def cut(whole: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.stack([whole[at : at + 49] for at in starts])


def test_rows_of_a_shuffled_text_differ_and_are_spread():
    whole = text(48 * 200 + 1)
    found = order_of(cut(whole, 48 * np.random.default_rng(1).permutation(200)[:128]), whole)
    assert (found.rows, found.distinct, found.possible, found.distinct_in_update) == (128, 128, 128, 1.0)
    assert 0.75 < found.spread < 1.25
    assert abs(found.continued) < 0.2


def test_rows_in_order_are_neighbours_and_continue_each_other():
    whole = text(48 * 200 + 1)
    found = order_of(cut(whole, 48 * np.arange(128)), whole)
    assert found.spread < 0.1
    assert found.continued > 0.8


def test_repeats_are_counted_within_and_over_updates():
    whole = text(48 * 200 + 1)
    dozen = order_of(cut(whole, 48 * (np.arange(128) % 12)), whole)
    assert (dozen.distinct, dozen.possible, dozen.distinct_in_update) == (12, 128, 1.0)
    same = order_of(cut(whole, 48 * (np.arange(128) // 8 * 3)), whole)
    assert (same.distinct, same.distinct_in_update) == (16, 1 / 8)


def test_a_short_or_repetitive_text_is_held_to_its_own_size():
    short = text(48 * 10 + 1)
    found = order_of(cut(short, 48 * (np.arange(120) % 10)), short)
    assert (found.distinct, found.possible) == (10, 10)
    few = np.concatenate([np.tile(text(48, seed), 20) for seed in range(5)] + [np.array([5])])
    found = order_of(cut(few, 48 * np.random.default_rng(2).permutation(100)[:96]), few)
    assert found.possible <= 12, "five kinds of windows are all there are"
