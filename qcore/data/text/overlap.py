"""Held-out documents that stand in training, whole or nearly: a count that is cheap enough for the start of a run.

A document is known by a sample of its runs of `RUN` characters (white space as one space, letters in lower case):
every fourth, chosen by its hash. A held-out document is contained when at least `SHARE` of its sampled runs stand in
one training document, so that a copy with a word changed or a line put before it still counts, and texts that only
share their sentences (a grammar's, a form's) do not. Characters and not words, for languages without spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RUN = 24
SHARE = 0.7
_ONE_IN = 4
_FEWEST = 8
_HELD_OUT, _HELD_OUT_LETTERS = 300, 4000
_TRAINING_LETTERS = 8_000_000
_BATCH_LETTERS = 2_000_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Overlap:
    """How much of the held-out text stands in the training text.

    Attributes:
        looked_at: held-out documents that were compared.
        exact: how many are equal to a training document.
        near: how many stand in one by seven tenths or more, the equal ones left out.
        examples: beginnings of some, of either kind.
    """

    looked_at: int
    exact: int
    near: int
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the compared documents that stand in training."""
        return (self.exact + self.near) / max(1, self.looked_at)


def overlap(train: Sequence[str], held_out: Sequence[str]) -> Overlap:
    """Compare an evenly spread sample of held-out documents with the training documents: whole ones with all of them,
    runs of characters with the first 8 million characters of an even spread.
    """
    # evenly spread: texts of one kind stand together in a file
    chosen = [held_out[at * len(held_out) // _HELD_OUT] for at in range(_HELD_OUT)]
    chosen = chosen if len(held_out) > _HELD_OUT else list(held_out)
    trained = set(train)
    equal = [document in trained for document in chosen]
    asked = [number for number, same in enumerate(equal) if not same]
    near = (
        _contained_documents([chosen[number][:_HELD_OUT_LETTERS] for number in asked], _spread_sample(train))
        if asked
        else []
    )
    close = [asked[at] for at in near]
    shown = [*(number for number, same in enumerate(equal) if same), *close][:3]
    examples = tuple(" ".join(chosen[number].split())[:80] for number in shown)
    return Overlap(len(chosen), sum(equal), len(close), examples)


def sampled_runs(documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of a sample of the documents' runs of `RUN` characters, uint64, and the number of each one's document.

    Within a document no hash comes twice; they are in order of document and hash.
    """
    # blanks and capitals are what a copy changes first
    plain = [re.sub(r"\s+", " ", text).strip().lower() for text in documents]
    lengths = np.array([len(text) for text in plain], np.int64)
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "replace"), "<u4").astype(np.uint64)
    count = len(letters) - RUN + 1
    if count < 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes = np.zeros(count, np.uint64)
    for offset in range(RUN):  # Horner's rule for all places at once; overflow is arithmetic modulo 2⁶⁴
        hashes *= _FACTOR
        hashes += letters[offset : offset + count]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    document = np.repeat(np.arange(len(plain)), lengths)
    # a run over the border of two documents is in neither
    whole = document[:count] == document[RUN - 1 :]
    # chosen by the hash itself: the same run is in the sample of every document that has it
    kept = np.flatnonzero(whole & ((hashes >> np.uint64(40)) % np.uint64(_ONE_IN) == 0))
    found, owner = hashes[kept], document[kept]
    order = np.lexsort((found, owner))
    found, owner = found[order], owner[order]
    first = np.ones(len(found), bool)
    first[1:] = (found[1:] != found[:-1]) | (owner[1:] != owner[:-1])
    return found[first], owner[first]


def _spread_sample(documents: Sequence[str]) -> list[str]:
    """Documents evenly spread over all, of at most eight million characters."""
    total = sum(map(len, documents))
    if total <= _TRAINING_LETTERS:
        return list(documents)
    every = -(-total // _TRAINING_LETTERS)
    return [document[:_TRAINING_LETTERS] for document in documents[::every]]


def _contained_documents(held_out: Sequence[str], train: Sequence[str]) -> list[int]:
    """Which held-out documents stand in one training document by `SHARE` of their runs."""
    runs, owner = sampled_runs(held_out)
    count = len(held_out)
    # a short text shares a phrase with many by chance
    needed = np.maximum(_FEWEST, np.bincount(owner, minlength=count)) * SHARE
    order = np.argsort(runs, kind="stable")
    runs, owner = runs[order], owner[order]
    best = np.zeros(count)
    for start, end in _batches(train):
        found, document = sampled_runs(train[start:end])
        left, right = np.searchsorted(runs, found, "left"), np.searchsorted(runs, found, "right")
        widths = right - left
        places = np.repeat(left - np.cumsum(widths) + widths, widths) + np.arange(widths.sum())
        pairs, hits = np.unique(np.repeat(document, widths) * count + owner[places], return_counts=True)
        np.maximum.at(best, pairs % count, hits)
    return [number for number in range(count) if best[number] >= needed[number]]


def _batches(documents: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of documents of about two million characters together."""
    start = size = 0
    for number, document in enumerate(documents):
        size += len(document)
        if size >= _BATCH_LETTERS:
            yield start, number + 1
            start, size = number + 1, 0
    if start < len(documents):
        yield start, len(documents)
