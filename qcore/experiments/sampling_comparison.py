"""Coherence-aware against plain sampling of one checkpoint: the same prompts and seeds, measured pair by pair.

A pair shares its seed, so that its draws are alike until the rule turns one of them; differences are therefore taken
within pairs, with Student's interval over the pairs. What is drawn here is measured and forgotten: no run is written.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qcore.config import ConfigError, SamplingConfig, TextRunConfig
from qcore.experiments.statistics import Paired, paired_difference, t_quantile
from qcore.lab.lab import Lab
from qcore.runs.errors import LabError

MEASURES = ("distinct_1", "distinct_2", "distinct_3", "repetition", "mean_logprob")
"""Compared statistics of a generation, by their names in the group `generation` of the catalogue. mean_logprob: of the
drawn text under the model itself, at temperature 1."""


@dataclass(frozen=True)
class Mean:
    """Mean of n draws and its 95 % interval, infinite for one draw."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ComparedMeasure:
    """One statistic under both rules, and the mean difference aware − plain within pairs."""

    name: str
    aware: Mean
    plain: Mean
    difference: Paired


@dataclass(frozen=True)
class SamplingComparison:
    """Texts drawn with and without a rule, measured.

    Attributes:
        measures: those that at least one pair has.
        pairs: pairs drawn so far, of `total`.
        step: of the checkpoint.
    """

    measures: tuple[ComparedMeasure, ...]
    pairs: int
    total: int
    step: int


def plain_settings(settings: SamplingConfig) -> SamplingConfig:
    """The same settings without the coherence-aware rules."""
    return settings.model_copy(update={"coherence_temperature": 0.0, "coherence_penalty": 0.0})


def compare_sampling(
    lab: Lab,
    name: str,
    prompts: Sequence[str],
    settings: SamplingConfig,
    *,
    draws: int = 16,
    checkpoint: int | None = None,
) -> Iterator[SamplingComparison]:
    """Draw every prompt `draws` times under both rules, seeds counted up from `sample_seed`; yields after each pair.

    Without `checkpoint` the newest is asked. Costs 2 · prompts · draws generations on the CPU.

    Raises:
        ConfigError: for settings without a coherence-aware rule or a model without phases, `LabError` without a
            checkpoint.
    """
    if not settings.coherence_temperature and not settings.coherence_penalty:
        raise ConfigError("nothing to compare: raise coherence_temperature or coherence_penalty above 0")
    if draws < 1 or not prompts:
        raise ConfigError(f"draws = {draws} of {len(prompts)} prompts are nothing: give at least one of each")
    config = lab.config(name)
    if not isinstance(config, TextRunConfig):
        raise LabError(f"run {name!r} draws no text; compare the sampling of a language model")
    saved = lab.checkpoints(name)
    chosen = next((info for info in reversed(saved) if checkpoint in (None, info.step)), None)
    if chosen is None:
        raise LabError(f"run {name!r} has no checkpoint {'yet' if checkpoint is None else f'of step {checkpoint}'}")
    # torch comes with what follows: settings are refused without those seconds
    from qcore.store import Generation
    from qcore.train.session import load_sampler

    speaker, controls = load_sampler(config, lab.runs_dir / name, chosen.path)
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    total = draws * len(prompts)
    for index in range(total):
        seed = settings.sample_seed + index // len(prompts)
        pair = []
        # the same seed for both: the draws differ by the rule alone as long as the texts are the same
        for rule in (settings, plain_settings(settings)):
            own = rule.model_copy(update={"sample_seed": seed})
            prompt = prompts[index % len(prompts)]
            draft = Generation(
                id="", step=chosen.step, wall=time.time(), kind="prompt", prompt=prompt, settings=own.model_dump()
            )
            *_, last = speaker.sample(draft, own, controls)
            # half a text would pass for one that repeats itself little
            if last.status != "done":
                raise LabError(f"the model failed while sampling: {last.stats.get('error', last.status)}")
            pair.append(last.stats)
        found.append((pair[0], pair[1]))
        yield SamplingComparison(_measures(found), len(found), total, chosen.step)


def _measures(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[ComparedMeasure, ...]:
    measures = []
    for name in MEASURES:
        both = [(float(aware[name]), float(plain[name])) for aware, plain in pairs if name in aware and name in plain]
        if both:
            aware, plain = zip(*both, strict=True)
            difference = paired_difference([one - other for one, other in both])
            measures.append(ComparedMeasure(name, _mean(aware), _mean(plain), difference))
    return tuple(measures)


def _mean(values: Sequence[float]) -> Mean:
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Mean(mean, -math.inf, math.inf)
    reach = t_quantile(0.975, len(values) - 1) * statistics.stdev(values, mean) / math.sqrt(len(values))
    return Mean(mean, mean - reach, mean + reach)
