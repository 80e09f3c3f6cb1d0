"""Text for language models: corpora, tokenizers, splits, seeded resumable batches, and the references to beat.
Clips for video models: moving digits or videos, with the same promise about batches.

Shapes: B batch, T context, S = T + 1 a window, N tokens of a stream, M evaluated tokens, V vocabulary, R rows, H
n-gram contexts, K known positions. Losses are nats. Everything is a pure function of the configuration and its seeds.
"""

from qcore.config import SkippedFile
from qcore.data.report import TextReport, skipped_facts, skipped_lines, skipped_sentence
from qcore.data.text.batches import Batch, batch_for_run
from qcore.data.text.corpora import Corpus, load_corpus
from qcore.data.text.dataset import Dataset, open_corpus, open_dataset
from qcore.data.text.references import References, bits_per_byte, ngram_nats
from qcore.data.text.stories import story_grammar, translation_pairs, translations
from qcore.data.text.tokenizers import Tokenizer, build_tokenizer, tokenizer_from_json
from qcore.data.video.dataset import ClipDataset, TextStates
from qcore.data.video.open import open_clips

__all__ = [
    "Batch",
    "ClipDataset",
    "Corpus",
    "Dataset",
    "References",
    "SkippedFile",
    "TextReport",
    "TextStates",
    "Tokenizer",
    "batch_for_run",
    "bits_per_byte",
    "build_tokenizer",
    "load_corpus",
    "ngram_nats",
    "open_clips",
    "open_corpus",
    "open_dataset",
    "skipped_facts",
    "skipped_lines",
    "skipped_sentence",
    "story_grammar",
    "tokenizer_from_json",
    "translation_pairs",
    "translations",
]
