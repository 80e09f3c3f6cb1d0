"""Timeline samples of text, held against the model that is trained; how is in `qcore.diagnostics.sampler`.

Samples are drawn between two steps, so the weights behind a sample are those of its step: nothing but rounding may lie
between what the sampler noted and what the teacher-forced model says. A sample costs one forward pass of one row more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcore.config import SamplingConfig
from qcore.data import Dataset, Tokenizer
from qcore.diagnostics import (
    NotedToken,
    SampleScore,
    ScoringModel,
    prompt_response,
    round_trip_loss,
    rounding_unit,
    score_sample,
)
from qcore.probes import catalog
from qcore.sampling import uses_coherence
from qcore.store import Generation
from qcore.train.text_engine import Engine

_COUNTED = 1_000_000
"""Tokens of the data in which ends of texts are counted."""
_PIECES, _PIECE = 32, 128
_LEAST_TEXTS = 8
_WORST = (
    "score_error",
    "score_first",
    "draw_error",
    "draw_impossible",
    "draw_temperature",
    "cache_error",
    "cache_first",
    "cache_nonfinite",
    "rounding",
)
"""Of several samples the worst speaks for all: a mistake in one is a mistake."""
_MEAN = ("draw_log_probability", "draw_expected", "draw_agreement", "end_probability")


def score_generation(engine: Engine, sample: Generation, settings: SamplingConfig) -> SampleScore:
    """A whole sample, scored by the live model on the text as training would have it."""
    tokenizer = engine.dataset.tokenizer
    noted = [_noted(row) for row in sample.tokens]
    model = ScoringModel(
        engine.logits_as_generated,
        engine.stepped_logits,
        tokenizer.bos_id,
        tokenizer.eos_id,
        (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id),
        engine.config.model.context,
        rounding_unit(engine.model.parameters()),
    )
    prompt_ids = _prompt_ids(tokenizer, sample.prompt)
    return score_sample(model, prompt_ids, noted, settings, is_plain=not uses_coherence(settings))


def compare_texts(engine: Engine, samples: Sequence[Generation], scores: Mapping[str, SampleScore]) -> dict[str, float]:
    """Series of all samples of a step: the worst of each difference, and what only several samples tell."""
    count = len(samples)
    if not count:
        return {}
    done = [sample for sample in samples if sample.status == "done"]
    tokenizer = engine.dataset.tokenizer
    found = {
        catalog.SAMPLER_FAILED_SHARE: sum(sample.status == "failed" for sample in samples) / count,
        catalog.SAMPLER_EMPTY_SHARE: sum(_is_empty(sample, tokenizer) for sample in done) / count,
        catalog.SAMPLER_PROMPT_RESPONSE: prompt_response(
            [(_prompt_ids(tokenizer, sample.prompt), _first_prediction(sample)) for sample in done]
        ),
    }
    stats = [scores[sample.id].stats() for sample in done if sample.id in scores]
    for name in (*_WORST, *_MEAN):
        values = [one[name] for one in stats if name in one]
        if values:
            found[_name(name)] = max(values) if name in _WORST else sum(values) / len(values)
    # a prompt is left out of a sample only where it is left out of each
    bare = [one["score_without_prompt"] for one in stats if "score_without_prompt" in one]
    found[catalog.SAMPLER_SCORE_WITHOUT_PROMPT] = max(bare, default=math.nan)
    # all samples are drawn with one seed, so their ratios may not be multiplied; a mean of them is a ratio again
    ratios = [one["draw_evidence"] for one in stats if "draw_evidence" in one]
    if ratios:
        largest = max(ratios)
        found[catalog.SAMPLER_DRAW_EVIDENCE] = largest + math.log(
            sum(math.exp(ratio - largest) for ratio in ratios) / len(ratios)
        )
    ended = [one["ended"] for one in stats]
    if ended:
        found[catalog.SAMPLER_ENDED_SHARE] = sum(ended) / len(ended)
        lengths = text_lengths(engine.dataset)
        context = engine.config.model.context
        shares = [_share_ended(lengths, len(_prompt_ids(tokenizer, one.prompt)), one, context) for one in done]
        found[catalog.SAMPLER_END_EXPECTED] = sum(shares) / len(shares)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def data_round_trip(dataset: Dataset) -> dict[str, float]:
    """Whether the ids of the data come back through text; of the beginnings of a few texts, up to an unknown word."""
    tokenizer = dataset.tokenizer
    loss = round_trip_loss(tokenizer.encode, tokenizer.decode, _beginnings(dataset))
    return {} if math.isnan(loss) else {catalog.ROUND_TRIP_LOSS: loss}


def text_lengths(dataset: Dataset) -> np.ndarray:
    """Tokens of the texts of the training data between their beginning and their end; none where they have no end."""
    tokens_N = np.asarray(dataset.train.tokens_N[:_COUNTED])
    starts = np.flatnonzero(tokens_N == dataset.tokenizer.bos_id)
    ends = np.flatnonzero(tokens_N == dataset.tokenizer.eos_id)
    if not len(starts) or not len(ends):
        return np.zeros(0, np.int64)
    following = np.searchsorted(ends, starts)
    whole = following < len(ends)
    return ends[following[whole]] - starts[whole] - 1


def _share_ended(lengths: np.ndarray, prompt: int, sample: Generation, context: int) -> float:
    """Share of the texts that are longer than the prompt, and end within the length asked for, as far as samples are
    scored.
    """
    drawn = min(int(sample.settings.get("max_tokens", len(sample.tokens))), context - prompt)
    longer = lengths[lengths >= prompt]
    return float((longer < prompt - 1 + drawn).mean()) if len(longer) >= _LEAST_TEXTS else math.nan


def _beginnings(dataset: Dataset) -> list[list[int]]:
    tokenizer, tokens_N = dataset.tokenizer, np.asarray(dataset.train.tokens_N[:_COUNTED])
    starts = np.flatnonzero(tokens_N == tokenizer.bos_id)[:_PIECES] + 1
    special = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id}
    pieces = []
    for start in starts:
        piece = tokens_N[start : start + _PIECE].tolist()
        end = next((at for at, token in enumerate(piece) if token in special), len(piece))
        pieces.append(piece[:end])
    return pieces


def _prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    return [tokenizer.bos_id, *tokenizer.encode(prompt)]


def _noted(row: Mapping[str, Any]) -> NotedToken:
    return NotedToken(int(row["id"]), float(row["logprob"]), float(row["chosen_probability"]))


def _first_prediction(sample: Generation) -> list[tuple[Any, float]]:
    """The likeliest tokens at the first generated place, with their probabilities."""
    return [(label, float(probability)) for label, probability in sample.tokens[0]["top"]] if sample.tokens else []


def _is_empty(sample: Generation, tokenizer: Tokenizer) -> bool:
    return not sample.tokens or sample.tokens[0]["id"] == tokenizer.eos_id


def _name(stat: str) -> str:
    return catalog.member(catalog.SAMPLER, stat)
