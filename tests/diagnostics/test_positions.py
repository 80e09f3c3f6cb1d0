"""The choice of positions: one a stratum, in line with no stride, and only valid ones."""

import pytest
import torch

from qcore.diagnostics.positions import strata, valid_positions


@pytest.mark.parametrize(("count", "limit"), [(4096, 512), (1000, 256), (257, 256)])
def test_one_index_in_each_stratum(count, limit):
    chosen = strata(count, limit)
    edges = torch.arange(limit + 1) * count // limit
    assert ((edges[:-1] <= chosen) & (chosen < edges[1:])).all()
    assert chosen.unique().numel() == limit
    assert int(chosen.max()) < count


def test_no_stride_lines_up_with_a_period():
    """4096 = 128 tokens × 32 phases, 512 points: a plain stride of 8 would show 4 phases of 32."""
    assert (strata(4096, 512) % 32).unique().numel() == 32


def test_few_are_all_taken():
    assert strata(3, 5).tolist() == [0, 1, 2]
    assert strata(0, 5).tolist() == []


def test_valid_positions_are_flat_and_valid():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    assert valid_positions(mask, 10).tolist() == [0, 2, 4]
    many = torch.rand(8, 100, generator=torch.Generator().manual_seed(0)) < 0.6
    chosen = valid_positions(many, 64)
    assert len(chosen) == 64
    assert many.flatten()[chosen].all()
