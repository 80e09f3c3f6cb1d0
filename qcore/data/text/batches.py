"""Documents → training batches and fixed validation batches, as pure functions of (seed, position).

Packed: [bos] text [eos] of all documents, one after another, seen as a ring; an epoch cuts it into windows from a
random offset and visits them in random order, so that each token is predicted once, but for a remainder shorter than
a window. Padded: one document a row, cut at context + 1. Randomness is raw Philox output (a stream NumPy promises to
keep) of (seed, epoch), so a batch never depends on what was asked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from qcore.data.text.tokenizers import BOS, EOS, PAD


@dataclass(frozen=True)
class Batch:
    """Next-token prediction: targets are inputs shifted by one; mask is True where a target is real, not padding."""

    inputs_BT: Tensor
    targets_BT: Tensor
    mask_BT: Tensor


def batch_for_run(batch: Batch, *, label_shift: int, mask_padding: bool, pad_id: int, eos_id: int) -> Batch:
    """The batch as a run asks for it. Both changes are published mistakes, kept so that they can be watched and undone.

    label_shift s: position t is asked for token t + s; 1 is next-token prediction (the batch itself), 0 asks for the
    token that it reads, and from 2 on the last s − 1 positions have no target. mask_padding False: padding is written
    as the end of sequence and counts as a target.

    Raises:
        ValueError: for a negative shift.
    """
    if label_shift < 0:
        raise ValueError(f"label_shift = {label_shift} is refused: a target lies at its position or after it")
    inputs_BT, targets_BT, mask_BT = batch.inputs_BT, batch.targets_BT, batch.mask_BT
    if label_shift == 0:
        targets_BT = inputs_BT.clone()
    elif label_shift > 1:
        ahead = label_shift - 1
        targets_BT, mask_BT = targets_BT.roll(-ahead, dims=1), mask_BT.roll(-ahead, dims=1)
        mask_BT[:, max(0, mask_BT.shape[1] - ahead) :] = False
    if not mask_padding:
        targets_BT = targets_BT.masked_fill(~mask_BT, eos_id)
        inputs_BT, mask_BT = inputs_BT.masked_fill(inputs_BT == pad_id, eos_id), torch.ones_like(mask_BT)
    return Batch(inputs_BT, targets_BT, mask_BT)


@dataclass(frozen=True)
class Split:
    """Document numbers of the two sides; `duplicates` counts documents that repeat an earlier one exactly."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    duplicates: int


def split_documents(documents: Sequence[str], validation_fraction: float, seed: int, version: int = 2) -> Split:
    """A seeded split by document: equal documents stay on one side, each side keeps its documents in order.

    Groups of equal documents that are larger than the share wanted stay in training, as long as there are others to
    hold out; by the rules of version 1 such a group could take most documents away. Documents without copies are split
    alike by both.

    Raises:
        ValueError: when there are not two different documents, or the fraction is outside (0, 1).
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"data.validation_fraction is {validation_fraction}; it must be between 0 and 1")
    groups: dict[bytes, list[int]] = {}
    for number, text in enumerate(documents):
        # a copy of a training document in the held-out side would measure memory
        groups.setdefault(hashlib.sha256(text.encode("utf-8", "replace")).digest(), []).append(number)
    if len(groups) < 2:
        raise ValueError(
            f"a training and a validation side need two different documents, and the source has {len(groups)}: add "
            "text, or separate documents by blank lines"
        )
    members = list(groups.values())
    wanted, validation = max(1, round(validation_fraction * len(documents))), set[int]()
    order = shuffled_order(len(members), seed, stream=0)
    # a run of version 1 must be split as it was
    if version > 1:
        order = _large_groups_last(order, members, wanted)
    # the last group stays: training needs at least one
    for group in order[:-1]:
        if len(validation) >= wanted:
            break
        # too large for what is left, but a later group may fit
        if version > 1 and validation and len(validation) + len(members[group]) > 2 * wanted:
            continue
        validation.update(members[group])
    train = tuple(number for number in range(len(documents)) if number not in validation)
    return Split(train, tuple(sorted(validation)), len(documents) - len(groups))


def _large_groups_last(order: np.ndarray, members: list[list[int]], wanted: int) -> np.ndarray:
    """Groups in their order, those larger than the share wanted at the end, and they from the smallest on."""
    sizes = np.array([len(members[group]) for group in order])
    large = sizes > wanted
    return np.concatenate((order[~large], order[large][np.argsort(sizes[large], kind="stable")]))


def given_split(train: Sequence[str], validation: Sequence[str]) -> Split:
    """The split of documents that come in two parts, numbered one after the other; nothing is moved or left out.

    `duplicates` counts the documents that repeat an earlier one, those held out that are trained on included.
    """
    documents = (*train, *validation)
    repeated = len(documents) - len(set(documents))
    return Split(tuple(range(len(train))), tuple(range(len(train), len(documents))), repeated)


def philox(seed: int, stream: int) -> np.random.Philox:
    """A counter-based generator: any place of its stream without those before it."""
    if seed < 0 or stream < 0:
        raise ValueError(f"seeds and positions start at 0, got seed {seed} and epoch {stream}")
    return np.random.Philox(np.random.SeedSequence([seed, stream]))


def shuffled_order(count: int, seed: int, stream: int) -> np.ndarray:
    """A permutation of `count` numbers, a function of seed and stream."""
    return np.argsort(philox(seed, stream).random_raw(count), kind="stable")


class Stream(Protocol):
    """One side of the split: random training batches, or fixed windows by number."""

    @property
    def tokens_N(self) -> np.ndarray:
        """All tokens of the side, one text after the other."""

    @property
    def targets_N(self) -> np.ndarray:
        """Which of them are predicted."""

    @property
    def truncated(self) -> int:
        """Rows that were cut at the context."""

    @property
    def fixed_windows(self) -> int:
        """How many windows evaluation may choose among."""

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        """The random batch of that number: a function of seed and position."""

    def fixed_batch(self, windows: np.ndarray) -> Batch:
        """The windows of these numbers."""


class PackedStream:
    """`tokens_N` in order; `targets_N` marks what the fixed windows predict: all but the first token."""

    truncated = 0

    def __init__(self, documents: Sequence[np.ndarray], context: int) -> None:
        self.context = _check_context(context)
        bos, eos = np.array([BOS], np.int32), np.array([EOS], np.int32)
        self.tokens_N = np.concatenate([part for ids in documents for part in (bos, ids, eos)])
        self.targets_N = np.arange(len(self.tokens_N)) > 0
        self.fixed_windows = -(-(len(self.tokens_N) - 1) // context)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, seed: int, epoch: int) -> np.ndarray:
        """Start of every window of an epoch, in visiting order, int64 [N // context]."""
        raw = philox(seed, epoch).random_raw(1 + len(self.tokens_N) // self.context)
        offset = int(raw[0] % np.uint64(len(self.tokens_N)))
        return (offset + np.argsort(raw[1:], kind="stable") * self.context) % len(self.tokens_N)

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        """Batch number `position` (0, 1, …) of that size; ValueError when the text is shorter than one window."""
        length = len(self.tokens_N)
        if length <= self.context:
            raise ValueError(
                f"the training documents hold {length} tokens and one window needs {self.context + 1}: use a context "
                f"of at most {length - 1}, padded packing, or more text"
            )
        starts = epoch_items(self._epoch, length // self.context, seed, position, batch_size)
        window_BS = self.tokens_N[(starts[:, None] + np.arange(self.context + 1)) % length]
        return _batch(window_BS, np.ones((batch_size, self.context), bool))

    def fixed_batch(self, windows: np.ndarray) -> Batch:
        """Windows by number, one after another through the stream; the last one is padded where the text ends."""
        at_BS = windows[:, None] * self.context + np.arange(self.context + 1)
        inside_BS = at_BS < len(self.tokens_N)
        tokens_BS = np.where(inside_BS, self.tokens_N[np.minimum(at_BS, len(self.tokens_N) - 1)], PAD)
        return _batch(tokens_BS, inside_BS[:, 1:])


class PaddedStream:
    """One document a row: [bos] text [eos], cut at context + 1 tokens (`truncated` counts), padded to the context.

    `tokens_N` are the rows without padding, one after another; `targets_N` marks all but each row's bos.
    """

    def __init__(self, documents: Sequence[np.ndarray], context: int) -> None:
        self.context = _check_context(context)
        rows = [np.concatenate(([BOS], ids, [EOS]))[: context + 1] for ids in documents]
        self.truncated = sum(len(ids) + 2 > context + 1 for ids in documents)
        self.tokens_N = np.concatenate(rows).astype(np.int32)
        self._length_R = np.array([len(row) for row in rows])
        self._start_R = np.cumsum(self._length_R) - self._length_R
        self.targets_N = np.ones(len(self.tokens_N), bool)
        self.targets_N[self._start_R] = False
        self.fixed_windows = len(rows)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, seed: int, epoch: int) -> np.ndarray:
        return shuffled_order(self.fixed_windows, seed, epoch)

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        """Batch number `position` (0, 1, …) of that size: every row once an epoch."""
        return self.fixed_batch(epoch_items(self._epoch, self.fixed_windows, seed, position, batch_size))

    def fixed_batch(self, windows: np.ndarray) -> Batch:
        """Rows by number."""
        column_S = np.arange(self.context + 1)
        inside_BS = column_S < self._length_R[windows][:, None]
        at_BS = np.where(inside_BS, self._start_R[windows][:, None] + column_S, 0)
        return _batch(np.where(inside_BS, self.tokens_N[at_BS], PAD), inside_BS[:, 1:])


def epoch_items(epoch_order: _EpochOrder, size: int, seed: int, position: int, batch_size: int) -> np.ndarray:
    """Items position·batch_size … of the endless sequence of epochs; touches only the epochs the batch reaches."""
    if position < 0 or batch_size < 1:
        raise ValueError(f"a batch needs position ≥ 0 and batch_size ≥ 1, got {position} and {batch_size}")
    first, last = position * batch_size, (position + 1) * batch_size
    return np.concatenate(
        [
            epoch_order(seed, epoch)[max(0, first - epoch * size) : last - epoch * size]
            for epoch in range(first // size, (last - 1) // size + 1)
        ]
    )


class _EpochOrder(Protocol):
    def __call__(self, seed: int, epoch: int) -> np.ndarray: ...


def _batch(window_BS: np.ndarray, mask_BT: np.ndarray) -> Batch:
    tokens = torch.from_numpy(window_BS.astype(np.int64))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.from_numpy(mask_BT))


def _check_context(context: int) -> int:
    if context < 1:
        raise ValueError(f"the context is {context} tokens; it must be at least 1")
    return context
