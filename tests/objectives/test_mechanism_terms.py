"""Terms of concepts and experts: analytic values, bounds, padding, scale, and descent that does what they say."""

import math

import pytest
import torch

from qcore.objectives import TERMS, total_loss
from qcore.objectives.inputs import Derived
from qcore.objectives.mechanisms import USAGE_SHARE, balance, concept

LOW_HIGH = {term.name: (term.low, term.high) for term in TERMS}


def shares(*shape: int, seed: int = 0, sharp: float = 1.0) -> torch.Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharp * noise).softmax(-1)


def one_hot(numbers: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(numbers, count).double()


@pytest.fixture
def evaluate(make_inputs):
    def of(fn, mask=None, active=1, **fields) -> torch.Tensor:
        first = next(iter(fields.values()))
        B, T = (first[0] if isinstance(first, tuple) else first).shape[:2]
        inputs = make_inputs(shape=(B, T, 5), mask=mask)
        return fn(Derived(type(inputs)(**{**vars(inputs), **fields, "experts_active": active})), {})

    return of


@pytest.fixture
def of_concepts(evaluate):
    return lambda q, p, mask=None: evaluate(concept, mask, concepts_BTK=q, expected_concepts_BTK=p)


@pytest.fixture
def of_experts(evaluate):
    return lambda *routers, active=1, mask=None: evaluate(balance, mask, active, routers=routers)


def test_even_concepts_cost_one_and_a_foreseen_cycle_nothing(of_concepts):
    even = torch.full((2, 8, 4), 0.25, dtype=torch.float64)
    assert of_concepts(even, even).item() == pytest.approx(1)
    cycle = one_hot(torch.arange(8) % 4, 4).expand(2, 8, 4)
    assert of_concepts(cycle, cycle.roll(-1, 1)).item() == pytest.approx(0, abs=1e-9)
    assert of_concepts(cycle, even).item() == pytest.approx(1)


def test_one_concept_for_all_costs_its_missing_usage(of_concepts):
    same = one_hot(torch.zeros(2, 8, dtype=torch.long), 4)
    assert of_concepts(same, same).item() == pytest.approx(USAGE_SHARE)


def test_splitting_a_concept_pays_only_where_the_halves_are_foreseen(of_concepts):
    """A word and its translation take one concept as long as the words before do not tell them apart."""
    word, K = torch.tensor([[0, 2, 0, 2, 1, 2, 0, 2, 1, 2, 1, 2]]), 4
    merged, split = one_hot(word.clamp(max=2).masked_fill(word == 1, 0), K), one_hot(word, K)
    blind = split.clone()
    blind[:, ::2] = torch.tensor([0.0, 0, 1, 0]).double()
    blind[:, 1::2] = torch.tensor([0.5, 0.5, 0, 0]).double()
    known = split.roll(-1, 1)
    knows_merged = merged.roll(-1, 1)
    assert of_concepts(split, blind) > of_concepts(merged, knows_merged)
    assert of_concepts(split, known) < of_concepts(merged, knows_merged)


@pytest.mark.parametrize("seed", range(4))
def test_concept_bounds(seed, of_concepts):
    K, floor = 6, 0.01
    q, p = shares(3, 9, K, seed=seed, sharp=9), shares(3, 9, K, seed=seed + 9, sharp=9)
    p = (1 - floor) * p + floor / K
    assert 0 <= of_concepts(q, p).item() <= USAGE_SHARE + math.log(K / floor) / math.log(K)


def test_descent_on_concept_lowers_surprise_and_keeps_concepts_in_use(of_concepts):
    """The gradient meets both sides, words and expectation, and a step does what the term says."""
    a, b = (torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(2))
    for logits in (a, b):
        logits.requires_grad_()
    found = torch.autograd.grad(of_concepts(a.softmax(-1), b.softmax(-1)), (a, b))
    stepped = [(x - 0.5 * g / g.abs().max()).detach().softmax(-1) for x, g in zip((a, b), found, strict=True)]

    def surprise(q, p):
        return -(q[:, 1:] * p[:, :-1].log()).sum(-1).mean().item()

    assert surprise(*stepped) < surprise(a.softmax(-1).detach(), b.softmax(-1).detach())
    lopsided = torch.tensor([3.0, 0, 0, 0, 0]).double().expand(1, 6, 5).clone().requires_grad_()
    even = torch.full((1, 6, 5), 0.2, dtype=torch.float64)
    (pull,) = torch.autograd.grad(of_concepts(lopsided.softmax(-1), even), lopsided)
    assert bool((pull[..., 0] > 0).all())


def test_balance_is_nothing_for_an_even_load_and_e_over_k_less_one_for_a_full_expert(of_experts):
    even = one_hot(torch.arange(8) % 4, 4)[None] * 0.9 + 0.025
    assert of_experts(even).item() == pytest.approx(0)
    full = one_hot(torch.zeros(1, 8, dtype=torch.long), 4)
    assert of_experts(full).item() == pytest.approx(3)
    assert of_experts(torch.full((1, 8, 4), 0.25)).item() == pytest.approx(0)
    two = torch.tensor([0.5, 0.5, 0, 0]).double().expand(1, 8, 4)
    assert of_experts(two, active=2).item() == pytest.approx(1)
    assert of_experts(even, full).item() == pytest.approx(1.5)


def test_descent_on_balance_takes_from_the_crowded_expert(of_experts):
    logits = torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[..., 1] += 2
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(of_experts(logits.softmax(-1), active=2), logits)
    stepped = (logits - gradient / gradient.abs().max()).detach().softmax(-1)
    assert stepped[..., 1].mean() < logits.detach().softmax(-1)[..., 1].mean()
    assert of_experts(stepped, active=2) < of_experts(logits.softmax(-1), active=2)


@pytest.mark.parametrize("name", ["concept", "balance"])
def test_terms_are_scale_free_and_blind_to_padding(name, of_concepts, of_experts):
    q, p, lengths = shares(3, 10, 4), shares(3, 10, 4, seed=1), [10, 7, 2]
    mask = torch.arange(10) < torch.tensor(lengths).unsqueeze(-1)

    def value(q, p, mask=None):
        return of_concepts(q, p, mask) if name == "concept" else of_experts(q, mask=mask)

    full = value(q, p, mask)
    torch.testing.assert_close(value(q.repeat(2, 1, 1), p.repeat(2, 1, 1), mask.repeat(2, 1)), full)
    # A target that is real makes the input after it real: noise goes where neither is.
    noisy = mask.unsqueeze(-1) | (torch.arange(10) <= torch.tensor(lengths).unsqueeze(-1)).unsqueeze(-1)
    torch.testing.assert_close(
        value(torch.where(noisy, q, shares(3, 10, 4, seed=5)), torch.where(noisy, p, shares(3, 10, 4, seed=6)), mask),
        full,
    )
    low, high = LOW_HIGH[name]
    assert low <= full.item() <= high


@pytest.mark.parametrize("name", ["concept", "balance"])
@pytest.mark.parametrize("tokens", [1, 2, 6])
def test_an_empty_mask_gives_a_differentiable_zero(name, tokens, of_concepts, of_experts):
    logits = torch.randn(2, tokens, 4, requires_grad=True)
    mask = torch.zeros(2, tokens, dtype=torch.bool)
    q = logits.softmax(-1)
    loss = of_concepts(q, q, mask) if name == "concept" else of_experts(q, mask=mask)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_sharp_concepts_and_one_token_have_finite_gradients(of_concepts):
    logits = (200 * torch.eye(4)[None, :3]).requires_grad_()
    of_concepts(logits.softmax(-1), logits.softmax(-1)).backward()
    assert torch.isfinite(logits.grad).all()
    one = torch.zeros(1, 1, 4, requires_grad=True)
    of_concepts(one.softmax(-1), one.softmax(-1)).backward()
    assert torch.isfinite(one.grad).all()


def test_one_concept_is_refused(of_concepts):
    with pytest.raises(ValueError, match="at least 2"):
        of_concepts(torch.ones(1, 3, 1), torch.ones(1, 3, 1))


@pytest.mark.parametrize(("control", "what"), [("concept_weight", "concepts"), ("balance_weight", "experts")])
def test_a_weighted_term_without_its_mechanism_names_itself_and_the_remedy(control, what, make_inputs, controls):
    with pytest.raises(ValueError, match=f"{control} is 0.5 but the batch has no {what}: set {control} to 0"):
        total_loss(make_inputs(), controls | {control: 0.5})


@pytest.mark.parametrize("field", ["concepts_BTK", "expected_concepts_BTK", "routers"])
def test_shares_of_another_shape_are_refused(field, make_inputs):
    inputs, wrong = make_inputs(), torch.zeros(3, 5, 2)
    with pytest.raises(ValueError, match=field):
        type(inputs)(**{**vars(inputs), field: (wrong,) if field == "routers" else wrong})
