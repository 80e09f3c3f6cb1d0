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
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

LEAST_ERROR, UNITS = 1e-3, 32
"""Differences relative to the spread of the logits that may be rounding: a thousandth, or 32 units of the number type."""
STRAY = 20
"""One token in so many may differ by a choice that rounding turned over."""
EXPONENTS = (0.0, 0.5, 0.8, 1.25, 2.0)
NOT_FINITE = 1e9
"""Stands for a difference that has no number: series hold finite ones."""
_SURE = 0.95
_COLDEST = 0.05


class DrawSettings(Protocol):
    """How the next token is to be drawn; the value that is off: top_k 0, top_p 1, min_p 0, repetition_penalty 1."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def repetition_window(self) -> int: ...


class NotedToken(Protocol):
    """What a sampler notes of a token: its log-probability at temperature 1, and the probability it was drawn with."""

    @property
    def id(self) -> int: ...
    @property
    def logprob(self) -> float: ...
    @property
    def chosen_probability(self) -> float: ...


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
        log_probability, expected: mean ln q of what was drawn, and its mean under q itself; nats.
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
    log_probability: float = math.nan
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
            "draw_log_probability": self.log_probability,
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
    forward: Callable[[Tensor], Tensor],
    step: Callable[[Tensor], Tensor],
    prompt_ids: Sequence[int],
    tokens: Sequence[NotedToken],
    settings: DrawSettings,
    *,
    start_id: int,
    eos_id: int,
    forbidden: Collection[int],
    context: int,
    unit: float,
    is_plain: bool = True,
) -> SampleScore:
    """Score what was drawn after `prompt_ids` by the forward pass that is trained.

    Text beyond the context is left out: there a window slides, and the two paths rightly differ. Cost: one forward of
    one row; where the notes differ, two more and the cached step on the text.

    Args:
        forward, step: ids [1, T] → logits [1, T, V] of the whole pass, and of one token at a time.
        start_id: what a text without a prompt begins with.
        is_plain: whether the settings alone decide the probabilities.
    """
    known = max(0, min(len(tokens), context - len(prompt_ids)))
    if known < 2:
        return SampleScore(known, unit=unit)
    noted, ids = tokens[:known], [token.id for token in tokens[:known]]
    text = torch.tensor([[*prompt_ids, *ids[:-1]]])
    logits_nV = _answers(forward(text), known)
    if not bool(torch.isfinite(logits_nV).any(-1).all()):
        return SampleScore(known, unit=unit)
    log_nV = torch.log_softmax(logits_nV, -1)
    wanted_n = torch.tensor([token.logprob for token in noted], dtype=torch.float64)
    difference_n = _noted_difference(log_nV, logits_nV, ids, wanted_n)
    error, limit = _without_strays(difference_n), tolerance(unit)
    found = SampleScore(
        known,
        error,
        unit=unit,
        agreement=float((logits_nV.argmax(-1) == torch.tensor(ids)).double().mean()),
        end_probability=float(log_nV[:, eos_id].exp().sum()) if 0 <= eos_id < log_nV.shape[1] else math.nan,
        ended=bool(tokens) and tokens[-1].id == eos_id,
    )
    if error > limit:
        return _explain(found, forward, step, text, ids, wanted_n, difference_n, len(prompt_ids), start_id)
    if not is_plain or settings.temperature and settings.temperature < _COLDEST:
        return found
    return _judge_draws(found, logits_nV, [*prompt_ids], noted, settings, forbidden, eos_id)


def _answers(logits_1TV: Tensor, known: int) -> Tensor:
    """The predictions of the last `known` tokens, float64 on the CPU."""
    return logits_1TV[0, -known:].detach().double().cpu()


def _noted_difference(log_nV: Tensor, logits_nV: Tensor, ids: Sequence[int], wanted_n: Tensor) -> Tensor:
    spread_n = logits_nV.masked_fill(~torch.isfinite(logits_nV), 0).std(-1, correction=0).clamp(min=1e-30)
    said_n = log_nV[torch.arange(len(ids)), torch.tensor(ids)]
    return torch.nan_to_num((said_n - wanted_n).abs() / spread_n, nan=NOT_FINITE, posinf=NOT_FINITE)


def _without_strays(difference_n: Tensor) -> float:
    """The largest value that more than a few tokens reach."""
    strays = max(1, len(difference_n) // STRAY)
    return float(difference_n.sort(descending=True).values[strays])


def _explain(
    found: SampleScore,
    forward: Callable[[Tensor], Tensor],
    step: Callable[[Tensor], Tensor],
    text_1T: Tensor,
    ids: Sequence[int],
    wanted_n: Tensor,
    difference_n: Tensor,
    prompt: int,
    start_id: int,
) -> SampleScore:
    """Whether a sampler that notes something else was not given the prompt, or has a cached step that differs."""
    bad = (difference_n > tolerance(found.unit)).nonzero().flatten()
    bare = torch.cat((torch.tensor([[start_id]]), text_1T[:, prompt:]), 1)
    bare_nV = _answers(forward(bare), len(ids))
    without = _without_strays(_noted_difference(torch.log_softmax(bare_nV, -1), bare_nV, ids, wanted_n))
    return SampleScore(
        found.positions,
        found.error,
        int(bad[0]),
        # a text that never had a prompt says nothing of one
        without if prompt > 1 else math.nan,
        cached_step_check(step(text_1T), forward(text_1T), found.unit),
        agreement=found.agreement,
        end_probability=found.end_probability,
        ended=found.ended,
        unit=found.unit,
    )


def _judge_draws(
    found: SampleScore,
    logits_nV: Tensor,
    prompt: list[int],
    noted: Sequence[NotedToken],
    settings: DrawSettings,
    forbidden: Collection[int],
    eos_id: int,
) -> SampleScore:
    ids = [token.id for token in noted]
    q_nV = torch.stack(
        [intended(logits_nV[i], [*prompt, *ids[:i]], settings, forbidden) for i in range(len(ids))]
    )
    at_n = torch.arange(len(ids))
    drawn_n = q_nV[at_n, torch.tensor(ids)]
    possible_n = drawn_n > 0
    log_drawn_n = drawn_n.clamp(min=1e-300).log()
    said_n = torch.tensor([token.chosen_probability for token in noted], dtype=torch.float64)
    # a tie that rounding turns over makes one token impossible, or possible
    difference_n = torch.where(possible_n, (said_n.clamp(min=1e-300).log() - log_drawn_n).abs(), NOT_FINITE)
    draw_error = _without_strays(difference_n)
    impossible = 1 - float(possible_n.double().mean())
    entropy_n = torch.special.entr(q_nV).sum(-1)
    values = vars(found) | {
        "draw_error": draw_error,
        "impossible": impossible,
        "evidence": evidence(q_nV, ids, eos_id, ended=found.ended) if bool(possible_n.all()) else math.nan,
        "log_probability": float(log_drawn_n[possible_n].mean()) if bool(possible_n.any()) else math.nan,
        "expected": -float(entropy_n.mean()),
    }
    if draw_error > LEAST_ERROR:
        values["temperature"] = _temperature_of(logits_nV, ids, said_n, forbidden)
    return SampleScore(**values)


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
        powered_nV = torch.where(q_nV > 0, q_nV.clamp(min=1e-300) ** power, 0.0)
        ratios.append(float(((power - 1) * drawn_n - powered_nV.sum(-1).log()).sum()))
    likeliest_n = (q_nV.argmax(-1) == torch.tensor(ids)).double()
    ratios.append(float((1 - _SURE + _SURE * likeliest_n * (-drawn_n).exp()).log().sum()))
    if not ended and 0 <= eos_id < q_nV.shape[1]:
        ratios.append(float(-torch.log1p(-q_nV[:, eos_id].clamp(max=1 - 1e-12)).sum()))
    return max(ratios) - math.log(len(EXPONENTS) + 2)


def _temperature_of(logits_nV: Tensor, ids: Sequence[int], said_n: Tensor, forbidden: Collection[int]) -> float:
    """The temperature, without any filter, whose probabilities are those that were drawn with; NaN where none is."""
    logits_nV = logits_nV.clone()
    if forbidden:
        logits_nV[:, list(forbidden)] = -math.inf
    wanted_n, at = said_n.clamp(min=1e-300).log(), (torch.arange(len(ids)), torch.tensor(ids))

    def difference(inverse: float) -> Tensor:
        return torch.log_softmax(logits_nV * inverse, -1)[at] - wanted_n

    # 1/T from 20 to 1/20; each token alone says which, as long as its probability is not settled anyway
    grid = torch.logspace(-1.3, 1.3, 521, dtype=torch.float64).tolist()
    errors = [float(difference(inverse).abs().median()) for inverse in grid]
    best = grid[min(range(len(grid)), key=errors.__getitem__)]
    low, high = best / 1.0116, best * 1.0116
    for _ in range(40):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if float(difference(a).abs().sum()) < float(difference(b).abs().sum()):
            high = b
        else:
            low = a
    inverse = (low + high) / 2
    return 1 / inverse if _without_strays(difference(inverse).abs()) < LEAST_ERROR else math.nan


def prompt_response(first_by_prompt: Sequence[tuple[Sequence[int], Sequence[tuple[int, float]]]]) -> float:
    """How differently samples of different prompts begin: largest difference of the probability of a token, of those
    noted at the first generated token. Exactly 0 where the prompt is not read; NaN with fewer than two prompts.

    Args:
        first_by_prompt: ids of each prompt, and (token, probability) noted of the first prediction.
    """
    distinct = {tuple(prompt): dict(noted) for prompt, noted in first_by_prompt if noted}
    if len(distinct) < 2:
        return math.nan
    base, *others = distinct.values()
    return max(
        abs(base.get(token, 0.0) - other.get(token, 0.0)) for other in others for token in base.keys() | other.keys()
    )


def round_trip_loss(
    encode: Callable[[str], Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    pieces: Iterable[Sequence[int]],
) -> float:
    """Share of the ids that are other ones after ids → text → ids; exactly 0 for a tokenizer that fits the data. NaN
    without an id.

    Args:
        pieces: ids of the data without special ones, each from the beginning of a document, so that a tokenizer that
            joins letters sees the same words. The last 16 ids of a piece are not compared: a word may have been cut.
    """
    lost = total = 0
    for piece in pieces:
        compared = len(piece) - _CUT
        if compared < 1:
            continue
        again = list(encode(decode(piece)))
        same = sum(a == b for a, b in zip(piece[:compared], again, strict=False))
        lost, total = lost + compared - same, total + compared
    return lost / total if total else math.nan


_CUT = 16


def _spread(logits_BTV: Tensor) -> float:
    """Standard deviation over the vocabulary, mean over what is finite."""
    finite = torch.where(torch.isfinite(logits_BTV), logits_BTV, 0.0)
    return float(finite.std(-1, correction=0).mean())
