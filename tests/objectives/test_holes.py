"""Masks with holes: every term of a language model against its definition, read aloud with loops over positions."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qcore.objectives import TERMS, TermInputs
from qcore.objectives import mechanisms as mechanism_terms
from qcore.objectives.language import (
    cross_entropy,
    diversity,
    dominance,
    entropy_floor,
    eos,
    uniform_cross_entropy,
    unlikelihood,
    z_loss,
)
from qcore.objectives.phases import coherence, entanglement, global_energy, local_energy, stability

EOS, V, P, K, E = 2, 6, 3, 5, 4
CONTROLS = {term.control: 0.0 for term in TERMS} | {
    "dominance_threshold": 0.05,
    "entropy_floor": 1.5,
    "unlikelihood_window": 5,
}


def batch(seed: int, share: float) -> TermInputs:
    """A batch of few tokens, so that they repeat, with a mask that is real at `share` of its positions at random."""
    g = torch.Generator().manual_seed(seed)
    B, T = 3, 24
    mask = torch.rand(B, T, generator=g) < share
    return TermInputs(
        logits_BTV=(2 * torch.randn(B, T, V, generator=g, dtype=torch.float64)).requires_grad_(),
        targets_BT=torch.randint(V, (B, T), generator=g),
        mask_BT=mask,
        inputs_BT=torch.randint(V, (B, T), generator=g),
        hidden_BTD=torch.zeros(B, T, 4),
        phases=tuple(8 * torch.rand(B, T, P, generator=g, dtype=torch.float64) for _ in range(2)),
        state_BTP=None,
        unigram_V=torch.rand(V, generator=g).softmax(0),
        eos_id=EOS,
        concepts_BTK=torch.randn(B, T, K, generator=g, dtype=torch.float64).softmax(-1),
        expected_concepts_BTK=torch.randn(B, T, K, generator=g, dtype=torch.float64).softmax(-1),
        routers=tuple(torch.randn(B, T, E, generator=g, dtype=torch.float64).softmax(-1) for _ in range(2)),
        experts_active=2,
    )


def valid(inputs: TermInputs) -> list[tuple[int, int]]:
    B, T = inputs.mask_BT.shape
    return [(b, t) for b in range(B) for t in range(T) if inputs.mask_BT[b, t]]


def read(inputs: TermInputs, b: int, t: int) -> bool:
    """Whether the input at t is real: it was a real target one position earlier; the first takes its own word."""
    return bool(inputs.mask_BT[b, max(0, t - 1)])


def averaged(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.zeros((), dtype=torch.float64)


def log_probs(inputs: TermInputs) -> Tensor:
    return inputs.logits_BTV.log_softmax(-1)


def slow_unlikelihood(inputs: TermInputs) -> Tensor:
    """The candidates of a position as a set, gathered from every real input of the window."""
    probs, values = log_probs(inputs).exp(), []
    for b, t in valid(inputs):
        window = range(max(0, t - CONTROLS["unlikelihood_window"] + 1), t + 1)  # type: ignore[call-overload]
        seen = {int(inputs.inputs_BT[b, j]) for j in window if read(inputs, b, j)}
        values += [-(1 - probs[b, t, c]).log() for c in sorted(seen - {int(inputs.targets_BT[b, t])})]
    return averaged(values)


def mean_prediction(inputs: TermInputs) -> Tensor:
    return torch.stack([log_probs(inputs)[b, t].exp() for b, t in valid(inputs)]).mean(0)


def slow_diversity(inputs: TermInputs) -> Tensor:
    q = mean_prediction(inputs)
    return (q * (q / (inputs.unigram_V / inputs.unigram_V.sum()).double()).log()).sum()


def resultant(inputs: TermInputs, layer: int, b: int, p: int, lag: int = 0) -> tuple[complex, int]:
    """Mean of e^{i(ψ_{t+lag} − ψ_t)}, or of e^{iψ_t} without a lag, over what is valid in a row, and how many."""
    psi, mask = inputs.phases[layer][b, :, p], inputs.mask_BT[b]  # type: ignore[index]
    if lag:
        angles = [psi[t + lag] - psi[t] for t in range(len(psi) - lag) if mask[t] and mask[t + lag]]
    else:
        angles = [psi[t] for t in range(len(psi)) if mask[t]]
    total = sum(complex(math.cos(a), math.sin(a)) for a in angles)
    return (total / len(angles) if angles else 0j), len(angles)


def row_mean(inputs: TermInputs, of_row: Callable[[int, int], float | None]) -> Tensor:
    """Mean over layers of the rows' values, weighted by their valid positions; a row that has none takes no part."""
    layers = []
    for layer in range(2):
        weight = total = 0.0
        for b in range(len(inputs.mask_BT)):
            found = of_row(layer, b)
            if found is not None:
                total += found * int(inputs.mask_BT[b].sum())
                weight += int(inputs.mask_BT[b].sum())
        layers.append(total / weight if weight else 0.0)
    return torch.tensor(sum(layers) / 2, dtype=torch.float64)


def slow_local_energy(inputs: TermInputs) -> Tensor:
    layers = []
    for psi in inputs.phases or ():
        both = inputs.mask_BT[:, 1:] & inputs.mask_BT[:, :-1]
        values = [(psi[b, t + 1] - psi[b, t]).cos().mean() for b, t in both.nonzero().tolist()]
        layers.append(-averaged(values))
    return torch.stack(layers).mean()


def slow_global_energy(inputs: TermInputs) -> Tensor:
    return row_mean(inputs, lambda l, b: -sum(abs(resultant(inputs, l, b, p)[0]) ** 2 for p in range(P)) / P)  # noqa: E741


def slow_stability(inputs: TermInputs) -> Tensor:
    return row_mean(inputs, lambda l, b: 1 - sum(abs(resultant(inputs, l, b, p)[0]) for p in range(P)) / P)  # noqa: E741


def slow_entanglement(inputs: TermInputs) -> Tensor:
    def of_row(layer: int, b: int) -> float | None:
        lags = []
        for lag in (8, 16):
            found = [resultant(inputs, layer, b, p, lag) for p in range(P)]
            if found[0][1] >= 2:
                lags.append(sum(abs(mean) ** 2 for mean, _ in found) / P)
        return -sum(lags) / len(lags) if lags else None

    return row_mean(inputs, of_row)


def slow_coherence(inputs: TermInputs) -> Tensor:
    layers = []
    for psi in inputs.phases or ():
        values = []
        for b, t in valid(inputs):
            for width in (1, 2, 4, 8, 16):
                window = [j for j in range(max(0, t - width + 1), t + 1) if inputs.mask_BT[b, j]]
                mean = torch.polar(torch.ones(len(window), P, dtype=torch.float64), psi[b, window]).mean(0)
                values.append(1 - mean.abs().mean())
        layers.append(averaged(values))
    return torch.stack(layers).mean()


def slow_concept(inputs: TermInputs) -> Tensor:
    q, p = inputs.concepts_BTK, inputs.expected_concepts_BTK
    assert q is not None
    assert p is not None
    T = q.shape[1]
    surprise = averaged([-(q[b, t + 1] * p[b, t].log()).sum() for b, t in valid(inputs) if t + 1 < T])
    seen = [q[b, t] for b in range(len(q)) for t in range(T) if read(inputs, b, t)]
    usage = torch.special.entr(torch.stack(seen).mean(0)).sum()
    share = mechanism_terms.USAGE_SHARE
    return share + (surprise - share * usage) / math.log(K)


def slow_balance(inputs: TermInputs) -> Tensor:
    layers = []
    for router in inputs.routers or ():
        counts, mean = torch.zeros(E, dtype=torch.float64), torch.zeros(E, dtype=torch.float64)
        for b, t in valid(inputs):
            counts[router[b, t].topk(2).indices] += 1
            mean += router[b, t]
        layers.append(E * (counts / counts.sum() * mean / len(valid(inputs))).sum() - 1)
    return torch.stack(layers).mean()


SLOW: dict[Callable[..., Tensor], Callable[[TermInputs], Tensor]] = {
    cross_entropy: lambda i: averaged([-log_probs(i)[b, t, i.targets_BT[b, t]] for b, t in valid(i)]),
    uniform_cross_entropy: lambda i: averaged([-log_probs(i)[b, t].mean() for b, t in valid(i)]),
    diversity: slow_diversity,
    dominance: lambda i: (mean_prediction(i).max() - CONTROLS["dominance_threshold"]).relu(),
    entropy_floor: lambda i: averaged(
        [
            (CONTROLS["entropy_floor"] + (log_probs(i)[b, t].exp() * log_probs(i)[b, t]).sum()).relu()
            for b, t in valid(i)
        ]
    ),
    eos: lambda i: averaged([log_probs(i)[b, t, EOS].exp() for b, t in valid(i) if i.targets_BT[b, t] != EOS]),
    unlikelihood: slow_unlikelihood,
    z_loss: lambda i: averaged([i.logits_BTV[b, t].logsumexp(-1) ** 2 for b, t in valid(i)]),
    local_energy: slow_local_energy,
    global_energy: slow_global_energy,
    stability: slow_stability,
    entanglement: slow_entanglement,
    coherence: slow_coherence,
    mechanism_terms.concept: slow_concept,
    mechanism_terms.balance: slow_balance,
}


def test_every_term_of_a_language_model_has_a_slow_twin() -> None:
    assert {term.fn for term in TERMS} == set(SLOW)


@pytest.mark.parametrize("share", [0.25, 0.6, 0.9])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("term", SLOW, ids=lambda term: term.__name__)
def test_holes_in_the_mask_change_nothing_of_the_definition(term, seed: int, share: float) -> None:
    inputs = batch(seed, share)
    found, expected = term(inputs.derived(), CONTROLS), SLOW[term](inputs)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    if expected.requires_grad:
        gradients = [torch.autograd.grad(value, inputs.logits_BTV)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_a_masked_repeat_does_not_hide_a_real_one() -> None:
    """Token 3 stands at the positions 0, 1 and 3; its newest occurrence is no real input, the earlier ones are."""
    inputs = batch(0, 1.0)
    row = torch.tensor([[3, 3, 4, 3, 5, 0]])
    inputs = TermInputs(
        logits_BTV=torch.zeros(1, 6, V),
        targets_BT=torch.full((1, 6), 1),
        mask_BT=torch.tensor([[True, True, False, True, True, False]]),
        inputs_BT=row,
        hidden_BTD=torch.zeros(1, 6, 4),
        phases=None,
        state_BTP=None,
        unigram_V=inputs.unigram_V,
        eos_id=EOS,
    )
    from qcore.objectives.language import _candidates

    candidates, usable = _candidates(row, inputs.targets_BT, inputs.mask_BT, 4)
    at_3 = sorted(candidates[0, 3][usable[0, 3]].tolist())
    assert at_3 == [3, 4]
