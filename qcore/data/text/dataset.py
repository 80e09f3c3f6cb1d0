"""Everything a run needs from its text: tokenizer, batches, token counts, references, fingerprint.

`open_dataset` is deterministic in the configuration and the source; the cache holds only the references, which cost
the most and follow from the fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qcore.config import DataConfig
from qcore.data.report import TextReport
from qcore.data.text.batches import Batch, PackedStream, PaddedStream, Split, Stream, given_split, split_documents
from qcore.data.text.corpora import Corpus, load_corpus, load_held_out, make_splittable
from qcore.data.text.overlap import overlap
from qcore.data.text.references import References, generator_nats, load_or_compute, ngram_nats
from qcore.data.text.scripts import spaceless_share
from qcore.data.text.syntax import wrapping_shares
from qcore.data.text.tokenizers import UNK, Tokenizer, build_tokenizer


@dataclass(frozen=True, eq=False)
class Dataset:
    """A corpus split, encoded and cut into batches.

    Attributes:
        token_counts: int64 [V], how often each token is a training target in one pass.
        bytes_per_token: UTF-8 bytes of validation text per validation prediction (eos and packed bos are predictions
            without bytes; a word that became unk counts its bytes, so bits per byte flatter a small word vocabulary).
        fingerprint: hex, equal exactly when tokens, tokenizer, packing and context are.
        report: what was counted on the way, for a person and for the detectors.
    """

    name: str
    tokenizer: Tokenizer
    train: Stream
    validation: Stream
    token_counts: np.ndarray
    references: References
    bytes_per_token: float
    fingerprint: str
    report: TextReport

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        """Batch number `position` of that size: a pure function of the arguments, bit for bit."""
        return self.train.train_batch(seed, position, batch_size)

    def validation_batches(self, batch_size: int, count: int) -> list[Batch]:
        """At most `count` batches of held-out windows, evenly spread, always the same; the last may be smaller."""
        if batch_size < 1 or count < 1:
            raise ValueError(f"validation needs batch_size ≥ 1 and count ≥ 1, got {batch_size} and {count}")
        total = self.validation.fixed_windows
        wanted = min(total, batch_size * count)
        windows = np.arange(wanted) * total // wanted
        return [self.validation.fixed_batch(windows[at : at + batch_size]) for at in range(0, wanted, batch_size)]


def open_corpus(config: DataConfig) -> tuple[Corpus, Split]:
    """The documents of both sides, and which is on which: all that comes before a tokenizer. Errors as of
    `open_dataset`.

    With `validation_path` or `validation_split` the two sides are as they were given: a document of both counts as a
    duplicate, and is not moved.
    """
    corpus, apart = load_corpus(config), load_held_out(config)
    if apart is None:
        corpus = make_splittable(corpus, config.data_version)
        split = split_documents(
            corpus.documents, config.validation_fraction, config.data_seed, version=config.data_version
        )
        return corpus, split
    split = given_split(corpus.documents, apart.documents)
    both = replace(
        corpus,
        documents=(*corpus.documents, *apart.documents),
        size=corpus.size + apart.size,
        skipped=(*corpus.skipped, *apart.skipped),
        notes=(*corpus.notes, *(f"held out: {note}" for note in apart.notes)),
    )
    return both, split


def open_dataset(
    config: DataConfig, context: int, cache_dir: Path | None, tokenizer: Tokenizer | None = None
) -> Dataset:
    """Load, split, tokenize and measure. `cache_dir` keeps the references (None: compute them each time).

    Args:
        tokenizer: one to use as it is, so that token ids mean the same on other data; None makes one from the data.

    Raises:
        ValueError: naming the setting and the remedy, for anything a person can have got wrong.
    """
    corpus, split = open_corpus(config)
    texts = [corpus.documents[number] for number in split.train]
    held_out = [corpus.documents[number] for number in split.validation]
    tokenizer = tokenizer or build_tokenizer(config, texts)
    kinds: dict[str, type[PackedStream] | type[PaddedStream]] = {"packed": PackedStream, "padded": PaddedStream}
    if config.packing not in kinds:
        raise ValueError(f"data.packing is {config.packing!r}; choose packed or padded")
    kind = kinds[config.packing]
    held_out_ids = tokenizer.encode_documents(held_out)
    train, validation = kind(tokenizer.encode_documents(texts), context), kind(held_out_ids, context)
    if config.packing == "packed":
        train.train_batch(0, 0, 1)  # too little text is refused here, not at the first step
    fingerprint = _fingerprint(tokenizer, config.packing, context, train, validation)
    ngrams = load_or_compute(cache_dir, fingerprint, lambda: _references(tokenizer, train, validation))
    predictions = int(validation.targets_N.sum())
    letters = sum(map(len, held_out)) / max(1, sum(map(len, held_out_ids)))
    report = TextReport(
        train_documents=len(texts),
        validation_documents=len(held_out),
        duplicates=split.duplicates,
        truncated=train.truncated + validation.truncated,
        tokens=len(train.tokens_N),
        unknown_share=float(np.mean(train.tokens_N == UNK)),
        held_out_unknown_share=float(np.mean(validation.tokens_N == UNK)),
        characters_per_token=letters,
        overlap=overlap(texts, held_out),
        size=corpus.size,
        skipped=corpus.skipped,
        notes=corpus.notes,
        spaceless_share=spaceless_share(held_out),
        packed=config.packing == "packed",
        by_words=tokenizer.name == "word",
        wrappings=wrapping_shares(texts) if corpus.nats is None else {},
    )
    room = context if config.packing == "padded" else None
    return Dataset(
        name=corpus.name,
        tokenizer=tokenizer,
        train=train,
        validation=validation,
        token_counts=np.bincount(train.tokens_N[train.targets_N], minlength=tokenizer.vocab_size),
        references=replace(ngrams, generator=_generator(corpus, split, validation)),
        bytes_per_token=_kept_bytes(tokenizer, held_out, held_out_ids, room) / predictions,
        fingerprint=fingerprint,
        report=report,
    )


def _references(tokenizer: Tokenizer, train: Stream, validation: Stream) -> References:
    vocab_size = tokenizer.vocab_size
    nats = ngram_nats(train.tokens_N, validation.tokens_N, 3, vocab_size, train.targets_N, validation.targets_N)
    unigram, bigram, trigram = map(float, nats.mean(axis=1))
    return References(math.log(vocab_size), unigram, bigram, trigram, generator=None)


def _generator(corpus: Corpus, split: Split, validation: Stream) -> float | None:
    """None also where tokens are less than the text (cut rows, unk): −ln p of the text is then no floor for them."""
    if corpus.nats is None or validation.truncated or UNK in validation.tokens_N:
        return None
    return generator_nats([corpus.nats[number] for number in split.validation], int(validation.targets_N.sum()))


def _kept_bytes(tokenizer: Tokenizer, texts: list[str], ids: list[np.ndarray], room: int | None) -> int:
    """UTF-8 bytes of the text that is predicted: a padded row has room for `room` tokens of it."""
    kept = (
        text if room is None or len(tokens) <= room else tokenizer.decode(tokens[:room].tolist())
        for text, tokens in zip(texts, ids, strict=True)
    )
    return sum(len(text.encode("utf-8", "replace")) for text in kept)


def _fingerprint(tokenizer: Tokenizer, packing: str, context: int, train: Stream, validation: Stream) -> str:
    head = json.dumps([tokenizer.to_json(), packing, context, len(train.tokens_N)]).encode()
    digest = hashlib.sha256(head)
    digest.update(train.tokens_N.astype("<i4").tobytes())
    digest.update(validation.tokens_N.astype("<i4").tobytes())
    return digest.hexdigest()
