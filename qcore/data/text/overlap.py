"""Held-out documents that stand in training, whole or nearly: a count that is cheap enough for the start of a run.

A document is known by a sample of its runs of `RUN` characters (white space as one space, letters in lower case):
every fourth, chosen by its hash. A held-out document is contained when at least `SHARE` of its sampled runs stand in
one training document, so that a copy with a word changed or a line put before it still counts, and texts that only
share their sentences (a grammar's, a form's) do not. Characters and not words, for languages without spaces.

Held-out text may also stand in training piece by piece, in no single document by much, as when documents are windows
that overlap. So longer runs (`LONG`, three in a row: about 13 words) are looked for in all training documents together.
Runs that stand in many training documents are boilerplate, and counted apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RUN = 24
LONG = 3 * RUN
SHARE = 0.7
_ONE_IN = 4
_FEWEST = 8
_HELD_OUT, _HELD_OUT_LETTERS = 300, 4000
_TRAINING_LETTERS = 8_000_000
_BATCH_LETTERS = 2_000_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_LONG_ONE_IN = 8
_MANY_SHARE, _MANY = 0.01, 8
"""A run in more than this share of the training documents, and in no fewer, is boilerplate."""


@dataclass(frozen=True)
class Overlap:
    """How much of the held-out text stands in the training text.

    Attributes:
        looked_at: held-out documents that were compared.
        exact: how many are equal to a training document.
        near: how many stand in one by seven tenths or more, the equal ones left out.
        examples: beginnings of some, of either kind.
        long_runs: long runs of the held-out text that were looked for.
        contained: share of them that stand in training; boilerplate is in neither.
        boilerplate: share of the held-out text's long runs that stand in many training documents.
    """

    looked_at: int
    exact: int
    near: int
    examples: tuple[str, ...] = ()
    long_runs: int = 0
    contained: float = 0.0
    boilerplate: float = 0.0

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
    searched = _Searched([chosen[number][:_HELD_OUT_LETTERS] for number in asked])
    sample = _spread_sample(train)
    if asked:
        for start, end in _batches(sample):
            searched.look_in(sample[start:end])
    close = [asked[at] for at in searched.contained_documents()]
    shown = [*(number for number, same in enumerate(equal) if same), *close][:3]
    examples = tuple(" ".join(chosen[number].split())[:80] for number in shown)
    # without the documents that are counted already: one fault is not told twice
    rest = np.ones(len(asked), bool)
    rest[searched.contained_documents()] = False
    return Overlap(len(chosen), sum(equal), len(close), examples, *searched.contained_runs(len(sample), rest))


def _hashes(documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A hash of the run of `RUN` characters at every place of the documents, one after another, and each character's
    document.
    """
    # blanks and capitals are what a copy changes first
    plain = [re.sub(r"\s+", " ", text).strip().lower() for text in documents]
    lengths = np.array([len(text) for text in plain], np.int64)
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "replace"), "<u4").astype(np.uint64)
    document = np.repeat(np.arange(len(plain)), lengths)
    count = max(0, len(letters) - RUN + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(RUN if count else 0):  # Horner's rule for all places at once; overflow is arithmetic modulo 2⁶⁴
        hashes *= _FACTOR
        hashes += letters[offset : offset + count]
    hashes ^= hashes >> np.uint64(29)
    hashes *= _FACTOR
    return hashes, document


def _long_hashes(hashes: np.ndarray) -> np.ndarray:
    """Of the runs of `LONG` characters, from those of three runs in a row."""
    count = max(0, len(hashes) - 2 * RUN)
    mixed = hashes[:count].copy()
    for offset in (RUN, 2 * RUN):
        mixed = (mixed ^ (mixed >> np.uint64(31))) * _FACTOR + hashes[offset : offset + count]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _FACTOR
    return mixed


def _sample(hashes: np.ndarray, document: np.ndarray, length: int, one_in: int) -> tuple[np.ndarray, np.ndarray]:
    """One in so many of the runs of that length, without repeats within a document, in order of document and hash."""
    count = len(hashes)
    # a run over the border of two documents is in neither
    whole = document[:count] == document[length - 1 : length - 1 + count]
    # chosen by the hash itself: the same run is in the sample of every document that has it
    kept = np.flatnonzero(whole & ((hashes >> np.uint64(40)) % np.uint64(one_in) == 0))
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


class _Searched:
    """Held-out documents that are looked for in training ones."""

    def __init__(self, held_out: Sequence[str]) -> None:
        hashes, document = _hashes(held_out)
        self._count = len(held_out)
        runs, owner = _sample(hashes, document, RUN, _ONE_IN)
        # a short text shares a phrase with many by chance
        self._needed = np.maximum(_FEWEST, np.bincount(owner, minlength=self._count)) * SHARE
        order = np.argsort(runs, kind="stable")
        self._runs, self._owner = runs[order], owner[order]
        self._best = np.zeros(self._count)
        self._long, self._long_owner = _sample(_long_hashes(hashes), document, LONG, _LONG_ONE_IN)
        self._wanted = np.unique(self._long)
        self._documents = np.zeros(len(self._wanted), np.int64)

    def look_in(self, train: Sequence[str]) -> None:
        """Count what these training documents have of them."""
        hashes, place = _hashes(train)
        found, document = _sample(hashes, place, RUN, _ONE_IN)
        left, right = np.searchsorted(self._runs, found, "left"), np.searchsorted(self._runs, found, "right")
        widths = right - left
        places = np.repeat(left - np.cumsum(widths) + widths, widths) + np.arange(widths.sum())
        pairs, hits = np.unique(np.repeat(document, widths) * self._count + self._owner[places], return_counts=True)
        np.maximum.at(self._best, pairs % self._count, hits)
        if len(self._wanted):
            long, _ = _sample(_long_hashes(hashes), place, LONG, _LONG_ONE_IN)
            at = np.minimum(np.searchsorted(self._wanted, long), len(self._wanted) - 1)
            np.add.at(self._documents, at[self._wanted[at] == long], 1)

    def contained_documents(self) -> list[int]:
        """Which of the documents stand in one training document by `SHARE` of their runs."""
        return [number for number in range(self._count) if self._best[number] >= self._needed[number]]

    def contained_runs(self, train_documents: int, chosen: np.ndarray) -> tuple[int, float, float]:
        """Of the chosen documents: long runs looked for, share of them in training, and share that is boilerplate."""
        runs = self._long[chosen[self._long_owner]]
        if not len(runs):
            return 0, 0.0, 0.0
        documents = self._documents[np.searchsorted(self._wanted, runs)]
        common = documents > max(_MANY, _MANY_SHARE * train_documents)
        own = documents[~common]
        return len(own), float((own > 0).mean()) if len(own) else 0.0, float(common.mean())


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
