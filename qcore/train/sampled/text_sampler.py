"""Text as records while it is drawn: a prompt, the text that grows from it, and what the model thought of every token.

The same function serves the live model between two steps, a paused one, and a checkpoint opened in another process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from qcore.config import ConfigError, SamplingConfig, Section, TextRunConfig
from qcore.data import Tokenizer
from qcore.diagnostics import generation_statistics
from qcore.models import LanguageModel
from qcore.sampling import SampledToken, check_phases, generate
from qcore.store import Generation
from qcore.train.workload import SAMPLE_ERRORS, Sampler

UPDATE_SECONDS = 0.1

DrawText = Callable[..., Iterator[SampledToken]]
"""(the sampler, model, prompt ids, settings, …) → tokens, as `Engine.draw_text`."""


class TextSampler(Sampler):
    """A language model and its tokenizer, and the engine's way of drawing where there is one."""

    def __init__(
        self, config: TextRunConfig, model: LanguageModel, tokenizer: Tokenizer, draw_text: DrawText | None = None
    ) -> None:
        self.config: TextRunConfig = config
        self._model = model
        self._tokenizer = tokenizer
        self._draw_text = draw_text

    def sample(
        self,
        draft: Generation,
        settings: SamplingConfig,
        controls: Mapping[str, Any],
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Generation]:
        """As of any sampler."""
        del controls
        self._check_sampling(settings)
        # training puts it back before its next step; done once here, it saves `generate` a walk a token
        self._model.eval()
        return sample_text(self._draw, self._tokenizer, draft, settings, stop)

    def _draw(self, prompt_ids: list[int], settings: SamplingConfig, **more: Any) -> Iterator[SampledToken]:
        if self._draw_text is None:
            return generate(self._model, prompt_ids, settings, **more)
        return self._draw_text(generate, self._model, prompt_ids, settings, **more)

    def settings(self, changes: Mapping[str, Any]) -> Section:
        """As of every family; also refused: a coherence-aware rule for a model without phases."""
        settings = super().settings(changes)
        assert isinstance(settings, SamplingConfig)
        self._check_sampling(settings)
        return settings

    def _check_sampling(self, settings: SamplingConfig) -> None:
        try:
            check_phases(self._model, settings)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def sample_text(
    draw: Callable[..., Iterator[SampledToken]],
    tokenizer: Tokenizer,
    draft: Generation,
    settings: SamplingConfig,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Generation]:
    """Yield `draft` as it grows, at most every 0.1 s, and last with its statistics and status `done`.

    The prompt is preceded by the begin-of-sequence token, as every document is in training. A model that breaks
    while it speaks (NaN logits) ends with status `failed` and the reason in its statistics.
    """
    started = shown = time.monotonic()
    prompt_ids = [tokenizer.bos_id, *tokenizer.encode(draft.prompt)]
    unknown = sum(token == tokenizer.unk_id for token in prompt_ids)
    ids: list[int] = []
    sampled: list[SampledToken] = []
    rows: list[dict[str, object]] = []
    forbidden = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id)
    status, reason = "done", None

    def partial(status: str, stats: dict[str, object]) -> Generation:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        return replace(draft, text=text, tokens=list(rows), stats=stats, status=status)

    try:
        rest: dict[str, Any] = {"eos_id": tokenizer.eos_id, "forbidden": forbidden, "stop": stop}
        for token in draw(prompt_ids, settings, **rest):
            ids.append(token.id)
            sampled.append(token)
            rows.append(_token_row(token, tokenizer))
            if time.monotonic() - shown >= UPDATE_SECONDS:
                shown = time.monotonic()
                yield partial("running", {"unknown_prompt_tokens": unknown})
    except SAMPLE_ERRORS as error:
        status, reason = "failed", str(error) or type(error).__name__
    stats: dict[str, object] = {
        name.partition("/")[2]: value
        for name, value in generation_statistics(
            ids, logprobs=[token.logprob for token in sampled], entropies=[token.entropy for token in sampled]
        )
        .scalars()
        .items()
    }
    stats |= {"unknown_prompt_tokens": unknown, "seconds": time.monotonic() - started}
    yield partial(status, stats | ({"error": reason} if reason else {}))


def _token_row(token: SampledToken, tokenizer: Tokenizer) -> dict[str, object]:
    top = zip(token.top_ids, token.top_probabilities, strict=True)
    return {
        "label": tokenizer.token_text(token.id),
        "id": token.id,
        "logprob": token.logprob,
        "probability": token.probability,
        "rank": token.rank,
        "entropy": token.entropy,
        "chosen_probability": token.chosen_probability,
        "top": [[tokenizer.token_text(other), probability] for other, probability in top],
    }
