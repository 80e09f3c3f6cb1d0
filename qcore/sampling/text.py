"""Text generation from anything that offers `start` and `step`: one forward a token, its own random stream.

`next_distribution` is the whole sampling rule as a pure function. `generate` yields tokens one by one; between two
tokens the caller may train the same model, so the mode of its modules, the gradient mode and the global random state
are restored before every yield, not only at the end. Numbers on a token describe the model itself (temperature 1,
nothing filtered), except `chosen_probability`. Distributions are computed in float64 on the CPU. The coherence-aware
rules need a model with phases; without them (both 0) nothing of a model is read but its logits.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

ALTERNATIVES = 5


class SamplingSettings(Protocol):
    """How to pick the next token; `check_settings` states the ranges, "off" being the value that changes nothing."""

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
    @property
    def coherence_temperature(self) -> float: ...
    @property
    def coherence_penalty(self) -> float: ...
    @property
    def coherence_window(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def sample_seed(self) -> int: ...


class StepOutput(Protocol):
    """A model with phases also has `phases` (a tuple, the last layer's last) or `state_BTP` (complex)."""

    @property
    def logits_BTV(self) -> Tensor: ...


class StepModel(Protocol):
    """What `generate` needs of a model: incremental state for a batch of one, and its modules and parameters."""

    def start(self, batch_size: int) -> Any: ...
    def step(self, tokens_B: Tensor, state: Any) -> tuple[StepOutput, Any]: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class Coherence:
    """Phase coherence of the newest states, and its level over all windows so far; both in [0, 1]."""

    now: float
    level: float


@dataclass(frozen=True)
class SampledToken:
    """One generated token and what the model thought of it."""

    id: int
    logprob: float
    """ln p(id) in nats under the model's own distribution, as are the next five fields."""
    probability: float
    rank: int
    """1 for the most likely token; tokens that tie share the better rank."""
    entropy: float
    top_ids: tuple[int, ...]
    top_probabilities: tuple[float, ...]
    """The five most likely tokens (fewer for a smaller vocabulary), most likely first."""
    chosen_probability: float
    """p(id) under the distribution it was drawn from: penalised, tempered and filtered; 1 when greedy."""


def check_settings(settings: SamplingSettings) -> None:
    """ValueError naming the first setting outside its range, its value and the range."""
    ranges: tuple[tuple[str, bool, str], ...] = (
        ("temperature", 0 <= settings.temperature < math.inf, "[0, inf), 0 being greedy"),
        ("top_k", settings.top_k >= 0, "an integer ≥ 0, 0 being off"),
        ("top_p", 0 < settings.top_p <= 1, "(0, 1], 1 being off"),
        ("min_p", 0 <= settings.min_p <= 1, "[0, 1], 0 being off"),
        ("repetition_penalty", 0 < settings.repetition_penalty < math.inf, "(0, inf), 1 being off"),
        ("repetition_window", settings.repetition_window >= 0, "an integer ≥ 0, 0 being the whole history"),
        ("coherence_temperature", 0 <= settings.coherence_temperature < math.inf, "[0, inf), 0 being off"),
        ("coherence_penalty", 0 <= settings.coherence_penalty < math.inf, "[0, inf), 0 being off"),
        ("coherence_window", settings.coherence_window >= 1, "an integer ≥ 1"),
        ("max_tokens", settings.max_tokens >= 1, "an integer ≥ 1"),
        ("sample_seed", 0 <= settings.sample_seed < 2**63, "an integer in [0, 2^63)"),
    )
    for name, valid, allowed in ranges:
        if not valid:
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be in {allowed}")


def uses_coherence(settings: SamplingSettings) -> bool:
    """Whether drawing with these settings needs the phases of a model."""
    return settings.coherence_temperature > 0 or settings.coherence_penalty > 0


def check_phases(model: StepModel, settings: SamplingSettings) -> None:
    """ValueError when the settings need phases and the model has none; asked by one step, so ask before generating."""
    if uses_coherence(settings):
        _phases(_step(model, 0, None)[0])


def next_distribution(
    logits_V: Tensor, recent_ids: Sequence[int], settings: SamplingSettings, coherence: Coherence | None = None
) -> Tensor:
    """Probabilities (float64, length V, sum 1) of the next token; −inf logits stay impossible.

    In this order: repetition penalty on the distinct ids of the last `repetition_window` of `recent_ids` (logit > 0 is
    divided by it, else multiplied; Keskar et al. 2019), temperature, top-k (exactly k survive, the lower id of a tie
    first), top-p (the smallest leading set whose mass reaches top_p; Holtzman et al. 2020), min-p (p ≥ min_p · max p;
    Nguyen et al. 2024). The most likely token always survives. Temperature 0 gives all mass to the largest penalised
    logit, the lowest id of a tie.

    With `coherence` (C now, C₀ its level) the temperature is T·clip(1 + k(C₀ − C), ½, 3/2), k the
    `coherence_temperature`, and the penalty p·(1 + κ·C·(1 − H/ln V)), κ the `coherence_penalty`, H the entropy of the
    given logits: a repeat costs most where the phases agree and the model is sure. None, or k = κ = 0, is the plain
    rule, bit for bit.

    Raises:
        FloatingPointError: NaN or +inf logits.
        ValueError: every logit −inf.

    Example:
        >>> from qcore.config import SamplingConfig
        >>> logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
        >>> next_distribution(logits, [], SamplingConfig(temperature=1.0, top_k=2)).numpy().round(3).tolist()
        [0.731, 0.269, 0.0, 0.0]
    """
    logits_V = logits_V.detach().double().cpu()
    _check_logits(logits_V)
    temperature, penalty = settings.temperature, settings.repetition_penalty
    if coherence is not None:
        turn = 1 + settings.coherence_temperature * (coherence.level - coherence.now)
        temperature *= min(1.5, max(0.5, turn))
        if settings.coherence_penalty:
            penalty *= 1 + settings.coherence_penalty * coherence.now * _certainty(logits_V)
    if penalty != 1 and len(recent_ids):
        window = recent_ids[-settings.repetition_window :] if settings.repetition_window else recent_ids
        seen = torch.tensor(sorted(set(window)))
        seen_logits = logits_V[seen]
        logits_V = logits_V.index_put(
            (seen,), torch.where(seen_logits > 0, seen_logits / penalty, seen_logits * penalty)
        )
    # The largest becomes 0 first, so that no temperature, however small, can overflow it.
    logits_V = logits_V - logits_V.max()
    if temperature == 0:
        probs_V = torch.zeros_like(logits_V)
        probs_V[logits_V.argmax()] = 1.0
        return probs_V
    probs_V = torch.softmax(logits_V / temperature, dim=-1)
    if settings.top_k == 0 and settings.top_p == 1 and settings.min_p == 0:
        return probs_V
    probs_K, order_K = probs_V.sort(descending=True, stable=True)
    if settings.top_k:
        probs_K = probs_K[: settings.top_k]
    if settings.top_p < 1:
        before_K = probs_K.cumsum(0) - probs_K
        probs_K = probs_K * (before_K < settings.top_p * probs_K.sum())
    probs_K = probs_K * (probs_K >= settings.min_p * probs_K[0])
    return torch.zeros_like(probs_V).index_put((order_K[: len(probs_K)],), probs_K / probs_K.sum())


def generate(
    model: StepModel,
    prompt_ids: Sequence[int],
    settings: SamplingSettings,
    *,
    eos_id: int,
    forbidden: Collection[int] = (),
    stop: Callable[[], bool] | None = None,
) -> Iterator[SampledToken]:
    """Yield up to `max_tokens` tokens after the prompt, ending after `eos_id` (which is yielded) or when `stop()` is
    true.

    The prompt is fed through `model.step` token by token; penalties see prompt and generation. `forbidden` ids are
    never drawn, but still show in the model's own numbers. The draw is a function of (weights, prompt, settings): a
    generator seeded with `sample_seed` is used and the global random state untouched. Settings and prompt are checked
    at the call, not at the first token.

    Raises:
        ValueError: empty prompt, a setting out of range, every token forbidden, a coherence-aware rule for a model
            without phases.
        FloatingPointError: NaN or +inf logits.
    """
    check_settings(settings)
    check_phases(model, settings)
    prompt = [int(i) for i in prompt_ids]
    if not prompt:
        raise ValueError("prompt_ids is empty; pass at least one token, such as [bos_id]")
    if min(prompt) < 0:
        raise ValueError(f"prompt_ids holds {min(prompt)}; token ids must be ≥ 0")
    # a generator begins at its first token: the checks above must not wait for it
    return _generate(model, prompt, settings, eos_id, torch.tensor(sorted(set(forbidden)), dtype=torch.long), stop)


def _generate(
    model: StepModel,
    prompt: list[int],
    settings: SamplingSettings,
    eos_id: int,
    forbidden: Tensor,
    stop: Callable[[], bool] | None,
) -> Iterator[SampledToken]:
    generator = torch.Generator().manual_seed(settings.sample_seed)
    history = list(prompt)
    # the prompt goes through `step`, too: the state after it is then the one of a text that was generated
    pending = history
    state: Any = None
    running = RunningCoherence(settings.coherence_window) if uses_coherence(settings) else None
    for _ in range(settings.max_tokens):
        for token in pending:
            if stop is not None and stop():
                return
            output, state = _step(model, token, state)
            if running is not None:
                running.observe(_phases(output))
        # float64 on the CPU: the same draw on every device
        logits_V = output.logits_BTV[0, -1].double().cpu()
        _check_logits(logits_V)
        allowed_V = logits_V.index_fill(0, forbidden, float("-inf"))
        probs_V = next_distribution(allowed_V, history, settings, running.value if running else None)
        chosen = int(torch.multinomial(probs_V, 1, generator=generator))
        yield _describe(logits_V, chosen, float(probs_V[chosen]))
        if chosen == eos_id:
            return
        history.append(chosen)
        pending = [chosen]


def _step(model: StepModel, token: int, state: Any) -> tuple[StepOutput, Any]:
    """One forward in evaluation mode without gradient, every module's own mode put back."""
    training = [module for module in model.modules() if module.training]
    parameter = next(iter(model.parameters()), None)
    tokens_B = torch.tensor([token], device=None if parameter is None else parameter.device)
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            return model.step(tokens_B, model.start(1) if state is None else state)
    finally:
        for module in training:
            module.training = True


class RunningCoherence:
    """C = mean over phases of |mean e^{iψ}| over the last `window` states, and C₀, the mean of C over all windows yet.

    None before the first full window: fewer states are more coherent by chance. A window of 1 has C = C₀ = 1.
    """

    def __init__(self, window: int) -> None:
        self._units: deque[Tensor] = deque(maxlen=window)
        self._sum, self._count = 0.0, 0
        self.value: Coherence | None = None

    def observe(self, phase_P: Tensor) -> None:
        """Take the phases (radians) of the next state."""
        phase_P = phase_P.detach().double().cpu()
        self._units.append(torch.polar(torch.ones_like(phase_P), phase_P))
        if len(self._units) == self._units.maxlen:
            now = min(1.0, float(torch.stack(tuple(self._units)).mean(0).abs().mean()))
            self._sum, self._count = self._sum + now, self._count + 1
            self.value = Coherence(now, self._sum / self._count)


def _phases(output: StepOutput) -> Tensor:
    """Phases of the newest state, of the last layer or of its wave."""
    phases, state_BTP = getattr(output, "phases", None), getattr(output, "state_BTP", None)
    if phases:
        return phases[-1][0, -1]
    if state_BTP is not None:
        return state_BTP[0, -1].angle()
    raise ValueError(
        "this model has no phases, so its coherence cannot steer sampling; set coherence_temperature and "
        "coherence_penalty to 0"
    )


def _certainty(logits_V: Tensor) -> float:
    """1 − H/ln V, in [0, 1]: 0 for even probabilities, 1 for a sure prediction."""
    if len(logits_V) < 2:
        return 1.0
    entropy = float(torch.special.entr(torch.softmax(logits_V, dim=-1)).sum())
    return min(1.0, max(0.0, 1 - entropy / math.log(len(logits_V))))


def _describe(logits_V: Tensor, chosen: int, chosen_probability: float) -> SampledToken:
    log_probs_V = torch.log_softmax(logits_V, dim=-1)
    probs_V = log_probs_V.exp()
    top = probs_V.topk(min(ALTERNATIVES, len(probs_V)))
    return SampledToken(
        id=chosen,
        logprob=float(log_probs_V[chosen]),
        probability=float(probs_V[chosen]),
        rank=1 + int((log_probs_V > log_probs_V[chosen]).sum()),
        entropy=float(torch.special.entr(probs_V).sum()),
        top_ids=tuple(top.indices.tolist()),
        top_probabilities=tuple(top.values.tolist()),
        chosen_probability=chosen_probability,
    )


def _check_logits(logits_V: Tensor) -> None:
    largest = float(logits_V.max())
    if math.isnan(largest):
        raise FloatingPointError(
            "the model's logits hold NaN, so no token can be drawn; go back to an earlier checkpoint"
        )
    if largest == math.inf:
        raise FloatingPointError(
            "the model's logits hold +inf, so no token can be drawn; go back to an earlier checkpoint"
        )
    if largest == -math.inf:
        raise ValueError("every token is forbidden or has a logit of −inf; allow at least one")
