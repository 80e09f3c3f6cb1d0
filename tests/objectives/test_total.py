"""The live-weighted sum: what is computed, what is refused, and which term broke."""

import math
from dataclasses import replace

import pytest
import torch

from qcore.objectives import TERMS, TermInputs, Total, measure_terms, nonfinite_parts, term_weights, total_loss

NAMES = [
    "ce",
    "label_smoothing",
    "diversity",
    "dominance",
    "entropy_floor",
    "eos",
    "unlikelihood",
    "z_loss",
    "local_energy",
    "global_energy",
    "entanglement",
    "stability",
    "coherence",
    "concept",
    "balance",
]


@pytest.fixture
def phases() -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))


def test_the_terms_are_the_declared_ones_with_help():
    assert [term.name for term in TERMS] == NAMES
    assert all(term.help.endswith(".") and len(term.help) > 20 for term in TERMS)


def test_loss_is_the_weighted_sum_of_unweighted_parts(make_inputs, controls, phases):
    logits = torch.randn(3, 20, 9, requires_grad=True)
    share = torch.rand(3, 20, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mechanisms = {"concepts_BTK": share, "expected_concepts_BTK": share, "routers": (share,)}
    inputs = replace(make_inputs(logits=logits, phases=phases), **mechanisms)
    weighted = {term.control: 0.1 * (i + 1) for i, term in enumerate(TERMS)} | {"label_smoothing": 0.3}
    total = total_loss(inputs, controls | weighted)
    weights = term_weights(controls | weighted)
    assert weights["ce"] == pytest.approx(0.07)
    assert weights["label_smoothing"] == pytest.approx(0.03)
    assert list(total.parts) == NAMES
    torch.testing.assert_close(total.loss, sum(weights[name] * part for name, part in total.parts.items()))
    measured = measure_terms(inputs, controls)
    assert list(measured) == NAMES
    for name in NAMES:
        torch.testing.assert_close(measured[name], total.parts[name].detach())
        assert not measured[name].requires_grad


def test_measuring_first_does_not_take_the_gradient_from_the_loss(make_inputs, controls):
    logits = torch.randn(2, 5, 7, requires_grad=True)
    inputs = make_inputs(logits=logits)
    measure_terms(inputs, controls)
    total_loss(inputs, controls | {"ce_weight": 1.0}).loss.backward()
    assert logits.grad is not None
    assert logits.grad.any()


def test_zero_weight_terms_are_not_computed(make_inputs, controls):
    """Every other function would raise; only cross-entropy may run."""

    def refuse(*_):
        raise AssertionError("computed a term of weight zero")

    terms = tuple(term if term.name == "ce" else replace(term, fn=refuse) for term in TERMS)
    total = total_loss(make_inputs(), controls | {"ce_weight": 1.0}, terms)
    assert list(total.parts) == ["ce"]
    with pytest.raises(AssertionError, match="weight zero"):
        total_loss(make_inputs(), controls | {"ce_weight": 1.0, "eos_weight": 1.0}, terms)


def test_all_weights_zero_is_a_differentiable_zero(make_inputs, controls):
    logits = torch.randn(2, 5, 7, requires_grad=True)
    total = total_loss(make_inputs(logits=logits), controls)
    assert total.parts == {}
    total.loss.backward()
    assert total.loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["ce_weight", "coherence_weight", "label_smoothing"])
def test_a_missing_control_is_named(name, make_inputs, controls):
    del controls[name]
    with pytest.raises(ValueError, match=name):
        total_loss(make_inputs(), controls)


def test_a_missing_setting_is_named_when_its_term_runs(make_inputs, controls):
    del controls["entropy_floor"]
    total_loss(make_inputs(), controls | {"ce_weight": 1.0})
    with pytest.raises(ValueError, match="'entropy_floor' is missing"):
        total_loss(make_inputs(), controls | {"entropy_floor_weight": 1.0})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ce_weight", math.nan, "'ce_weight' is nan"),
        ("eos_weight", math.inf, "'eos_weight' is inf"),
        ("label_smoothing", 1.0, r"label_smoothing is 1.0; it must be in \[0, 1\)"),
        ("label_smoothing", -0.1, "label_smoothing is -0.1"),
    ],
)
def test_values_out_of_range_are_refused(name, value, message, make_inputs, controls):
    with pytest.raises(ValueError, match=message):
        total_loss(make_inputs(), controls | {name: value})


@pytest.mark.parametrize("term", [term for term in TERMS if term.needs_phases], ids=lambda term: term.name)
def test_a_weighted_phase_term_without_phases_names_itself_and_the_remedy(term, make_inputs, controls):
    with pytest.raises(ValueError, match=f"{term.control} is 0.5 but the batch has no phases: set {term.control} to 0"):
        total_loss(make_inputs(), controls | {term.control: 0.5})


def test_measuring_without_phases_leaves_phase_terms_out(make_inputs, controls):
    assert list(measure_terms(make_inputs(), controls)) == NAMES[:8]


def test_nonfinite_parts_names_the_broken_term(make_inputs, controls, phases):
    healthy = make_inputs(phases=phases)
    weights = controls | {"ce_weight": 1.0, "stability_weight": 0.1, "global_energy_weight": 0.1}
    assert nonfinite_parts(total_loss(healthy, weights)) == []
    broken = phases[0].clone()
    broken[1, 3, 2] = math.nan
    total = total_loss(make_inputs(phases=(broken, *phases[1:])), weights)
    assert nonfinite_parts(total) == ["global_energy", "stability"]


def test_nonfinite_parts_names_the_sum_when_only_it_overflows():
    large = torch.tensor(3e38)
    assert nonfinite_parts(Total(large * 10, {"ce": large})) == ["loss"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("logits_BTV", torch.zeros(3, 4), "logits_BTV has shape"),
        ("targets_BT", torch.zeros(3, 5), r"targets_BT has shape \(3, 5\); it must be \(3, 4\)"),
        ("mask_BT", torch.ones(3, 4), "mask_BT has dtype torch.float32"),
        ("unigram_V", torch.zeros(6), r"unigram_V has shape \(6,\); it must be \(5,\)"),
        ("eos_id", 5, "eos_id 5 is outside the vocabulary"),
        ("phases", (), "empty tuple"),
        ("phases", (torch.zeros(3, 5, 2),), r"phases\[0\] has shape \(3, 5, 2\)"),
    ],
)
def test_inputs_that_disagree_are_refused(field, value, message, make_inputs):
    fields = vars(make_inputs(logits=torch.zeros(3, 4, 5)))
    with pytest.raises(ValueError, match=message):
        TermInputs(**(fields | {field: value}))
