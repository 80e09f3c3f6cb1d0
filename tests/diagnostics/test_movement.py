"""What an optimizer did, measured: movement of sampled elements, updates lost to rounding, the rate followed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qcore.diagnostics import (
    ElementSampler,
    TensorUpdate,
    accumulation_weights,
    adamw_direction,
    fixed_matrices,
    measure_movement,
    trained_weights,
)
from qcore.train.engine import PlainAdamW


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> tuple[torch.Tensor, torch.Tensor]:
    """The parameter before a step on a fixed gradient, and the gradient."""
    before = parameter.detach().clone()
    parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
    optimizer.step()
    return before, parameter.grad.clone()


def test_a_step_is_measured_as_it_moved_whatever_made_it():
    before, gradient = torch.randn(1200, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 1200)
    after = before - 0.01 * gradient.sign() * gradient.abs().sqrt()
    found = measure_movement([TensorUpdate("a.weight", 1200, before, after, gradient, rate=0.01)])
    delta = (after - before).double()
    assert found.update_rms_M[0] == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-6)
    assert found.ratio_M[0] == pytest.approx(float(delta.norm() / before.double().norm()), rel=1e-6)
    assert found.gradient_rms_M[0] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-6)
    assert (found.still_share, found.still_modules) == (0, 0)
    assert math.isnan(found.rate_moved)


def test_weights_follow_the_rate_of_adamw_and_no_other():
    parameter = nn.Parameter(torch.randn(500, generator=torch.Generator().manual_seed(0)))
    optimizer = PlainAdamW([parameter], lr=3e-3, weight_decay=0.1)
    stepped(optimizer, parameter)
    before, gradient = stepped(optimizer, parameter)
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    direction = adamw_direction(before, state["exp_avg"], state["exp_avg_sq"], 2, group)
    one = TensorUpdate("w", 500, before, parameter.detach(), gradient, direction, rate=3e-3)
    assert measure_movement([one]).rate_moved == pytest.approx(3e-3, rel=1e-3)


@pytest.mark.parametrize(("kept", "digits"), [(torch.bfloat16, 7), (torch.float16, 10)])
@pytest.mark.parametrize("in_float", [True, False])
def test_what_rounding_swallows_is_counted_by_type_and_by_value(kept, digits, in_float):
    before = torch.rand(1000, generator=torch.Generator().manual_seed(0)).add(1).to(kept)
    # in [1, 2) the last digit is 2^-digits: a third of it is lost, twice it is not
    step = torch.tensor([1 / 3, 2.0]).repeat(500) * 2.0**-digits
    after = (before.float() + step).to(kept)
    if in_float:
        before, after = before.float(), after.float()
    one = TensorUpdate("w", 1000, before, after, torch.ones(1000), step, rate=1.0)
    ones = torch.ones(8, dtype=before.dtype)
    fresh = TensorUpdate("norm.weight", 8, ones, ones, ones, torch.full((8,), 1e-4), 1.0)
    found = measure_movement([one, fresh])
    assert found.lost_share_M.tolist() == [0.5, 1.0]
    assert found.still_modules == 0
    assert found.coarse_share == 1.0
    # of an optimizer whose formula is unknown: what did not move although it is kept in few digits
    unknown = measure_movement([TensorUpdate("w", 1000, before, after, torch.ones(1000), None, rate=1.0)])
    assert unknown.lost_share == 0.5


def test_float32_loses_nothing_and_still_modules_are_told_from_rounding():
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    gradient = torch.ones(1000)
    moved = TensorUpdate("a.weight", 1000, weight, weight - 1e-4, gradient, -gradient, rate=1e-4)
    still = TensorUpdate("b.weight", 1000, weight, weight.clone(), gradient, -gradient, rate=1e-4)
    outside = TensorUpdate("c.weight", 1000, weight, weight.clone(), gradient)
    at_rest = TensorUpdate("d.weight", 1000, weight, weight.clone(), gradient, -gradient, rate=0.0)
    found = measure_movement([moved, still, outside, at_rest])
    assert (found.still_modules, found.still_share, found.lost_share, found.coarse_share) == (1, 0.5, 0.0, 0.0)
    np.testing.assert_array_equal(found.still_share_M, [0, 1, math.nan, math.nan])
    with pytest.raises(ValueError, match="there is no tensor to compare"):
        measure_movement([])


def test_samples_are_at_the_same_places_of_every_tensor_of_a_size():
    sampler, tensor = ElementSampler(limit=10), torch.arange(1000.0).view(10, 100)
    first = sampler.take(tensor)
    assert len(first) == 10
    assert torch.equal(first, sampler.take(tensor.clone()))
    assert first.min() < 100
    assert first.max() > 900
    few = sampler.take(tensor[0, :4])
    few += 1
    assert tensor[0, 0] == 0


def test_who_is_in_no_group_and_who_needs_no_gradient():
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(4)])})
    model.layers[0].requires_grad_(False)
    found = trained_weights(model.named_parameters(), [{"params": [model.layers[1].weight]}, {"params": []}])
    assert found.scalars() == {
        "weights/without_optimizer": pytest.approx(2 / 3),
        "weights/untrained_share": 0.25,
        "weights/untrained_blocks": 1.0,
    }


def test_a_matrix_that_is_no_parameter_is_found_and_tables_on_purpose_are_not():
    model, x = nn.Linear(16, 16), torch.randn(4, 16)
    secret, table, bias = torch.randn(32, 16), torch.eye(16), torch.randn(16)
    twice = model.weight.detach().clone()

    def forward() -> torch.Tensor:
        with torch.no_grad():
            hidden = (model(x) + bias) @ table
            hidden = hidden @ (model.weight * 2).T  # stems from a parameter
            return hidden @ secret.T

    [found] = fixed_matrices(forward, model.parameters(), [x])
    assert (found.is_head, found.elements) == (True, 512)
    assert fixed_matrices(lambda: x @ twice, model.parameters(), [x], [twice])[0].is_head, "a buffer as the head"
    assert fixed_matrices(lambda: model(x @ twice)[:, :8], model.parameters(), [x], [twice]) == []


@pytest.mark.parametrize(
    ("weights", "smallest", "largest", "unevenness"),
    [
        ((0.125, 0.375, 0.5), 1, 1, 0.625),
        ((0, 0, 0.5), 0, 1, 2),
        ((1, 1, 1), 2, 8, 0),
        ((1 / 3, 1 / 3, 1 / 3), 2 / 3, 8 / 3, 0),
    ],
)
def test_the_weights_of_micro_batches_are_found(weights, smallest, largest, unevenness):
    generator = torch.Generator().manual_seed(0)
    micro = [[torch.randn(50, generator=generator), torch.randn(4, 5, generator=generator)] for _ in range(3)]
    accumulated = [sum(w * m[i] for w, m in zip(weights, micro, strict=True)) for i in range(2)]
    found = accumulation_weights(accumulated, micro, [1, 3, 4]).scalars()
    wanted = {"smallest": smallest, "largest": largest, "unevenness": unevenness, "residual": 0}
    assert found == pytest.approx({f"accumulation/{name}": value for name, value in wanted.items()}, abs=1e-4)
    assert accumulation_weights(accumulated, [micro[0], micro[0], micro[1]], [1, 3, 4]).scalars() == {}
