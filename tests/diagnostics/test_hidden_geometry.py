"""Hidden geometry: ranks of known covariances, cosines against all pairs, collapse, padding and limits."""

import math

import numpy as np
import pytest
import torch

from qcore.diagnostics import hidden_geometry


def all_valid(hidden: torch.Tensor) -> torch.Tensor:
    return torch.ones(hidden.shape[:2], dtype=torch.bool)


def spread(scales: list[float], positions: int = 64, offset: float = 0.0) -> torch.Tensor:
    """States with exactly this covariance spectrum (scales² up to a factor), around a common offset."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(positions, len(scales), generator=generator, dtype=torch.float64)
    orthonormal, _ = torch.linalg.qr(raw - raw.mean(0))
    return (orthonormal * torch.tensor(scales) + offset).float().unsqueeze(0)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_equal_directions(rank):
    hidden = spread([1.0] * rank + [0.0] * (8 - rank))
    geometry = hidden_geometry(hidden, all_valid(hidden))
    assert geometry.dimensions == pytest.approx(rank, rel=1e-3)
    assert geometry.effective_rank == pytest.approx(rank / 8, rel=1e-3)
    np.testing.assert_allclose(geometry.eigenvalues[:rank], 1 / rank, rtol=1e-3)
    assert geometry.eigenvalues.sum() == pytest.approx(1, abs=1e-5)


def test_effective_rank_of_unequal_directions():
    hidden = spread([2.0, 1.0, 1.0])
    shares = np.array([4, 1, 1]) / 6
    geometry = hidden_geometry(hidden, all_valid(hidden))
    np.testing.assert_allclose(geometry.eigenvalues, shares, rtol=1e-4)
    assert geometry.dimensions == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def test_a_common_offset_moves_the_cosine_and_not_the_rank():
    hidden = spread([1.0] * 6, offset=5.0)
    geometry = hidden_geometry(hidden, all_valid(hidden))
    assert geometry.dimensions == pytest.approx(6, rel=1e-2)
    assert geometry.mean_cosine > 0.99


def test_one_vector_for_all_positions_is_rank_one():
    """Total collapse: rounding around the common vector is no dimension."""
    hidden = torch.randn(16, generator=torch.Generator().manual_seed(0)).expand(2, 40, 16)
    noisy = hidden + 1e-6 * torch.randn(2, 40, 16)
    for collapsed in (hidden, noisy, torch.zeros(2, 40, 16)):
        assert hidden_geometry(collapsed, all_valid(collapsed)).dimensions == pytest.approx(1)
    assert hidden_geometry(hidden, all_valid(hidden)).mean_cosine == pytest.approx(1)


@pytest.mark.parametrize(("tokens", "width"), [(12, 5), (5, 12)])
def test_agreement_with_pairs_and_with_a_covariance(tokens, width):
    hidden = torch.randn(2, tokens, width, generator=torch.Generator().manual_seed(1)) + 0.3
    states = hidden.flatten(0, 1)
    cosines = torch.nn.functional.cosine_similarity(states[:, None], states[None], dim=-1)
    off = ~torch.eye(len(states), dtype=torch.bool)
    geometry = hidden_geometry(hidden, all_valid(hidden))
    assert geometry.mean_cosine == pytest.approx(float(cosines[off].mean()), abs=1e-5)
    values = np.linalg.eigvalsh(np.cov(states.double().numpy().T))[::-1].clip(min=1e-12)
    shares = (values / values.sum())[: min(width, 2 * tokens - 1)]
    np.testing.assert_allclose(geometry.eigenvalues, shares, atol=1e-5)
    assert geometry.effective_rank == pytest.approx(
        math.exp(-(shares * np.log(shares)).sum()) / min(width, 2 * tokens - 1), rel=1e-3
    )


def test_padding_does_not_count_and_rows_are_bounded():
    hidden = torch.randn(4, 100, 6, generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(100) < 30).expand(4, 100)
    padded = hidden.masked_fill(~mask.unsqueeze(-1), 1e3)
    assert hidden_geometry(padded, mask).mean_cosine == pytest.approx(hidden_geometry(hidden, mask).mean_cosine)
    assert hidden_geometry(hidden, mask).positions == 120
    assert hidden_geometry(hidden, all_valid(hidden), rows=64).positions == 64


def test_at_most_64_eigenvalues_are_kept():
    hidden = torch.randn(2, 150, 100, generator=torch.Generator().manual_seed(3))
    eigenvalues = hidden_geometry(hidden, all_valid(hidden)).arrays()["eigenvalues"]
    assert eigenvalues.shape == (64,)
    assert eigenvalues.dtype == np.float32
    assert (np.diff(eigenvalues) <= 0).all()
    assert eigenvalues.sum() < 1


@pytest.mark.parametrize("valid", [0, 1])
def test_fewer_than_two_positions_have_no_geometry(valid):
    geometry = hidden_geometry(torch.randn(1, 4, 3), (torch.arange(4) < valid).unsqueeze(0))
    assert geometry.scalars() == {}
    assert geometry.arrays() == {}


def test_half_precision_is_measured_in_full():
    hidden = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(4)).half()
    assert hidden_geometry(hidden, all_valid(hidden)).effective_rank == pytest.approx(
        hidden_geometry(hidden.float(), all_valid(hidden)).effective_rank
    )


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(4, 3\); pass batch"):
        hidden_geometry(torch.ones(4, 3), torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask_BT has shape"):
        hidden_geometry(torch.ones(2, 4, 3), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="rows is 1"):
        hidden_geometry(torch.ones(2, 4, 3), torch.ones(2, 4, dtype=torch.bool), rows=1)
