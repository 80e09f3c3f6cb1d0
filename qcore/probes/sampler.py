"""Probes of the path that generates text, and of what must hold before any other question to the model means anything.

The first 16 tokens of two rows go through the step that generates, one by one, before the first update; later 6, and
where a budget thins the probes 3: a token costs as much as a small model's whole row, and what only breaks further on
is found in the samples, each of which is scored by the trained model (`qcore.train.sampled`).
"""

from __future__ import annotations

import math

from qcore.diagnostics import cached_step_check, call_difference, probability_share, rounding_unit
from qcore.probes import catalog
from qcore.probes.protocol import Probe, ProbeInput, text_of

STEPPED_AT_FIRST, STEPPED_LATER, STEPPED_SHORT = 16, 6, 3
REPEATED_TOKENS = 32


def repeat(seen: ProbeInput) -> dict[str, float]:
    """Whether two equal calls agree, and whether the outputs are logits."""
    text = text_of(seen)
    row_1T = text.inputs_BT[:1, : REPEATED_TOKENS if seen.thorough else REPEATED_TOKENS // 2]
    difference = call_difference(text.engine.logits(row_1T), text.engine.logits(row_1T))
    found = {
        catalog.REPEAT_DIFFERENCE: difference,
        catalog.HEAD_PROBABILITY_SHARE: probability_share(seen.outputs[seen.rows], seen.mask[seen.rows]),
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def cache(seen: ProbeInput) -> dict[str, float]:
    """The cached step against the whole pass."""
    text = text_of(seen)
    later = STEPPED_LATER if seen.thorough else STEPPED_SHORT
    tokens_BT = text.inputs_BT[seen.rows, : later if seen.step else STEPPED_AT_FIRST]
    unit = rounding_unit(parameter for _, parameter in seen.engine.parameters())
    stepped, whole = text.engine.stepped_logits(tokens_BT), text.engine.logits_as_generated(tokens_BT)
    return cached_step_check(stepped, whole, unit).scalars()


_TEXT = frozenset({"text"})
PROBES = (
    Probe("repeat", _TEXT, "checks_every", repeat),
    Probe("cache", _TEXT, "checks_every", cache),
)
