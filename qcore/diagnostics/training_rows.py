"""What updates are trained on, by identities that hold for every text: no threshold, no model.

Next-token prediction has one identity: the target at t is the input at t + 1, wherever both are real. It holds for
any text, periodic or not, so only the positions where it is broken are looked at: the lag at which *those* targets
stand in the input says what was done to them (0: not shifted, 2: shifted twice), an input that already is its own
target says that the answer was put in, and a target row that continues another input row says that rows were mixed up.

Rows are compared by exact hashes of their ids, within an update and over updates; a short text in honest epochs repeats
too, so what rows of that many windows would repeat is measured beside it. Where each row begins in the training text
says whether the rows of an update are neighbours there.

Legend: R rows of several updates · T tokens · N tokens of the training text · V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

LAGS = range(-1, 17)
"""Lags that are tried: −1 is the token before the one that was read, 16 the largest shift that the lab offers."""
_FEWEST = 8
_KEY = 40
_SCANNED = 8_000_000
_LOCATED = 64
_PARTNERS = 64
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class TrainedRows:
    """Rows of several updates, and the text that they come from; on the CPU.

    Attributes:
        inputs_RT, targets_RT, mask_RT: as an update has them.
        update_R: which update each row belongs to.
        text_WT: as many windows of the training text, evenly spread over it.
        windows: how many windows one epoch has.
        tokens_N: the training text.
    """

    inputs_RT: np.ndarray
    targets_RT: np.ndarray
    mask_RT: np.ndarray
    update_R: np.ndarray
    text_WT: np.ndarray
    windows: int
    tokens_N: np.ndarray


@dataclass(frozen=True)
class TargetCheck:
    """How the targets of some rows relate to their inputs.

    Attributes:
        wrong: share of the targets that are not the input at the next position.
        lag: of those, the lag at which most stand in the input; NaN where fewer than 8 are wrong.
        lag_share: share of those that stand at that lag.
        shown_share: share of those whose next input is its own target, as when answers are written into the input.
        other_share: share of the rows whose targets continue the input of another row of their update.
        trained: share of the real tokens that are targets.
        covered: share of the positions of a row with a real token at which any row has a target.
        first, last: between which positions of a row the targets lie, as shares of its length.
        ends: ends of a text in the inputs.
        end_targets: ends of a text among the targets.
        padding: share of the targets that are padding: pad, or an end within a run of ends.
    """

    wrong: float
    lag: float
    lag_share: float
    shown_share: float
    other_share: float
    trained: float
    covered: float
    first: float
    last: float
    ends: int
    end_targets: int
    padding: float

    def scalars(self) -> dict[str, float]:
        """Series by name."""
        return drop_undefined(
            {
                catalog.LABELS_WRONG: self.wrong,
                catalog.LABELS_LAG: self.lag,
                catalog.LABELS_LAG_SHARE: self.lag_share,
                catalog.LABELS_SHOWN: self.shown_share,
                catalog.LABELS_OTHER_ROW: self.other_share,
                catalog.LABELS_TRAINED: self.trained,
                catalog.LABELS_COVERED: self.covered,
                catalog.LABELS_FIRST: self.first,
                catalog.LABELS_LAST: self.last,
                catalog.LABELS_ENDS: float(self.ends),
                catalog.LABELS_END_TARGETS: float(self.end_targets),
                catalog.LABELS_PADDING: self.padding,
            }
        )


def target_check(trained: TrainedRows, *, pad_id: int, bos_id: int, eos_id: int) -> TargetCheck:
    """Compare targets with inputs, exactly.

    Args:
        pad_id, bos_id, eos_id: of the tokenizer, −1 for one that it does not have.

    Example:
        >>> ids, every, none = np.array([[5, 6, 7, 8, 9, 5, 8, 7, 6, 9, 7, 5]]), np.ones((1, 10), bool), np.zeros(1)
        >>> rows = TrainedRows(ids[:, :-2], ids[:, 2:], every, none, ids, 1, ids[0])
        >>> found = target_check(rows, pad_id=0, bos_id=1, eos_id=2)
        >>> found.wrong, found.lag, found.lag_share
        (1.0, 2.0, 1.0)
    """
    inputs_RT, targets_RT, mask_RT = trained.inputs_RT, trained.targets_RT, trained.mask_RT
    tokens = inputs_RT.shape[1]
    is_end, after_end = targets_RT == eos_id, (inputs_RT == eos_id) | (inputs_RT == pad_id)
    real = (targets_RT != pad_id) & ~(is_end & after_end)
    # an end whose input and next input are ends too is the filling of a row, not the end of a text
    next_end = np.ones_like(is_end)
    next_end[:, :-1] = after_end[:, 1:]
    padding = mask_RT & ((targets_RT == pad_id) | (is_end & after_end & next_end))
    asked = int(mask_RT.sum())
    counted = mask_RT & real
    at = np.flatnonzero(counted.any(0))
    # a text begins in a row only behind the end of another
    begun = int((inputs_RT[:, 1:] == bos_id).sum())
    ended = int(((inputs_RT == eos_id)[:, 1:] & (inputs_RT[:, :-1] != eos_id) & (inputs_RT[:, :-1] != pad_id)).sum())
    broken = counted.copy()
    broken[:, -1] = False
    judged = int(broken.sum())
    broken[:, :-1] &= targets_RT[:, :-1] != inputs_RT[:, 1:]
    wrong = int(broken.sum())
    lag, lag_share = _best_lag(inputs_RT, targets_RT, broken) if wrong >= _FEWEST else (np.nan, np.nan)
    shown = np.nan
    if wrong >= _FEWEST:
        answered = np.zeros_like(broken)
        answered[:, :-1] = inputs_RT[:, 1:] == targets_RT[:, 1:]
        shown = float(answered[broken].mean())
    return TargetCheck(
        wrong=wrong / judged if judged else np.nan,
        lag=lag,
        lag_share=lag_share,
        shown_share=shown,
        other_share=_of_other_rows(trained, counted) if wrong > judged / 2 else 0.0,
        trained=float(counted.sum() / max(1, real.sum())) if asked else np.nan,
        covered=len(at) / max(1, int(real.any(0).sum())) if asked else np.nan,
        first=at[0] / tokens if len(at) else np.nan,
        last=(at[-1] + 1) / tokens if len(at) else np.nan,
        ends=max(ended, begun),
        end_targets=int((counted & is_end).sum()),
        padding=int(padding.sum()) / asked if asked else np.nan,
    )


def _best_lag(inputs_RT: np.ndarray, targets_RT: np.ndarray, broken: np.ndarray) -> tuple[float, float]:
    """The lag other than 1 at which most of the broken targets stand in the input, and that share; of equal ones the
    one nearest to 1: in a periodic text a whole period more fits as well.
    """
    tokens = inputs_RT.shape[1]
    best, share = np.nan, -1.0
    for lag in sorted((lag for lag in LAGS if lag != 1 and abs(lag) < tokens), key=lambda lag: abs(lag - 1)):
        low, high = max(0, -lag), min(tokens, tokens - lag)
        there = broken[:, low:high]
        if there.sum() < _FEWEST:
            continue
        agreeing = (targets_RT[:, low:high] == inputs_RT[:, low + lag : high + lag])[there].mean()
        if agreeing > share:
            best, share = float(lag), float(agreeing)
    return best, share if share >= 0 else np.nan


def _of_other_rows(trained: TrainedRows, counted_RT: np.ndarray) -> float:
    """Share of the rows whose targets continue the input of another row of their update, at nine positions of ten."""
    inputs_RT, targets_RT, update_R = trained.inputs_RT, trained.targets_RT, trained.update_R
    found = total = 0
    for update in np.unique(update_R)[:4]:
        rows = np.flatnonzero(update_R == update)[:_PARTNERS]
        if len(rows) < 2:
            continue
        counted = counted_RT[rows, :-1]
        same_RR = ((targets_RT[rows, None, :-1] == inputs_RT[None, rows, 1:]) & counted[:, None]).sum(-1) / np.maximum(
            1, counted.sum(-1)
        )[:, None]
        np.fill_diagonal(same_RR, 0.0)
        found += int((same_RR.max(1) > 0.9).sum())
        total += len(rows)
    return found / total if total else 0.0


@dataclass(frozen=True)
class RowOrder:
    """How rows repeat, and where they come from.

    Attributes:
        rows: how many were looked at.
        distinct: how many different ones are among them.
        distinct_in_update: share of different rows within an update, mean.
        possible: how many different rows as many of the training text would hold at most.
        spread: range of the places of an update's rows in the training text, relative to rows drawn at random (1); NaN
            where too few were found there.
        continued: share of the rows of an update that begin with the token at which the row before them ends, less
            that share of any two rows: 1 for a text that is read from its beginning, 0 for rows drawn at random.
    """

    rows: int
    distinct: int
    distinct_in_update: float
    possible: int
    spread: float
    continued: float

    def scalars(self) -> dict[str, float]:
        """Series by name."""
        return drop_undefined(
            {
                catalog.BATCHES_ROWS: float(self.rows),
                catalog.BATCHES_DISTINCT: float(self.distinct),
                catalog.BATCHES_DISTINCT_IN_UPDATE: self.distinct_in_update,
                catalog.BATCHES_POSSIBLE: float(self.possible),
                catalog.BATCHES_SPREAD: self.spread,
                catalog.BATCHES_CONTINUED: self.continued,
            }
        )


def row_order(trained: TrainedRows, counts_V: np.ndarray) -> RowOrder:
    """Repeats of rows within and over updates, and the spread of their places.

    Args:
        counts_V: how often each token occurs in the training text.
    """
    inputs_RT, update_R, windows = trained.inputs_RT, trained.update_R, trained.windows
    hashes = row_hashes(inputs_RT)
    updates = [np.flatnonzero(update_R == update) for update in np.unique(update_R)]
    within = [len(np.unique(hashes[rows])) / min(len(rows), windows) for rows in updates]
    own = len(np.unique(row_hashes(trained.text_WT))) / max(1, len(trained.text_WT))
    possible = max(1, round(min(len(hashes), windows) * own))
    return RowOrder(
        rows=len(hashes),
        distinct=len(np.unique(hashes)),
        distinct_in_update=float(np.minimum(1.0, within).mean()),
        possible=possible,
        spread=_spread(inputs_RT, updates, trained.tokens_N, counts_V),
        continued=_continued(inputs_RT, trained.targets_RT, updates),
    )


def row_hashes(ids_RT: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row; equal rows have equal ones, and others by a chance of 2⁻⁶⁴."""
    hashes = np.zeros(len(ids_RT), np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2⁶⁴
        for column in ids_RT.astype(np.uint64).T:
            hashes = (hashes ^ (column + np.uint64(1))) * _FACTOR
            hashes ^= hashes >> np.uint64(29)
    return hashes


def places_in_text(ids_RK: np.ndarray, tokens_N: np.ndarray, counts_V: np.ndarray) -> np.ndarray:
    """Where each row of ids stands in the text (its first 8 million tokens), −1 where it does not; of several places,
    one that differs from row to row, so that a phrase which always comes back does not look like one place.
    """
    text_N = tokens_N[:_SCANNED]
    if len(text_N) < ids_RK.shape[1]:
        return np.full(len(ids_RK), -1)
    counts = np.where(counts_V > 0, counts_V, np.iinfo(np.int64).max)  # starts of texts are never targets
    rarest_R = counts[ids_RK].argmin(1)
    wanted_V = np.zeros(len(counts_V), bool)
    wanted_V[ids_RK[np.arange(len(ids_RK)), rarest_R]] = True
    # one pass over the text for all rows: only places of a rare token are compared
    candidates = np.flatnonzero(wanted_V[text_N])
    kinds = text_N[candidates]
    places = np.full(len(ids_RK), -1)
    for row, offset in enumerate(rarest_R):
        starts = candidates[kinds == ids_RK[row, offset]] - offset
        starts = starts[(starts >= 0) & (starts + ids_RK.shape[1] <= len(text_N))]
        for at, token in enumerate(ids_RK[row]):
            starts = starts[text_N[starts + at] == token]
        if len(starts):
            places[row] = starts[row * len(starts) // len(ids_RK)]
    return places


def _spread(inputs_RT: np.ndarray, updates: list[np.ndarray], tokens_N: np.ndarray, counts_V: np.ndarray) -> float:
    """Mean over updates of (range of places ÷ length) ÷ that of as many random places, (n − 1) ÷ (n + 1)."""
    chosen, taken = [], 0
    for rows in updates:
        if len(rows) > 1 and taken < _LOCATED:
            chosen.append(rows[:_LOCATED])
            taken += len(chosen[-1])
    if not chosen:
        return float("nan")
    asked = np.concatenate(chosen)
    places = dict(zip(asked, places_in_text(inputs_RT[asked, :_KEY], tokens_N, counts_V), strict=True))
    ranges = []
    for rows in chosen:
        found = np.array([places[row] for row in rows if places[row] >= 0])
        if len(found) > 1 and 2 * len(found) >= len(rows):
            ranges.append(np.ptp(found) / len(tokens_N) * (len(found) + 1) / (len(found) - 1))
    return float(np.mean(ranges)) if 2 * len(ranges) >= len(chosen) else float("nan")


def _continued(inputs_RT: np.ndarray, targets_RT: np.ndarray, updates: list[np.ndarray]) -> float:
    """Share of neighbouring rows that continue each other, less that of any two rows of an update."""
    following: list[np.ndarray] = []
    any_two: list[np.ndarray] = []
    for rows in updates:
        joined_RR = targets_RT[rows, -1][:, None] == inputs_RT[rows, 0][None]
        following.append(np.diagonal(joined_RR, 1))
        others = ~(np.eye(len(rows), dtype=bool) | np.eye(len(rows), k=1, dtype=bool))
        any_two.append(joined_RR[others])
    pairs, base = np.concatenate(following), np.concatenate(any_two)
    return float(pairs.mean() - base.mean()) if len(pairs) >= _FEWEST and len(base) else float("nan")
