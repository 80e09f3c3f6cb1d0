"""Weight statistics: dead shares by hand, frozen blocks, looked-up rows, update ratios, and a real detached stack."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qcore.diagnostics import weight_statistics


def parameter(value: list, gradient: list | None) -> nn.Parameter:
    made = nn.Parameter(torch.tensor(value, dtype=torch.float32))
    made.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float32)
    return made


def test_shares_and_norms_by_hand():
    named = [
        ("scale", parameter([1.0], [2.0])),
        ("layers.0.ffn.weight", parameter([[1.0, 2.0], [3.0, 4.0]], [[0.0, 3.0], [0.0, 4.0]])),
        ("layers.0.ffn.bias", parameter([1.0, 1.0], None)),
        ("layers.1.norm.weight", parameter([1.0, 1.0], [0.0, 0.0])),
    ]
    statistics = weight_statistics(named)
    assert statistics.names == ("(model)", "layers.0.ffn", "layers.1.norm")
    np.testing.assert_allclose(statistics.dead_share_M, [0, 4 / 6, 1])
    np.testing.assert_allclose(statistics.grad_norm_M, [2, 5, 0])
    assert statistics.parameters_M.tolist() == [1, 6, 2]
    assert statistics.frozen == ("layers.1",)
    assert statistics.scalars() == {
        "weights/dead_share": pytest.approx(6 / 9),
        "weights/frozen_blocks": 1.0,
        "weights/blocks": 2.0,
    }


def test_update_ratio_of_a_step():
    named = [("a.weight", parameter([3.0, 4.0], [1.0, 1.0])), ("b.weight", parameter([0.0], [1.0]))]
    named += [("c.weight", parameter([10.0], [1.0])), ("c.bias", parameter([0.0], [1.0]))]
    before = {name: weight.detach().clone() for name, weight in named}
    with torch.no_grad():
        for _, weight in named:
            weight += 0.5
    statistics = weight_statistics(named, before)
    expected = [0.5**0.5 / 5, math.nan, 0.5**0.5 / 10]
    np.testing.assert_allclose(statistics.update_ratio_M, expected, rtol=1e-6)
    assert statistics.scalars()["weights/update_ratio"] == pytest.approx(np.median([expected[0], expected[2]]))


class Stack(nn.Module):
    def __init__(self, cut_before: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.head = nn.Linear(8, 3)
        self.cut_before = cut_before

    def forward(self, ids):
        x = self.embedding(ids)
        for index, layer in enumerate(self.layers):
            x = x + torch.tanh(layer(x.detach() if index == self.cut_before else x))
            x = x.detach() if index == self.cut_before else x
        return self.head(x)


def stepped(model: Stack, ids: torch.Tensor) -> None:
    model(ids).square().mean().backward()


def test_a_detached_stack_has_frozen_blocks():
    """Fault G7: everything below the cut gets no gradient."""
    ids = torch.tensor([[1, 2, 3]])
    healthy, cut = Stack(None), Stack(3)
    stepped(healthy, ids)
    stepped(cut, ids)
    tables = {"embedding.weight": ids}
    assert weight_statistics(healthy.named_parameters(), tables=tables).scalars()["weights/frozen_blocks"] == 0
    assert weight_statistics(healthy.named_parameters(), tables=tables).dead_share == 0
    assert weight_statistics(cut.named_parameters(), tables=tables).frozen == tuple(f"layers.{i}" for i in range(4))


def test_only_rows_that_were_looked_up_can_be_dead():
    ids = torch.tensor([[1, 2, 3, 2]])
    model = Stack(None)
    stepped(model, ids)
    blind = weight_statistics(model.named_parameters())
    seen = weight_statistics(model.named_parameters(), tables={"embedding.weight": ids})
    assert blind.dead_share_M[0] == pytest.approx(17 / 20)
    assert seen.dead_share_M[0] == 0
    assert seen.parameters_M[0] == 160
    unused = weight_statistics(model.named_parameters(), tables={"embedding.weight": ids[:, :0]})
    assert math.isnan(unused.dead_share_M[0])
    assert unused.dead_share == 0


def test_gradients_may_come_by_name_and_training_s_are_not_touched():
    named = [("a.weight", parameter([1.0, 1.0], [1.0, 1.0]))]
    statistics = weight_statistics(named, gradients={"a.weight": torch.tensor([0.0, 2.0])})
    assert statistics.dead_share == 0.5
    assert named[0][1].grad.tolist() == [1, 1]
    assert weight_statistics(named, gradients={"a.weight": None}).dead_share == 1


def test_another_prefix_and_names_that_only_look_like_blocks():
    named = [
        ("net.blocks.0.w", parameter([1.0], [1.0])),
        ("net.blocks.1.w", parameter([1.0], None)),
        ("layers.norm.w", parameter([1.0], None)),
    ]
    statistics = weight_statistics(named, block_prefix="net.blocks")
    assert (statistics.blocks, statistics.frozen) == (2, ("net.blocks.1",))
    assert weight_statistics(named).blocks == 0


def test_arrays_have_the_stored_types():
    arrays = weight_statistics([("a.weight", parameter([1.0], [1.0]))]).arrays()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "dead_share": "float32",
        "update_ratio": "float32",
        "grad_norm": "float32",
        "parameters": "int64",
    }


def test_mistakes_are_named():
    named = [("a.weight", parameter([1.0], None))]
    with pytest.raises(ValueError, match="no parameter to measure"):
        weight_statistics([])
    with pytest.raises(ValueError, match=r"before lacks 'a.weight'"):
        weight_statistics(named, {})
    with pytest.raises(ValueError, match=r"gradients lacks 'a.weight'"):
        weight_statistics(named, gradients={})
