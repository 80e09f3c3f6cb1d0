"""What opening a text has found: counts for the detectors, and sentences for a person where a run starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qcore.base.words import bytes_words, number_words, percent_words
from qcore.config import SkippedFile
from qcore.data.text.overlap import Overlap

_NAMED = 3
_MOST_KEPT = 100
"""Files that were not used are named in a run's description up to this many; how many there are is always said."""
_NOTABLE, _UNKNOWN, _CONTAINED = 0.05, 0.3, 0.2
"""Shares from which on something is worth a warning in the run's log."""


@dataclass(frozen=True)
class TextReport:
    """Counts of a text run's data.

    Attributes:
        duplicates: documents that repeat another; both copies are on one side, but where the sides were given.
        truncated: rows cut at the context, of both sides (padded packing).
        size: bytes of the files that were read, 0 where there are none.
        unknown_share, held_out_unknown_share: share of the tokens of each side that are <unk>.
        characters_per_token: of the held-out text.
        spaceless_share: share of its letters that are of scripts without spaces between words.
        packed: rows are cut out of the running text.
        by_words: the vocabulary is one of whole words.
        wrappings: shares of the text that are tags, JSON around a text, base64 or no text; empty for written corpora.
        notes: further sentences.
    """

    train_documents: int
    validation_documents: int
    duplicates: int
    truncated: int
    tokens: int
    unknown_share: float
    held_out_unknown_share: float
    characters_per_token: float
    overlap: Overlap
    size: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = field(default=())
    spaceless_share: float = 0.0
    packed: bool = False
    by_words: bool = False
    wrappings: Mapping[str, float] = field(default_factory=dict)

    @property
    def documents(self) -> int:
        """Documents of both sides."""
        return self.train_documents + self.validation_documents

    @property
    def skipped_share(self) -> float:
        """Share of the bytes of all files that were not read."""
        left_out = sum(file.size for file in self.skipped)
        return left_out / max(1, left_out + self.size)

    def facts(self) -> dict[str, float]:
        """The counts that the detectors read."""
        return {
            "documents": float(self.documents),
            "duplicates": float(self.duplicates),
            "skipped_share": self.skipped_share,
            "held_out_compared": float(self.overlap.looked_at),
            "held_out_equal": float(self.overlap.exact),
            "held_out_near": float(self.overlap.near),
            "unknown_share": self.unknown_share,
            "held_out_unknown_share": self.held_out_unknown_share,
            "characters_per_token": self.characters_per_token,
            "long_runs": float(self.overlap.long_runs),
            "contained_share": self.overlap.contained,
            "boilerplate_share": self.overlap.boilerplate,
            "spaceless_share": self.spaceless_share,
            "packed": float(self.packed),
            "by_words": float(self.by_words),
            **{f"{kind}_share": share for kind, share in self.wrappings.items()},
        }

    def sentences(self) -> list[str]:
        """What a person should know at the start: the shares always, the rest where there is something to say."""
        held_out = self.validation_documents / max(1, self.documents)
        read = f" from {bytes_words(self.size)}" if self.size else ""
        unknown = f", {percent_words(self.held_out_unknown_share)} of the held-out ones <unk>"
        said = [
            f"{self.train_documents:,} training documents, {self.validation_documents:,} held out "
            f"({percent_words(held_out)}){read}",
            f"{self.tokens:,} training tokens, {number_words(self.characters_per_token, places=1)} characters each"
            f"{unknown if self.held_out_unknown_share else ''}",
        ]
        return [*said, *self._problem_sentences(0.0), *self.notes]

    def warnings(self) -> list[str]:
        """What is likely to be amiss with the data, a sentence each."""
        return self._problem_sentences(_NOTABLE)

    def _problem_sentences(self, least: float) -> list[str]:
        """Sentences about shares above `least`; files that were not used are always said."""
        said = []
        share = self.duplicates / max(1, self.documents)
        if share > least:
            said.append(f"{self.duplicates:,} of {self.documents:,} documents ({percent_words(share)}) repeat another")
        found = self.overlap
        if found.share > least:
            said.append(
                f"{found.exact + found.near:,} of {found.looked_at:,} held-out documents that were compared stand in "
                f"training ({found.exact:,} whole, {found.near:,} nearly)"
            )
        if found.contained > max(least, _CONTAINED):
            said.append(f"{percent_words(found.contained)} of the held-out text stands in training, piece by piece")
        if found.boilerplate > max(least, _CONTAINED):
            said.append(f"{percent_words(found.boilerplate)} of the held-out text stands in many training documents")
        if self.truncated and not least:  # which is what padded packing does, and no fault
            cut = percent_words(self.truncated / self.documents)
            said.append(f"{self.truncated:,} of {self.documents:,} documents ({cut}) are cut at the context")
        if self.held_out_unknown_share > max(least, _UNKNOWN):
            said.append(f"{percent_words(self.held_out_unknown_share)} of the held-out tokens are <unk>")
        if self.skipped:
            said.append(skipped_sentence(self.skipped, f", {percent_words(self.skipped_share)} of the bytes"))
        return said


def skipped_sentence(skipped: Sequence[SkippedFile], share: str = "") -> str:
    """How many files were not used, their bytes, and the first names with the reason."""
    size = sum(file.size for file in skipped)
    named = "; ".join(f"{file.path} {file.reason}" for file in skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    return f"{len(skipped):,} file{'s' * (len(skipped) > 1)} not used ({bytes_words(size)}{share}): {named}{more}"


def skipped_facts(skipped: Sequence[SkippedFile]) -> dict[str, Any]:
    """What a run's description keeps of the files that were not used: how many, and the first of them."""
    return {"skipped_files": [asdict(file) for file in skipped[:_MOST_KEPT]], "skipped_count": len(skipped)}


def skipped_lines(skipped: Sequence[SkippedFile]) -> list[str]:
    """A line for each file that was not used, as many as a run's description keeps, and how many more there are."""
    more = len(skipped) - _MOST_KEPT
    lines = [f"{file.path} {file.reason}" for file in skipped[:_MOST_KEPT]]
    return [*lines, f"{more:,} more files were not used"] if more > 0 else lines
