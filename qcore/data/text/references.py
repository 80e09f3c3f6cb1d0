"""What a model must beat: n-gram losses of the training data on the validation targets, and the generator's own loss.

Witten–Bell interpolation (Witten & Bell 1991, method C; interpolated as in Chen & Goodman 1998), recursive in n:
p_n(w | h) = (c(h, w) + T(h)·p_{n−1}(w | h')) / (c(h) + T(h)),  p_0 = 1/V,
with c the training counts, T(h) the number of distinct tokens seen after h, and h' = h without its oldest token; an
unseen h leaves p_{n−1}. It sums to one for every context. Vectorised by sorting: contexts become dense ids, n-grams
become one int64 code, so any vocabulary and order fit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from qcore.base import parse_json

log = logging.getLogger(__name__)
VERSION = 1


@dataclass(frozen=True)
class References:
    """Nats per predicted token over all validation targets, eos included.

    `generator` is the exact −ln p of the validation documents over the same number of predictions, None where the
    source has no known probability, padded rows were cut, or a word became unk. It is what the true distribution
    itself scores on this sample, so a model can be below it only by having seen the targets; see `generator_nats`.
    """

    uniform: float
    unigram: float
    bigram: float
    trigram: float
    generator: float | None


def ngram_nats(
    train_N: np.ndarray,
    evaluate_M: np.ndarray,
    order: int,
    vocab_size: int,
    train_mask_N: np.ndarray | None = None,
    evaluate_mask_M: np.ndarray | None = None,
) -> np.ndarray:
    """−ln p of each evaluated target under the 1- … order-gram models: float64 [order, targets], nats.

    A position's context is the tokens before it in its own array, as many as there are: the first positions use the
    lower orders. The masks say which positions are targets (default all); the others are context only.

    Raises:
        ValueError: for an order below 1, no training or no evaluated target, or a token outside 0 … vocab_size − 1.
    """
    train_N, evaluate_M = (np.asarray(array, dtype=np.int64) for array in (train_N, evaluate_M))
    train_mask = np.ones(len(train_N), bool) if train_mask_N is None else train_mask_N
    evaluate_mask = np.ones(len(evaluate_M), bool) if evaluate_mask_M is None else evaluate_mask_M
    if order < 1:
        raise ValueError(f"the order of an n-gram model is at least 1, not {order}")
    for name, tokens, mask in (("training", train_N, train_mask), ("evaluated", evaluate_M, evaluate_mask)):
        if not mask.any():
            raise ValueError(f"n-gram references need at least one {name} target")
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise ValueError(f"{name} tokens span {tokens.min()} … {tokens.max()}, outside 0 … {vocab_size - 1}")
    p_M = np.full(len(evaluate_M), 1.0 / vocab_size)
    # Context ids before each position, −1 where there is none (too near the start, or never seen in training).
    train_context_N, evaluate_context_M = np.zeros_like(train_N), np.zeros_like(evaluate_M)
    nats = []
    for n in range(1, order + 1):
        if n > 1:
            train_context_N, evaluate_context_M = _extend_contexts(
                train_N, evaluate_M, train_context_N, evaluate_context_M, vocab_size
            )
        # a position whose context reaches over the start has none of this length
        counted = train_mask & (train_context_N >= 0)
        codes, counts = np.unique(train_context_N[counted] * vocab_size + train_N[counted], return_counts=True)
        contexts = int(train_context_N.max(initial=0)) + 1
        total_H = np.bincount(codes // vocab_size, weights=counts, minlength=contexts)
        distinct_H = np.bincount(codes // vocab_size, minlength=contexts)
        known_M = (evaluate_context_M >= 0) & (total_H[evaluate_context_M] > 0)
        h_K = evaluate_context_M[known_M]
        seen_K = _lookup(codes, counts, h_K * vocab_size + evaluate_M[known_M], missing=0)
        # Witten and Bell: a context followed by many different tokens trusts the shorter one more
        p_M[known_M] = (seen_K + distinct_H[h_K] * p_M[known_M]) / (total_H[h_K] + distinct_H[h_K])
        nats.append(-np.log(p_M[evaluate_mask]))
    return np.stack(nats)


def _extend_contexts(
    train_N: np.ndarray, evaluate_M: np.ndarray, train_context: np.ndarray, evaluate_context: np.ndarray, vocab: int
) -> tuple[np.ndarray, np.ndarray]:
    """Context ids one token longer: (context before the previous token, previous token), numbered as in training."""

    def codes(tokens: np.ndarray, context: np.ndarray) -> np.ndarray:
        longer = np.full_like(tokens, -1)
        longer[1:] = np.where(context[:-1] >= 0, context[:-1] * vocab + tokens[:-1], -1)
        return longer

    train_code, evaluate_code = codes(train_N, train_context), codes(evaluate_M, evaluate_context)
    known, ids = np.unique(train_code, return_inverse=True)
    offset = int(known[0] < 0)  # code −1 sorts first and must keep the id −1
    return ids - offset, _lookup(known[offset:], np.arange(len(known) - offset), evaluate_code, missing=-1)


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, missing: int) -> np.ndarray:
    if not len(keys):
        return np.full(len(wanted), missing)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], missing)


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """nats·tokens / (ln 2·bytes): the loss per UTF-8 byte of text; eos is paid for and brings no byte."""
    return nats_per_token / (math.log(2) * bytes_per_token)


def generator_nats(document_nats: list[float], predictions: int) -> float:
    """Mean −ln p per prediction of documents with exact −ln p, when each is predicted whole, eos included.

    Valid as a floor: tokens and text determine each other and the text ends with eos, so the conditional losses of a
    document under the true distribution add up to its −ln p; bos after eos is certain and adds 0; documents are
    independent, so what stands before one in the window helps nothing, and a window that starts inside a document
    only loses context. A model q scores above it by KL(p‖q) ≥ 0 in expectation. That no validation document is also
    in training lets a perfect model gain −ln(1 − mass of the training documents), below 10⁻⁴ nats a story at 4,000.
    """
    return math.fsum(document_nats) / predictions


def load_or_compute(cache_dir: Path | None, fingerprint: str, compute: Callable[[], References]) -> References:
    """The n-gram references kept under the data's fingerprint, else computed and kept.

    A damaged file is computed anew. `generator` is not kept: it depends on where the text came from, not on its tokens.
    """
    if cache_dir is None:
        return compute()
    key = hashlib.sha256(f"{VERSION}:{fingerprint}".encode()).hexdigest()[:32]
    path = cache_dir / f"references-{key}.json"
    try:
        return _from_json(path.read_text("utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s is unreadable and will be recomputed: %s", path, error)
    references = compute()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        # under the process's number: two runs on the same data may compute them at once
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps(asdict(references)), "utf-8")
        os.replace(aside, path)
    except OSError as error:
        log.warning("the references could not be kept in %s and will be computed again: %s", path, error)
    return references


def _from_json(text: str) -> References:
    references = References(**parse_json(text, "a cached reference"))
    numbers = [value for value in asdict(references).values() if value is not None]
    if len(numbers) < 4 or not all(isinstance(value, float) and math.isfinite(value) for value in numbers):
        raise ValueError(f"not a set of references: {text[:200]!r}")
    return references
