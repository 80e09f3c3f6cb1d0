"""Interference statistics: uniform, single and signed rows by hand, a loop as reference, leaks, padding and limits."""

import math

import numpy as np
import pytest
import torch

from qcore.diagnostics import interference_statistics


def test_uniform_attention_is_broad_and_constructive():
    uniform = torch.ones(2, 3, 10, 10).tril()
    uniform = uniform / uniform.sum(-1, keepdim=True)
    series = interference_statistics([uniform, uniform]).scalars()
    assert series == {
        "interference/participation": pytest.approx(1),
        "interference/entropy": pytest.approx(1),
        "interference/constructive": pytest.approx(1),
        "interference/destructive": pytest.approx(0, abs=1e-6),
    }


def test_reading_only_oneself_is_narrow():
    series = interference_statistics([torch.eye(8).expand(1, 2, 8, 8)]).scalars()
    assert series["interference/participation"] == pytest.approx(np.mean([1 / seen for seen in range(2, 9)]))
    assert series["interference/entropy"] == pytest.approx(0, abs=1e-6)


def test_signs_are_kept_apart_by_layer_and_head():
    kernel = torch.ones(1, 2, 4, 4).tril()
    kernel[0, 1] *= -3
    kernel[0, 1, :, 0] *= -1
    statistics = interference_statistics([kernel])
    expected = np.mean([1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(statistics.constructive_LH, [[1, expected]], rtol=1e-5)
    np.testing.assert_allclose(statistics.destructive_LH, [[0, 1 - expected]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_agreement_with_a_loop(scale):
    kernel = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0)).tril()
    kernel[1, 2, 4] = 0
    statistics = interference_statistics([kernel * scale])
    for head in range(3):
        rows = {"constructive": [], "participation": [], "entropy": []}
        for batch in range(2):
            for t in range(1, 7):
                weights = kernel[batch, head, t, : t + 1].double().numpy()
                size = np.abs(weights)
                if size.sum() == 0:
                    continue
                share = size / size.sum()
                rows["constructive"].append(weights.clip(min=0).sum() / size.sum())
                rows["participation"].append(size.sum() ** 2 / (size**2).sum() / (t + 1))
                rows["entropy"].append(-(share * np.log(share)).sum() / math.log(t + 1))
        for name, values in rows.items():
            assert getattr(statistics, f"{name}_LH")[0, head] == pytest.approx(np.mean(values), rel=1e-4), name


def test_a_leak_counts_everything_it_reads_as_visible():
    series = interference_statistics([torch.full((1, 1, 6, 6), 1 / 6)]).scalars()
    assert series["interference/participation"] == pytest.approx(1)
    assert series["interference/entropy"] == pytest.approx(1)


def test_padding_rows_do_not_count():
    kernel = torch.eye(6).expand(1, 1, 6, 6).clone()
    kernel[0, 0, :3] = torch.ones(6, 6).tril()[:3]
    mask = (torch.arange(6) < 3).unsqueeze(0)
    assert interference_statistics([kernel], mask).scalars()["interference/participation"] == pytest.approx(1)
    assert interference_statistics([kernel]).scalars()["interference/participation"] < 0.7


def test_the_probe_row_is_kept_for_the_page():
    kernels = [torch.randn(2, 3, 60, 60).tril() for _ in range(2)]
    tokens = torch.arange(120).view(2, 60)
    arrays = interference_statistics(kernels, tokens_BT=tokens).arrays()
    assert arrays["kernels"].shape == (2, 3, 48, 48)
    np.testing.assert_array_equal(arrays["kernels"][1], kernels[1][0, :, :48, :48].numpy())
    assert arrays["tokens"].dtype == np.int32
    assert arrays["tokens"].tolist() == list(range(48))
    assert arrays["entropy"].shape == (2, 3)
    assert "kernels" not in interference_statistics(kernels).arrays()


@pytest.mark.parametrize("kernel", [torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 5, 5)])
def test_one_token_or_silence_has_no_statistics(kernel):
    assert interference_statistics([kernel]).scalars() == {}


def test_a_silent_head_does_not_silence_the_others():
    kernel = torch.ones(1, 2, 5, 5).tril()
    kernel[0, 1] = 0
    statistics = interference_statistics([kernel])
    assert np.isnan(statistics.participation_LH[0, 1])
    assert statistics.scalars()["interference/participation"] == pytest.approx(1)


def test_mistakes_are_named():
    kernel = torch.ones(2, 3, 5, 5)
    with pytest.raises(ValueError, match="kernels is empty"):
        interference_statistics([])
    with pytest.raises(ValueError, match=r"kernels\[1\] has shape \(2, 3, 4, 4\)"):
        interference_statistics([kernel, torch.ones(2, 3, 4, 4)])
    with pytest.raises(ValueError, match=r"\(2, 3, 5, 6\)"):
        interference_statistics([torch.ones(2, 3, 5, 6)])
    with pytest.raises(ValueError, match="mask_BT has shape"):
        interference_statistics([kernel], torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="tokens_BT has shape"):
        interference_statistics([kernel], tokens_BT=torch.zeros(2, 4, dtype=torch.long))
