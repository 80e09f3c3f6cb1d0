"""The probes of a run on tokens: what each measures on the live model, and what it keeps."""

from __future__ import annotations

import math

import torch

from qcore.diagnostics import (
    UnrepeatableError,
    batch_dependence,
    causality_probe,
    coherence_perplexity,
    concept_alignment,
    context_statistics,
    hidden_geometry,
    interference_statistics,
    local_coherence,
    phase_statistics,
    real_axis_share,
    shift_check,
    sign_tests,
    strict_loss,
    term_gradients,
    token_statistics,
)
from qcore.probes import catalog, sampler
from qcore.probes.inputs import surprise, text_inputs
from qcore.probes.layers import layers
from qcore.probes.protocol import Probe, ProbeInput, text_of
from qcore.probes.terms import LIGHT_TOKENS, gradients, terms, weights

KERNEL_TOKENS = 48
_ACCUMULATED = 0.01
"""Error of an accumulated gradient from which on it is taken apart; rounding leaves 1e-5 or less."""
BATCH_TOKENS = 32
"""Tokens that a light look reads to see whether rows depend on each other: that does not ask for a long row."""
CUTS, LIGHT_CUTS = 8, 3


# on the step's own outputs


def _tokens(seen: ProbeInput) -> dict[str, float]:
    text = text_of(seen)
    statistics = token_statistics(
        seen.outputs, seen.targets, seen.mask, eos_id=text.eos_id, special_ids=dict(text.special_ids)
    )
    seen.keep("tokens", statistics.arrays())
    return {
        **statistics.scalars(),
        **context_statistics(seen.outputs, seen.mask).scalars(),
        **shift_check(seen.outputs, text.inputs_BT, seen.targets, seen.mask).scalars(),
    }


def _phase(seen: ProbeInput) -> dict[str, float]:
    """Geometry of the hidden states, and the phases of a model that has them."""
    text, rows = text_of(seen), seen.rows
    hidden_BTD = seen.hidden["last"]
    geometry = hidden_geometry(hidden_BTD, seen.mask)
    seen.keep("spectrum", geometry.arrays())
    found = geometry.scalars()
    if text.phases is None:
        return found
    phases, mask_BT = tuple(phase_BTP[rows] for phase_BTP in text.phases), seen.mask[rows]
    state_BTP = None if text.state_BTP is None else text.state_BTP[rows]
    statistics = phase_statistics(phases, mask_BT, text.heads, state_BTP, hidden_BTD[rows])
    seen.keep("phase", statistics.arrays())
    given = text.engine.seen_phases()
    if given is not None:
        found[catalog.PHASE_REAL_AXIS_SHARE] = real_axis_share(given)
    coherence_BT = local_coherence(phases[-1])
    found |= coherence_perplexity(seen.outputs[rows], seen.targets[rows], mask_BT, coherence_BT).scalars()
    return found | statistics.scalars()


def _internals(seen: ProbeInput) -> dict[str, float]:
    """What the family shows of itself on the first rows."""
    text = text_of(seen)
    internals = text.engine.internals(text.inputs_BT[seen.rows])
    if internals.arrays:
        seen.keep("internals", {name: value.float().cpu().numpy() for name, value in internals.arrays.items()})
    return dict(internals.scalars)


def _concepts(seen: ProbeInput) -> dict[str, float]:
    """Which concept each word of the training text has, and whether translations share theirs."""
    text = text_of(seen)
    share_VK = text.engine.concept_shares()
    if share_VK is None:
        return {}
    share_VK = share_VK.float().cpu()
    if text.token_counts is not None:
        share_VK[torch.as_tensor(text.token_counts) == 0] = math.nan
    alignment = concept_alignment(share_VK, text.pairs)
    seen.keep("concepts", alignment.arrays())
    return alignment.scalars()


# with gradients of their own


def _hidden_gradients(seen: ProbeInput) -> dict[str, float]:
    """Gradients of the language terms at the last hidden state; terms of phases and concepts do not act there."""
    hidden_BTD = seen.hidden["last"][seen.rows].float().clone().requires_grad_()
    parts = text_of(seen).engine.parts_at(hidden_BTD)
    if not parts:
        return {}
    statistics = term_gradients(parts, [hidden_BTD], seen.weights)
    seen.keep("hidden", statistics.arrays(list(seen.weights)))
    return {
        catalog.member(catalog.HIDDEN, name.partition("/")[2]): value for name, value in statistics.scalars().items()
    }


def _accumulation(seen: ProbeInput) -> dict[str, float]:
    """What the accumulated gradient is made of is only asked where it is not that of the whole batch."""
    error, weights = text_of(seen).engine.check_accumulation()
    if math.isnan(error):
        return {}
    return {catalog.ACCUMULATION_ERROR: error} | (weights().scalars() if error > _ACCUMULATED else {})


def _signs(seen: ProbeInput) -> dict[str, float]:
    """Each phase term against the coherence that it is named for: all before training, then the weighted ones."""
    text = text_of(seen)
    if text.phases is None or not (by_name := text.engine.phase_terms(weighted=seen.step > 0)):
        return {}
    phases = tuple(phase_BTP[seen.rows] for phase_BTP in text.phases)
    return sign_tests(by_name, phases, seen.mask[seen.rows]).scalars()


# by asking the model


def _causality(seen: ProbeInput) -> dict[str, float]:
    text = text_of(seen)
    cuts, tokens = (CUTS, None) if seen.thorough else (LIGHT_CUTS, LIGHT_TOKENS)
    some_BT = text.inputs_BT[seen.rows, :tokens]
    try:
        with seen.engine.jittered(seen.step):
            probe = causality_probe(text.engine.logits, some_BT, cuts, seed=seen.step, vocab_size=text.vocab_size)
    except UnrepeatableError:  # the probe of repeated calls says so
        return {}
    if arrays := probe.arrays():
        seen.keep("causality", arrays)
    return probe.scalars()


def _batch(seen: ProbeInput) -> dict[str, float]:
    text = text_of(seen)
    some_BT = text.inputs_BT[: max(2, seen.rows.stop), : None if seen.thorough else BATCH_TOKENS]
    try:
        probe = batch_dependence(
            text.engine.logits, some_BT, seed=seen.step, vocab_size=text.vocab_size, constant=seen.thorough
        )
    except UnrepeatableError:
        return {}
    return probe.scalars()


def _strict(seen: ProbeInput) -> dict[str, float]:
    text = text_of(seen)
    positions, rows, tokens = (4, 4, None) if seen.thorough else (1, seen.rows.stop, LIGHT_TOKENS)
    ids_BT, targets_BT, mask_BT = (value[:, :tokens] for value in (text.inputs_BT, seen.targets, seen.mask))
    probe = strict_loss(text.engine.logits, ids_BT, targets_BT, mask_BT, positions, seed=seen.step, rows=rows)
    return probe.scalars()


def _kernels(seen: ProbeInput) -> dict[str, float]:
    """Always the same row, so that two steps can be compared."""
    engine = text_of(seen).engine
    tokens_BT = engine.same_row(KERNEL_TOKENS)
    statistics = interference_statistics(engine.mixing(tokens_BT), tokens_BT=tokens_BT)
    arrays = statistics.arrays()
    arrays["kernels"] = arrays["kernels"].astype("float16")  # a picture: half the bytes, 3 digits
    seen.keep("interference", arrays)
    return statistics.scalars()


_TEXT, _TERMS, _WEIGHTS = frozenset({"text"}), frozenset({"terms"}), frozenset({"weights"})
# Each of these is asked of every run on tokens and returns nothing where the model has not what it measures: the list
# of names is recorded by runs, and what a replay measures goes by place in it.
PROBES = (
    Probe("tokens", _TEXT, "tokens_every", _tokens),
    Probe("terms", _TERMS, "phase_every", terms),
    Probe("phase", _TEXT, "phase_every", _phase),
    Probe("internals", _TEXT, "phase_every", _internals),
    Probe("pull", _TEXT, "phase_every", _hidden_gradients),
    Probe("gradients", _TERMS, "gradients_every", gradients),
    Probe("weights", _WEIGHTS, "gradients_every", weights, records_update=True),
    Probe("causality", _TEXT, "checks_every", _causality),
    Probe("batch", _TEXT, "checks_every", _batch),
    Probe("strict", _TEXT, "checks_every", _strict),
    Probe("signs", _TEXT, "checks_every", _signs),
    Probe("accumulation", _TEXT, "checks_every", _accumulation),
    Probe("concepts", _TEXT, "checks_every", _concepts),
    Probe("kernels", _TEXT, "kernels_every", _kernels),
    Probe("layers", frozenset({"hidden"}), "gradients_every", layers),
    Probe("targets", _TEXT, "checks_every", text_inputs),
    Probe("surprise", _TEXT, "tokens_every", surprise),
    *sampler.PROBES,
)
"""In the order in which they are measured."""
