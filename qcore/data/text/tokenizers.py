"""Byte, word and BPE tokenizers behind one small protocol, with pad, bos, eos and unk always at ids 0 to 3.

Text never turns into a special id: typing "<eos>" gives ordinary tokens, because the specials live in the vocabulary
but are not registered with the parser. Bytes and byte-level BPE round trip every text exactly; the word tokenizer
keeps a space with the word that follows it and round trips every text of known words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import tokenizers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from qcore.base import parse_json
from qcore.config import DataConfig

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
FORMAT = "qcore-tokenizer-1"
_ENCODE_CHUNK = 1024  # documents at a time, so that a large corpus never stands in memory as Python integers
_LABELS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


class Tokenizer(Protocol):
    """Text ↔ ids. `add_special_tokens` wraps in bos … eos; `skip_special_tokens` drops all four specials.

    `encode_documents` gives int32 arrays without specials; `to_json` is what `tokenizer_from_json` reads.
    """

    @property
    def name(self) -> str:
        """byte, word or bpe."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are, the specials among them."""

    @property
    def pad_id(self) -> int:
        """Of positions that hold nothing."""

    @property
    def bos_id(self) -> int:
        """Of what stands before a text."""

    @property
    def eos_id(self) -> int:
        """Of the end of a text."""

    @property
    def unk_id(self) -> int:
        """Of what the vocabulary has not."""

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text."""

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of many texts, int32 each, without specials."""

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids."""

    def token_text(self, token: int) -> str:
        """A printable label of one id."""

    def to_json(self) -> str:
        """All that is needed to build it again."""


class _Specials:
    """The four special ids that all tokenizers share."""

    pad_id, bos_id, eos_id, unk_id = PAD, BOS, EOS, UNK


class ByteTokenizer(_Specials):
    """UTF-8 bytes: id = byte + 4, 260 ids. Invalid UTF-8 decodes to U+FFFD; `unk` is real but never produced."""

    name = "byte"
    vocab_size = 256 + len(SPECIALS)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of the bytes of a text; a lone surrogate is a question mark."""
        ids = [byte + len(SPECIALS) for byte in text.encode("utf-8", "replace")]
        return [BOS, *ids, EOS] if add_special_tokens else ids

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The same of many texts, without a list between."""
        raw = (np.frombuffer(text.encode("utf-8", "replace"), np.uint8) for text in texts)
        return [bytes_N.astype(np.int32) + len(SPECIALS) for bytes_N in raw]

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD."""
        raw = bytearray()
        for token in ids:
            if _check_token(token, self.vocab_size) >= len(SPECIALS):
                raw.append(token - len(SPECIALS))
            elif not skip_special_tokens:
                raw += SPECIALS[token].encode()
        return raw.decode("utf-8", "replace")

    def token_text(self, token: int) -> str:
        """A printable label: the character for ASCII, ␣ ⏎ ⇥ for blanks, ⟨E2⟩ for other bytes, <pad> … for specials."""
        if _check_token(token, self.vocab_size) < len(SPECIALS):
            return SPECIALS[token]
        byte = token - len(SPECIALS)
        return _label(chr(byte)) if byte < 128 else f"⟨{byte:02X}⟩"

    def to_json(self) -> str:
        """Its kind: there is nothing else to know."""
        return json.dumps({"format": FORMAT, "kind": self.name})


class VocabularyTokenizer(_Specials):
    """Word-level or byte-level BPE, carried by a Hugging Face `tokenizers` pipeline without added tokens.

    A word outside the vocabulary is `unk`; BPE reaches every byte and never needs it.
    """

    def __init__(self, name: str, inner: hf.Tokenizer) -> None:
        found = tuple(inner.id_to_token(token) for token in range(len(SPECIALS)))
        if found != SPECIALS:
            raise ValueError(f"the first tokenizer ids are {found} and must be {SPECIALS}")
        self.name, self._inner, self.vocab_size = name, inner, inner.get_vocab_size()

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text."""
        ids = list(self._inner.encode(_replace_surrogates(text), add_special_tokens=False).ids)
        return [BOS, *ids, EOS] if add_special_tokens else ids

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The same of many texts, so many at a time that they fit into memory."""
        arrays: list[np.ndarray] = []
        for start in range(0, len(texts), _ENCODE_CHUNK):
            whole = [_replace_surrogates(text) for text in texts[start : start + _ENCODE_CHUNK]]
            found = self._inner.encode_batch_fast(whole, add_special_tokens=False)
            arrays += [np.array(encoding.ids, np.int32) for encoding in found]
        return arrays

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids; words are joined by blanks."""
        checked = [_check_token(token, self.vocab_size) for token in ids]
        kept = [token for token in checked if token >= len(SPECIALS)] if skip_special_tokens else checked
        parts: list[str] = []
        for special, run in groupby(kept, key=lambda token: token < len(SPECIALS)):
            if special:
                parts += [SPECIALS[token] for token in run]
                continue
            text = self._inner.decode(list(run), skip_special_tokens=False)
            starts = not parts or parts[-1] != SPECIALS[UNK]
            parts.append(text[1:] if self.name == "word" and starts and text.startswith(" ") else text)
        return "".join(parts)

    def token_text(self, token: int) -> str:
        """A printable label: ␣ for a space, ⏎ for a newline; ⟨…⟩ (the byte alphabet) where it is half a character."""
        if _check_token(token, self.vocab_size) < len(SPECIALS):
            return SPECIALS[token]
        text = self._inner.decode([token], skip_special_tokens=False)
        return f"⟨{self._inner.id_to_token(token)}⟩" if "\ufffd" in text else "".join(map(_label, text))

    def to_json(self) -> str:
        """Its kind and its whole vocabulary."""
        return json.dumps({"format": FORMAT, "kind": self.name, "tokenizer": json.loads(self._inner.to_str())})


def build_tokenizer(config: DataConfig, training_documents: Sequence[str]) -> Tokenizer:
    """The tokenizer of `config.tokenizer`; word and BPE vocabularies come from the training documents alone.

    Raises:
        ValueError: when `vocab_size` cannot hold the specials and the bytes (BPE), or the kind is unknown.
    """
    if config.tokenizer == "byte":
        return ByteTokenizer()
    if config.tokenizer == "word":
        inner = hf.Tokenizer(models.WordLevel({}, unk_token=SPECIALS[UNK]))
        # The first word gets a space too, so that it is the same token as elsewhere; decode takes it off again.
        inner.normalizer = normalizers.Prepend(" ")
        pattern = hf.Regex(r" ?\w+| ?[^\w\s]|\s")  # every character falls in one alternative: nothing is lost
        inner.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
        inner.decoder = decoders.Fuse()
        trainer: trainers.Trainer = trainers.WordLevelTrainer(
            vocab_size=config.vocab_size, special_tokens=list(SPECIALS), show_progress=False
        )
    elif config.tokenizer == "bpe":
        smallest = 256 + len(SPECIALS)
        if config.vocab_size < smallest:
            raise ValueError(
                f"data.vocab_size is {config.vocab_size}; a BPE vocabulary needs at least {smallest} (256 bytes and "
                f"{len(SPECIALS)} special tokens): raise it, or use the byte tokenizer"
            )
        inner = hf.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        raise ValueError(f"data.tokenizer is {config.tokenizer!r}; choose byte, word or bpe")
    inner.train_from_iterator(map(_replace_surrogates, training_documents), trainer)
    # Training registers the specials as added tokens, which the parser would then find inside a person's text.
    description = json.loads(inner.to_str())
    description["added_tokens"] = []
    return VocabularyTokenizer(config.tokenizer, hf.Tokenizer.from_str(json.dumps(description)))


def tokenizer_from_json(text: str) -> Tokenizer:
    """The tokenizer that wrote `text` with to_json(), id for id.

    Raises:
        ValueError: for anything else.
    """
    try:
        description = parse_json(text, "tokenizer.json")
        if description["format"] != FORMAT:
            raise ValueError(f"the format is {description['format']!r}")
        if description["kind"] == "byte":
            return ByteTokenizer()
        if description["kind"] not in ("word", "bpe"):
            raise ValueError(f"the kind is {description['kind']!r}")
        return VocabularyTokenizer(description["kind"], _parse_tokenizer(json.dumps(description["tokenizer"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a tokenizer of this lab (expected {FORMAT}): {error!r}") from error


def _parse_tokenizer(text: str) -> hf.Tokenizer:
    try:
        return hf.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower for a damaged description
        raise ValueError(str(error)) from error


def _check_token(token: int, vocab_size: int) -> int:
    if not 0 <= token < vocab_size:
        raise ValueError(f"token id {token} is outside the vocabulary 0 … {vocab_size - 1}")
    return int(token)


def _replace_surrogates(text: str) -> str:
    """Lone surrogates are not Unicode text and have no UTF-8 form; each becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _label(character: str) -> str:
    return _LABELS.get(character) or (character if character.isprintable() else f"⟨{ord(character):02X}⟩")
