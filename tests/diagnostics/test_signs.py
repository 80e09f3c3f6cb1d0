"""Sign test: the trained energies pass, their negatives fail, and dead or unrelated terms say nothing."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from qcore.diagnostics import COHERENCES, sign_test, sign_tests
from qcore.objectives import TERMS, TermInputs
from qcore.objectives.inputs import Derived

PHASE_TERMS = {term.name: term for term in TERMS if term.needs_phases}
TOKENS = 40


def random_phases(layers: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, TOKENS, 3, generator=generator) * 2 for _ in range(layers))


MASK = torch.arange(TOKENS) < torch.tensor([TOKENS, 25]).unsqueeze(1)


def term_function(name: str, sign: float = 1.0):
    """A trained term as a function of the phases alone."""
    ids = torch.zeros(2, TOKENS, dtype=torch.long)
    blank = TermInputs(
        torch.zeros(2, TOKENS, 4),
        ids,
        MASK,
        ids,
        torch.zeros(2, TOKENS, 2),
        random_phases(),
        None,
        torch.ones(4) / 4,
        0,
    )
    return lambda phases: sign * PHASE_TERMS[name].fn(Derived(replace(blank, phases=phases)), {})


def test_every_phase_term_has_a_coherence_to_be_tested_against():
    assert set(COHERENCES) == set(PHASE_TERMS)


def test_every_energy_raises_its_coherence_and_its_negative_lowers_it():
    """Fault G4 is the second half."""
    right = sign_tests({name: term_function(name) for name in PHASE_TERMS}, random_phases(), MASK)
    wrong = sign_tests({name: term_function(name, -1.0) for name in PHASE_TERMS}, random_phases(), MASK)
    assert right.scalars() == {f"energy/sign/{name}": 1.0 for name in PHASE_TERMS}
    assert wrong.signs == dict.fromkeys(PHASE_TERMS, -1)


@pytest.mark.parametrize("scale", [1e-20, 1e6])
def test_the_size_of_a_term_does_not_matter(scale):
    [sign] = sign_tests({"local_energy": term_function("local_energy", scale)}, random_phases(), MASK).signs.values()
    assert sign == 1


@pytest.mark.parametrize(
    "term",
    [
        lambda phases: torch.tensor(3.0),
        lambda phases: phases[0].sum() * 0,
        lambda phases: (torch.polar(torch.ones_like(phases[0]), phases[0]).real > 0).double().mean(),
        lambda phases: phases[0].sum() * math.inf,
    ],
)
def test_a_term_without_a_usable_gradient_has_no_sign(term):
    assert sign_test(term, random_phases(), partial(COHERENCES["stability"], mask_BT=MASK)) == 0


def test_a_term_on_other_phases_does_not_touch_the_coherence():
    coherence = lambda phases: phases[1].cos().mean()  # noqa: E731
    assert sign_test(lambda phases: phases[0].sin().mean(), random_phases(), coherence) == 0


def test_turning_all_phases_together_is_rounding_and_no_effect():
    [phase] = random_phases(1)
    assert sign_test(lambda phases: phases[0].sum(), [phase], partial(COHERENCES["stability"], mask_BT=MASK)) == 0


def test_training_tensors_are_left_alone():
    phases = tuple(phase.requires_grad_() for phase in random_phases())
    before = [phase.detach().clone() for phase in phases]
    with torch.no_grad():
        sign_test(lambda moved: moved[0].sin().mean(), phases, lambda moved: -moved[0].sin().mean())
    assert all(torch.equal(phase, old) and phase.grad is None for phase, old in zip(phases, before, strict=True))


@pytest.mark.parametrize("name", list(COHERENCES))
def test_coherences_of_constant_phases_are_one(name):
    assert float(COHERENCES[name]((torch.full((2, TOKENS, 3), 1.3),), MASK)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("local_energy", math.cos(0.7)), ("entanglement", 1.0)])
def test_coherences_of_a_steady_rotation(name, expected):
    phase = (0.7 * torch.arange(TOKENS, dtype=torch.float64)).view(1, -1, 1).expand(2, TOKENS, 3)
    assert float(COHERENCES[name]((phase,), MASK)) == pytest.approx(expected)


def test_coherences_agree_with_all_pairs_and_windows():
    phase = random_phases(1)[0].double()
    unit = np.exp(1j * phase.numpy())
    rows = [unit[0], unit[1, :25]]
    weights = np.array([40, 25]) / 65
    pairs = [np.real(row[:, None] * row[None].conj()).mean() for row in rows]
    orders = [np.abs(row.mean(0)).mean() for row in rows]
    windows = [
        np.abs(row[max(0, t + 1 - width) : t + 1].mean(0)).mean()
        for width in (1, 2, 4, 8, 16)
        for row in rows
        for t in range(len(row))
    ]
    assert float(COHERENCES["global_energy"]((phase,), MASK)) == pytest.approx(weights @ pairs)
    assert float(COHERENCES["stability"]((phase,), MASK)) == pytest.approx(weights @ orders)
    assert float(COHERENCES["coherence"]((phase,), MASK)) == pytest.approx(np.mean(windows))


def test_rows_too_short_for_a_lag_have_no_coherence_at_lags():
    assert float(COHERENCES["entanglement"]((torch.zeros(2, 6, 3),), torch.ones(2, 6, dtype=torch.bool))) == 0
    empty = torch.zeros(2, TOKENS, dtype=torch.bool)
    assert all(float(coherence(random_phases(), empty)) == 0 for coherence in COHERENCES.values())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="phases is empty"):
        sign_test(lambda phases: torch.zeros(()), (), lambda phases: torch.zeros(()))
    with pytest.raises(ValueError, match=r"the term has shape \(2, 40, 3\)"):
        sign_test(lambda phases: phases[0], random_phases(), lambda phases: torch.zeros(()))
    with pytest.raises(ValueError, match="'diversity' is named for no coherence"):
        sign_tests({"diversity": lambda phases: torch.zeros(())}, random_phases(), MASK)
    with pytest.raises(ValueError, match="mask_BT has shape"):
        sign_tests({}, random_phases(), MASK[:, :5])
