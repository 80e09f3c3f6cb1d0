"""Does the path that generates come from the model that is trained? Text.

What is compared must be equal, not alike, so hardly any number here is fitted to an example:

- two equal calls of a model in evaluation give equal logits;
- the cached step gives the logits of the whole forward pass on the same ids (`cached_step_check`);
- what a sampler noted of each token it drew is what the teacher-forced model says of the same text (`score_sample`);
- the probability it drew a token with is the one that the settings make of those logits, computed here anew;
- what was drawn follows that probability. Each alternative (another temperature, the likeliest token always, no end of
  the text) is a likelihood ratio against it, whose mean under the right sampler is 1: it exceeds e^x with a probability
  below e^−x, however short the sample and however skewed its distributions.

Only rounding may differ. It is counted in units of the number type in which the model computes: `rounding_unit`.
A discrete choice (an expert, a hard gate) may turn over by rounding at one place; so a row counts as different where
two rows are, or where more than one token in twenty is.

Legend: B rows · T tokens · V vocabulary · n generated tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

LEAST_ERROR, UNITS = 1e-3, 32
"""Differences ÷ spread of the logits that may be rounding: a thousandth, or 32 units of the number type."""
STRAY = 20
"""One token in so many may differ by a choice that rounding turned over."""
EXPONENTS = (0.0, 0.5, 0.8, 1.25, 2.0)
NOT_FINITE = 1e9
"""Stands for a difference that has no number: series hold finite ones."""
_SURE = 0.95
_COLDEST = 0.05
_LEAST = 2
_TINY = 1e-300
_GRID = 1.025


class DrawSettings(Protocol):
    """How the next token is to be drawn; the value that is off: top_k 0, top_p 1, min_p 0, repetition_penalty 1."""

    @property
    def temperature(self) -> float:
        """Divides the logits; 0 takes the likeliest."""

    @property
    def top_k(self) -> int:
        """How many of the likeliest are kept."""

    @property
    def top_p(self) -> float:
        """Mass of the likeliest that are kept."""

    @property
    def min_p(self) -> float:
        """Least share of the largest probability."""

    @property
    def repetition_penalty(self) -> float:
        """Divides the logits of recent tokens that are above 0, and multiplies the others."""

    @property
    def repetition_window(self) -> int:
        """How many tokens are recent; 0: all."""


@dataclass(frozen=True)
class NotedToken:
    """What a sampler notes of a token: its log-probability at temperature 1, and the probability it was drawn with."""

    id: int
    logprob: float
    chosen_probability: float


@dataclass(frozen=True)
class ScoringModel:
    """The trained model, as a scorer of text.

    Attributes:
        forward, step: ids [1, T] → logits [1, T, V] of the whole pass, and of one token at a time.
        start_id: what a text without a prompt begins with.
        forbidden: ids that are never drawn.
        context: most tokens for which both paths agree; beyond it a window slides.
        unit: rounding of the number type.
    """

    forward: Callable[[Tensor], Tensor]
    step: Callable[[Tensor], Tensor]
    start_id: int
    eos_id: int
    forbidden: Collection[int]
    context: int
    unit: float


def rounding_unit(tensors: Iterable[Tensor]) -> float:
    """The largest relative rounding error of the floating types among tensors (2^−23 for float32, 2^−7 for bfloat16);
    float32's where there are none.
    """
    units = [torch.finfo(value.dtype).eps for value in tensors if value.is_floating_point()]
    return max(units, default=float(torch.finfo(torch.float32).eps))


def tolerance(unit: float) -> float:
    """What may be rounding, relative to the spread of the logits.

    Example:
        >>> tolerance(2**-23), tolerance(2**-7)
        (0.001, 0.25)
    """
    return max(LEAST_ERROR, UNITS * unit)


def call_difference(first_BTV: Tensor, second_BTV: Tensor) -> float:
    """max|Δlogits| of two equal calls ÷ the logits' spread over the vocabulary: exactly 0 for a model in evaluation;
    as good as infinite where one is finite and the other is not.
    """
    first, second = first_BTV.double(), second_BTV.double()
    finite = torch.isfinite(first) & torch.isfinite(second)
    if bool((torch.isfinite(first) != torch.isfinite(second)).any()):
        return NOT_FINITE
    if not bool(finite.any()):
        return math.nan
    largest = float((first - second).abs()[finite].max())
    return largest / max(_spread(first), 1e-30) if largest else 0.0


def probability_share(outputs_BTV: Tensor, mask_BT: Tensor | None = None) -> float:
    """Share of the positions whose outputs are no logits but probabilities: none below 0, and their sum 1.

    Their softmax is taken again by the loss: with V tokens it stays within a factor e of even. A row of real logits
    is one by a chance that grows with neither V nor T, but no model has it at all of its positions. Outputs that are
    log-probabilities are not counted: their softmax is what it should be. NaN without a position.

    Example:
        >>> logits = torch.randn(2, 8, 5)
        >>> probability_share(logits.softmax(-1)), probability_share(logits.log_softmax(-1))
        (1.0, 0.0)
    """
    rows_NV = outputs_BTV.detach()[mask_BT] if mask_BT is not None else outputs_BTV.detach().flatten(0, 1)
    if not rows_NV.numel() or rows_NV.shape[-1] < 2:
        return math.nan
    rounding = max(1e-3, 2 * torch.finfo(rows_NV.dtype).eps)
    is_one_N = (rows_NV.amin(-1) >= 0) & ((rows_NV.float().sum(-1) - 1).abs() <= rounding)
    return float(is_one_N.float().mean())


@dataclass(frozen=True)
class CachedStepCheck:
    """The incremental path against the forward pass on the same ids.

    Attributes:
        positions: how many tokens were compared.
        error: largest difference over the tokens ÷ the spread of the logits, in the row that differs less.
        first: the first token (from 0) at which every row differs by more than rounding; None when none does.
        nonfinite: share of the step's logits that are not finite where the forward pass's are.
        unit: rounding of the number type.
    """

    positions: int
    error: float
    first: int | None
    nonfinite: float
    unit: float

    def scalars(self) -> dict[str, float]:
        """Series by name; undefined ones are left out."""
        return drop_undefined(
            {
                catalog.SAMPLER_CACHE_ERROR: self.error,
                catalog.SAMPLER_CACHE_FIRST: math.nan if self.first is None else float(self.first),
                catalog.SAMPLER_CACHE_NONFINITE: self.nonfinite,
                catalog.SAMPLER_ROUNDING: self.unit,
            }
        )


def cached_step_check(stepped_BTV: Tensor, forward_BTV: Tensor, unit: float) -> CachedStepCheck:
    """Compare the logits of the cached step with those of the forward pass on the same ids, [B, T, V] each.

    Raises:
        ValueError: shapes that disagree.
    """
    if stepped_BTV.shape != forward_BTV.shape:
        raise ValueError(
            f"logits of shape {tuple(stepped_BTV.shape)} and {tuple(forward_BTV.shape)}: pass those of the same ids"
        )
    stepped, whole = stepped_BTV.detach().double(), forward_BTV.detach().double()
    known = torch.isfinite(whole)
    broken = known & ~torch.isfinite(stepped)
    nonfinite = float(broken.sum()) / max(1, int(known.sum()))
    both = known & ~broken
    difference_BT = torch.where(both, (stepped - whole).abs(), 0.0).amax(-1) / max(_spread(whole), 1e-30)
    # a choice turned over by rounding turns in one row; a mistake shows in all of them
    difference_T = difference_BT.amin(0)
    bad = (difference_T > tolerance(unit)).nonzero().flatten()
    compared = bool(both.any())
    return CachedStepCheck(
        positions=stepped.shape[1],
        error=float(difference_T.max()) if compared else math.nan,
        first=int(bad[0]) if len(bad) else None,
        nonfinite=nonfinite,
        unit=unit,
    )


@dataclass(frozen=True)
class SampleScore:
    """A sample, scored by the teacher-forced model.

    Attributes:
        positions: generated tokens that were compared.
        error: difference of the noted log-probabilities from the model's ÷ the spread of its logits, rounding apart
            from strays.
        first: the first generated token (from 0) that differs.
        without_prompt: the same error when the model is given the text without its prompt; NaN unless asked.
        cache: what the cached step says of the right text; None unless asked.
        draw_error: difference of ln(probability drawn with) from what the settings ask for, nats.
        temperature: which would give the probabilities that were drawn with; NaN where none does.
        evidence: ln of the largest likelihood ratio of another way of drawing against the one asked for, nats.
        impossible: share of the tokens that the settings would never draw.
        log_drawn, expected: mean ln q of what was drawn, and its mean under q itself; nats.
        agreement: share of the tokens that are the model's likeliest.
        end_probability: Σ over the tokens of the model's probability (temperature 1) of ending there.
        ended: whether its last token is the end of the text.
    """

    positions: int
    error: float = math.nan
    first: int | None = None
    without_prompt: float = math.nan
    cache: CachedStepCheck | None = None
    draw_error: float = math.nan
    temperature: float = math.nan
    evidence: float = math.nan
    impossible: float = math.nan
    log_drawn: float = math.nan
    expected: float = math.nan
    agreement: float = math.nan
    end_probability: float = math.nan
    ended: bool = False
    unit: float = field(default=float(torch.finfo(torch.float32).eps))

    def stats(self) -> dict[str, float]:
        """What is kept with a sample, by the last part of the series' names; undefined ones are left out."""
        known = {
            "score_error": self.error,
            "score_first": math.nan if self.first is None else float(self.first),
            "score_without_prompt": self.without_prompt,
            "draw_error": self.draw_error,
            "draw_temperature": self.temperature,
            "draw_evidence": self.evidence,
            "draw_impossible": self.impossible,
            "draw_log_probability": self.log_drawn,
            "draw_expected": self.expected,
            "draw_agreement": self.agreement,
            "end_probability": self.end_probability,
            "ended": float(self.ended),
            "rounding": self.unit,
        }
        found = drop_undefined({name: value for name, value in known.items() if math.isfinite(value)})
        return found | ({} if self.cache is None else _cache_stats(self.cache))


def _cache_stats(check: CachedStepCheck) -> dict[str, float]:
    return {name.partition("/")[2]: value for name, value in check.scalars().items()}


def score_sample(
    model: ScoringModel,
    prompt_ids: Sequence[int],
    tokens: Sequence[NotedToken],
    settings: DrawSettings,
    *,
    is_plain: bool = True,
) -> SampleScore:
    """Score what was drawn after `prompt_ids` by the forward pass that is trained.

    Text beyond the context is left out. Cost: one forward of one row; where the notes differ, two more and the cached
    step on the text.

    Args:
        is_plain: whether the settings alone decide the probabilities.
    """
    known = max(0, min(len(tokens), model.context - len(prompt_ids)))
    if known < _LEAST:
        return SampleScore(known, unit=model.unit)
    notes = _Notes(tokens[:known])
    text_1T = torch.tensor([[*prompt_ids, *notes.ids[:-1]]])
    logits_nV = _answers(model.forward(text_1T), known)
    if not bool(torch.isfinite(logits_nV).any(-1).all()):
        return SampleScore(known, unit=model.unit)
    difference_n = notes.difference(logits_nV)
    has_end = 0 <= model.eos_id < logits_nV.shape[1]
    found = SampleScore(
        known,
        _without_strays(difference_n),
        unit=model.unit,
        agreement=float((logits_nV.argmax(-1) == notes.id_n).double().mean()),
        end_probability=float(logits_nV.softmax(-1)[:, model.eos_id].sum()) if has_end else math.nan,
        ended=tokens[-1].id == model.eos_id,
    )
    if found.error > tolerance(model.unit):
        bad = (difference_n > tolerance(model.unit)).nonzero().flatten()
        return replace(_explain(found, model, notes, text_1T, len(prompt_ids)), first=int(bad[0]))
    if not is_plain or 0 < settings.temperature < _COLDEST:
        return found
    ids = notes.ids
    q_nV = torch.stack(
        [intended(logits_nV[i], [*prompt_ids, *ids[:i]], settings, model.forbidden) for i in range(known)]
    )
    return _judge_draws(found, model, notes, logits_nV, q_nV)


class _Notes:
    """What was noted of the tokens, as tensors [n]."""

    def __init__(self, tokens: Sequence[NotedToken]) -> None:
        self.ids = [token.id for token in tokens]
        self.id_n = torch.tensor(self.ids)
        self.logprob_n = torch.tensor([token.logprob for token in tokens], dtype=torch.float64)
        probability_n = torch.tensor([token.chosen_probability for token in tokens], dtype=torch.float64)
        self.log_chosen_n = probability_n.clamp(min=_TINY).log()

    def of_tokens(self, values_nV: Tensor) -> Tensor:
        """The value of each token in its row."""
        return values_nV.gather(1, self.id_n[:, None])[:, 0]

    def difference(self, logits_nV: Tensor) -> Tensor:
        """|noted log-probability − the model's| ÷ spread of its logits, of each token."""
        finite_nV = logits_nV.masked_fill(~torch.isfinite(logits_nV), 0)
        spread_n = finite_nV.std(-1, correction=0).clamp(min=1e-30)
        apart_n = (self.of_tokens(torch.log_softmax(logits_nV, -1)) - self.logprob_n).abs() / spread_n
        return torch.nan_to_num(apart_n, nan=NOT_FINITE, posinf=NOT_FINITE)


def _answers(logits_1TV: Tensor, known: int) -> Tensor:
    """The predictions of the last `known` tokens, float64 on the CPU."""
    return logits_1TV[0, -known:].detach().double().cpu()


def _without_strays(difference_n: Tensor) -> float:
    """The largest value that more than a few tokens reach."""
    strays = max(1, len(difference_n) // STRAY)
    return float(difference_n.sort(descending=True).values[strays])


def _explain(found: SampleScore, model: ScoringModel, notes: _Notes, text_1T: Tensor, prompt: int) -> SampleScore:
    """Whether a sampler that notes something else was not given the prompt, or has a cached step that differs."""
    bare_1T = torch.cat((torch.tensor([[model.start_id]]), text_1T[:, prompt:]), 1)
    without = _without_strays(notes.difference(_answers(model.forward(bare_1T), len(notes.ids))))
    return replace(
        found,
        # a text that never had a prompt says nothing of one
        without_prompt=without if prompt > 1 else math.nan,
        cache=cached_step_check(model.step(text_1T), model.forward(text_1T), model.unit),
    )


def _judge_draws(
    found: SampleScore, model: ScoringModel, notes: _Notes, logits_nV: Tensor, q_nV: Tensor
) -> SampleScore:
    """How the tokens were drawn, against the distributions q that they were to be drawn from."""
    drawn_n = notes.of_tokens(q_nV)
    possible_n = drawn_n > 0
    log_drawn_n = drawn_n.clamp(min=_TINY).log()
    # a tie that rounding turns over makes one token impossible, or possible
    draw_error = _without_strays(torch.where(possible_n, (notes.log_chosen_n - log_drawn_n).abs(), NOT_FINITE))
    anything, everything = bool(possible_n.any()), bool(possible_n.all())
    if model.forbidden:
        logits_nV = logits_nV.clone()
        logits_nV[:, list(model.forbidden)] = -math.inf
    return replace(
        found,
        draw_error=draw_error,
        temperature=_temperature_of(logits_nV, notes) if draw_error > LEAST_ERROR else math.nan,
        evidence=evidence(q_nV, notes.ids, model.eos_id, ended=found.ended) if everything else math.nan,
        impossible=1 - float(possible_n.double().mean()),
        log_drawn=float(log_drawn_n[possible_n].mean()) if anything else math.nan,
        expected=-float(torch.special.entr(q_nV).sum(-1).mean()),
    )


def intended(
    logits_V: Tensor, history: Sequence[int], settings: DrawSettings, forbidden: Collection[int] = ()
) -> Tensor:
    """Probabilities [V] with which the settings ask for the next token: penalty, temperature, top-k, top-p, min-p.

    Written anew on purpose: the rule of a sampler is what this is held against. The formulas are those of
    `qcore.sampling.next_distribution`.
    """
    logits_V = logits_V.detach().double().cpu().clone()
    if forbidden:
        logits_V[list(forbidden)] = -math.inf
    if settings.repetition_penalty != 1:
        for token in set(history[-settings.repetition_window :] if settings.repetition_window else history):
            logit = logits_V[token]
            factor = 1 / settings.repetition_penalty if logit > 0 else settings.repetition_penalty
            logits_V[token] = logit * factor
    if settings.temperature == 0:
        return torch.nn.functional.one_hot(logits_V.argmax(), len(logits_V)).double()
    probs_V = torch.softmax((logits_V - logits_V.max()) / settings.temperature, -1)
    order_V = probs_V.argsort(descending=True, stable=True)
    kept_V = torch.ones(len(probs_V), dtype=torch.bool)
    if settings.top_k:
        kept_V[settings.top_k :] = False
    ranked_V = probs_V[order_V] * kept_V
    if settings.top_p < 1:
        kept_V &= ranked_V.cumsum(0) - ranked_V < settings.top_p * ranked_V.sum()
        ranked_V = ranked_V * kept_V
    ranked_V = ranked_V * (ranked_V >= settings.min_p * ranked_V[0])
    return torch.zeros_like(probs_V).index_put((order_V,), ranked_V / ranked_V.sum())


def evidence(q_nV: Tensor, ids: Sequence[int], eos_id: int, *, ended: bool) -> float:
    """ln of the likelihood ratio of the best other way of drawing against q, less ln of how many were tried; nats.

    Above x with a probability of at most e^−x when tokens are drawn from q [n, V] one after another. The others: q
    raised to a power (0: any token, ½: twice the temperature … 2: half of it), nearly always the likeliest token, and q
    without the end of the text.
    """
    drawn_n = q_nV[torch.arange(len(ids)), torch.tensor(ids)].log()
    ratios = []
    for power in EXPONENTS:
        powered_nV = torch.where(q_nV > 0, q_nV.clamp(min=_TINY) ** power, 0.0)
        ratios.append(float(((power - 1) * drawn_n - powered_nV.sum(-1).log()).sum()))
    likeliest_n = (q_nV.argmax(-1) == torch.tensor(ids)).double()
    ratios.append(float((1 - _SURE + _SURE * likeliest_n * (-drawn_n).exp()).log().sum()))
    if not ended and 0 <= eos_id < q_nV.shape[1]:
        ratios.append(float(-torch.log1p(-q_nV[:, eos_id].clamp(max=1 - 1e-12)).sum()))
    return max(ratios) - math.log(len(EXPONENTS) + 2)


def _temperature_of(logits_nV: Tensor, notes: _Notes) -> float:
    """The temperature, without any filter, whose probabilities are those that were drawn with; NaN where none is."""

    def error(inverse: float) -> Tensor:
        return (notes.of_tokens(torch.log_softmax(logits_nV * inverse, -1)) - notes.log_chosen_n).abs()

    # 1/T from 20 to 1/20, then ever closer around the best of them
    grid = torch.logspace(-1.3, 1.3, 261, dtype=torch.float64).tolist()
    best = min(grid, key=lambda inverse: float(error(inverse).sum()))
    low, high = best / _GRID, best * _GRID
    for _ in range(40):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if float(error(a).sum()) < float(error(b).sum()) else (a, high)
    inverse = (low + high) / 2
    return 1 / inverse if _without_strays(error(inverse)) < LEAST_ERROR else math.nan


def _spread(logits_BTV: Tensor) -> float:
    """Standard deviation over the vocabulary, mean over what is finite."""
    finite = torch.where(torch.isfinite(logits_BTV), logits_BTV, 0.0)
    return float(finite.std(-1, correction=0).mean())
