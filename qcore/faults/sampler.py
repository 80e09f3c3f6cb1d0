"""S1–S9: training is right, and what generates is something else: the cached step, the sampler, the text around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from qcore.data import Tokenizer
from qcore.faults.patching import Plantable, override, wrong_family_error
from qcore.models import LanguageModel, ModelOutput, Transformer, TransformerState

_HOT = 2.0


def dropout_left_on(engine: Plantable) -> None:
    """S1: `eval()` changes nothing, so that dropout acts in evaluation."""
    override(engine.model, "eval", lambda self: self.train(True))


def softmax_in_the_head(engine: Plantable) -> None:
    """S2: the head returns probabilities; the loss takes their softmax again."""
    override(engine.model, "read_out", lambda self, hidden_BTD: type(self).read_out(self, hidden_BTD).softmax(-1))


def positions_start_anew(engine: Plantable) -> None:
    """S3: every token that is generated has position 0; the forward pass counts.

    Raises:
        ValueError: for a model without rotary positions.
    """
    if not isinstance(engine.model, Transformer):
        raise wrong_family_error(engine, "transformer")

    def step(self: Transformer, tokens_B: Tensor, state: TransformerState) -> tuple[ModelOutput, TransformerState]:
        return type(self).step(self, tokens_B, replace(state, position=0))

    override(engine.model, "step", step)


def overflow_in_the_step(engine: Plantable) -> None:
    """S4: the logits of the cached step are NaN, as where half precision overflows in it alone."""

    def step(self: LanguageModel, tokens_B: Tensor, state: Any) -> tuple[ModelOutput, Any]:
        output, state = type(self).step(self, tokens_B, state)
        return replace(output, logits_BTV=output.logits_BTV * float("nan")), state

    override(engine.model, "step", step)


def _change_draws(engine: Plantable, change: Callable[[list[int], Any], tuple[list[int], Any]]) -> None:
    def draw_text(
        self: Any,
        draw: Callable[..., Iterator[Any]],
        model: LanguageModel,
        prompt_ids: list[int],
        settings: Any,
        **more: Any,
    ) -> Iterator[Any]:
        prompt_ids, settings = change(prompt_ids, settings)
        drawn: Iterator[Any] = type(self).draw_text(self, draw, model, prompt_ids, settings, **more)
        return drawn

    override(engine, "draw_text", draw_text)


def temperature_multiplied(engine: Plantable) -> None:
    """S5: logits are multiplied where they should be divided, so that ½ acts as 2 does."""
    _change_draws(
        engine,
        lambda ids, settings: (ids, settings.model_copy(update={"temperature": _HOT * (settings.temperature or 1)})),
    )


def likeliest_taken(engine: Plantable) -> None:
    """S6: the likeliest token is taken, whatever temperature is asked for."""
    _change_draws(engine, lambda ids, settings: (ids, settings.model_copy(update={"temperature": 0.0})))


def start_left_out(engine: Plantable) -> None:
    """S7: the prompt is not preceded by the token with which every text of training begins."""
    _change_draws(engine, lambda ids, settings: (ids[1:] or ids, settings))


def prompt_left_out(engine: Plantable) -> None:
    """S8: only the first token of the prompt reaches the model."""
    _change_draws(engine, lambda ids, settings: (ids[:1], settings))


def shifted_vocabulary(engine: Plantable) -> None:
    """S9: ids become text by a table that is off by one."""
    engine.dataset = replace(engine.dataset, tokenizer=_ShiftedTokenizer(engine.dataset.tokenizer))


class _ShiftedTokenizer:
    """A tokenizer whose ids above the special ones are read one too high."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def decode(self, ids: Any, *, skip_special_tokens: bool = True) -> str:
        special, count = 4, self._inner.vocab_size
        moved = [i if i < special else special + (i + 1 - special) % (count - special) for i in map(int, ids)]
        return self._inner.decode(moved, skip_special_tokens=skip_special_tokens)


PLANTERS = {
    "S1": dropout_left_on,
    "S2": softmax_in_the_head,
    "S3": positions_start_anew,
    "S4": overflow_in_the_step,
    "S5": temperature_multiplied,
    "S6": likeliest_taken,
    "S7": start_left_out,
    "S8": prompt_left_out,
    "S9": shifted_vocabulary,
}
