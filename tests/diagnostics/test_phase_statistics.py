"""Phase statistics: analytic orders, spectra and circles, agreement with a slow reference and with the loss's terms,
the three phase faults, and the limits."""

import cmath
import math

import numpy as np
import pytest
import torch

from qcore.diagnostics import phase_statistics, real_axis_share
from qcore.diagnostics.phase import WINDOWS
from qcore.objectives import TermInputs
from qcore.objectives.inputs import Derived
from qcore.objectives.phases import coherence


def all_valid(batch: int, tokens: int) -> torch.Tensor:
    return torch.ones(batch, tokens, dtype=torch.bool)


def random_phases(seed: int, *shape: int) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5) * 20


def test_constant_phases_are_in_order():
    constant = torch.linspace(-3, 3, 8).expand(2, 64, 8)
    statistics = phase_statistics([constant, constant], all_valid(2, 64), heads=4)
    np.testing.assert_allclose(statistics.resultant_LP, 1, atol=1e-6)
    np.testing.assert_allclose(statistics.windows_LW, 1, atol=1e-6)
    np.testing.assert_allclose(statistics.variance_LP, 0, atol=1e-6)
    assert statistics.scalars()["phase/R"] == pytest.approx(1)
    assert statistics.scalars()["phase/dimension_variance"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(statistics.spectrum_LF[:, :2], [[2 / 3, 1 / 3]] * 2, rtol=1e-5)  # a Hann line


@pytest.mark.parametrize("cycles", [0.125, -0.125, 0.25, 0.5])
def test_a_uniform_rotation_has_no_order_and_one_line(cycles):
    """Over whole turns R = 0 and the windows know it too; the line stands at |f|, whichever way it turns."""
    phase = (2 * math.pi * cycles * torch.arange(64.0)).view(1, 64, 1).expand(1, 64, 6)
    statistics = phase_statistics([phase], all_valid(1, 64), heads=2)
    np.testing.assert_allclose(statistics.resultant_LP, 0, atol=1e-5)
    line = round(abs(cycles) * 64)
    shares = statistics.spectrum_LF[0]
    assert shares.argmax() == line
    assert shares[max(0, line - 1) : line + 2].sum() == pytest.approx(1, abs=1e-5)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    pair = abs(1 + cmath.exp(2j * math.pi * cycles)) / 2
    assert statistics.windows_LW[0, 1] == pytest.approx((63 * pair + 1) / 64, abs=1e-5)


def test_agreement_with_a_slow_reference():
    lengths = [13, 7]
    phases = [random_phases(seed, 2, 13, 6) for seed in (0, 1)]
    mask = torch.arange(13) < torch.tensor(lengths).unsqueeze(1)
    statistics = phase_statistics(phases, mask, heads=3)
    for layer, phase in enumerate(phases):
        unit = np.exp(1j * phase.double().numpy())
        rows = [unit[b, :n] for b, n in enumerate(lengths)]
        for p in range(6):
            order = sum(n * abs(row[:, p].mean()) for n, row in zip(lengths, rows, strict=True)) / sum(lengths)
            assert statistics.resultant_LP[layer, p] == pytest.approx(order, abs=1e-5)
            pooled = abs(np.concatenate([row[:, p] for row in rows]).mean())
            assert statistics.variance_LP[layer, p] == pytest.approx(1 - pooled, abs=1e-5)
        for index, width in enumerate(WINDOWS):
            values = [abs(row[max(0, t + 1 - width) : t + 1].mean(0)).mean() for row in rows for t in range(len(row))]
            assert statistics.windows_LW[layer, index] == pytest.approx(np.mean(values), abs=1e-5)
        wrapped = np.angle(np.concatenate(rows)).flatten()
        counts = np.histogram(wrapped, bins=36, range=(-math.pi, math.pi))[0]
        np.testing.assert_allclose(statistics.histogram_LN[layer], counts / len(wrapped), atol=1e-6)


def test_heads_hold_consecutive_phases_and_the_last_may_hold_fewer():
    phases = random_phases(3, 1, 30, 7)
    statistics = phase_statistics([phases], all_valid(1, 30), heads=4)
    order = statistics.resultant_LP[0]
    expected = [order[0:2].mean(), order[2:4].mean(), order[4:6].mean(), order[6]]
    np.testing.assert_allclose(statistics.heads_LH[0], expected, rtol=1e-5)


def test_windows_agree_with_the_term_that_is_trained():
    phases = tuple(random_phases(seed, 3, 40, 5) for seed in (0, 1, 2))
    mask = torch.arange(40) < torch.tensor([40, 17, 3]).unsqueeze(1)
    ids = torch.zeros(3, 40, dtype=torch.long)
    inputs = TermInputs(
        torch.zeros(3, 40, 4), ids, mask, ids, torch.zeros(3, 40, 2), phases, None, torch.ones(4) / 4, 0
    )
    windows = phase_statistics(phases, mask, heads=1).windows_LW
    assert 1 - windows.mean() == pytest.approx(float(coherence(Derived(inputs), {})), abs=1e-5)


def test_padding_and_turns_change_nothing():
    phase = random_phases(4, 2, 24, 4)
    padded = torch.cat((phase, random_phases(5, 2, 40, 4)), dim=1)
    mask = (torch.arange(64) < 24).expand(2, 64)
    alone = phase_statistics([phase, phase + 2 * math.pi], all_valid(2, 24), heads=2)
    beside = phase_statistics([padded, padded - 4 * math.pi], mask, heads=2)
    for name, value in alone.scalars().items():
        assert beside.scalars()[name] == pytest.approx(value, abs=1e-5), name
    np.testing.assert_allclose(beside.histogram_LN, alone.histogram_LN, atol=1e-2)


def wave(angle: torch.Tensor, amplitude: torch.Tensor | float = 1.0) -> torch.Tensor:
    return torch.polar(torch.as_tensor(amplitude).expand_as(angle).contiguous(), angle)


def test_an_even_wave_covers_the_circle_and_both_channels():
    angle = torch.linspace(-math.pi, math.pi, 2 * 64 * 16 + 1)[:-1].view(2, 64, 16) + 1e-3
    statistics = phase_statistics([angle], all_valid(2, 64), heads=4, state_BTP=wave(angle))
    assert statistics.coverage == 1
    assert statistics.im_re_ratio == pytest.approx(1, rel=1e-3)
    assert statistics.variance_LP.shape == (1, 16)


def test_half_a_circle_is_half_covered():
    """Fault P1: Im z never changes its sign."""
    angle = -torch.linspace(1e-3, math.pi - 1e-3, 2 * 64 * 16).view(2, 64, 16)
    assert phase_statistics([angle], all_valid(2, 64), heads=4, state_BTP=wave(angle)).coverage == pytest.approx(0.5)


def test_coverage_is_of_the_amplitude_not_of_the_angles():
    """Angles everywhere, but the upper half carries a hundredth of the amplitude."""
    angle = torch.linspace(-math.pi, math.pi, 2 * 64 * 16 + 1)[:-1].view(2, 64, 16) + 1e-3
    faint = torch.where(angle > 0, 0.01, 1.0)
    statistics = phase_statistics([angle], all_valid(2, 64), heads=4, state_BTP=wave(angle, faint))
    assert statistics.coverage == pytest.approx(0.5)
    assert (statistics.histogram_LN[0] > 0.02).all()


def test_a_dead_imaginary_channel_has_no_variance():
    """Fault P3; and its mirror image is bounded instead of infinite."""
    real = torch.complex(random_phases(0, 2, 30, 4), torch.zeros(2, 30, 4))
    angle = real.angle()
    assert phase_statistics([angle], all_valid(2, 30), heads=1, state_BTP=real).im_re_ratio == 0
    assert phase_statistics([angle], all_valid(2, 30), heads=1, state_BTP=real * 1j).im_re_ratio == 1e6
    assert math.isnan(phase_statistics([angle], all_valid(2, 30), heads=1, state_BTP=real * 0).im_re_ratio)


def test_aligned_phases_are_told_from_rows_that_only_look_alike():
    """Fault P2: order inside rows (R = 1) with rows apart is not the collapse; the same phases everywhere are."""
    rows = torch.linspace(-math.pi, math.pi, 9)[:-1].view(8, 1, 1).expand(8, 20, 4)
    apart = phase_statistics([rows, rows], all_valid(8, 20), heads=2).scalars()
    aligned = phase_statistics([rows, rows * 0 + 1], all_valid(8, 20), heads=2).scalars()
    assert apart["phase/R"] == pytest.approx(1)
    assert apart["phase/dimension_variance"] == pytest.approx(1, abs=1e-5)
    assert aligned["phase/R"] == pytest.approx(1)
    assert aligned["phase/dimension_variance"] == pytest.approx(0, abs=1e-5)


def test_dimension_variance_is_that_of_the_most_aligned_layer_after_the_encoding():
    free, aligned = random_phases(0, 2, 50, 6), torch.ones(2, 50, 6)
    measured = phase_statistics([aligned, free, free + 0.1 * random_phases(1, 2, 50, 6)], all_valid(2, 50), heads=2)
    assert measured.dimension_variance > 0.5
    assert phase_statistics([free, free, aligned], all_valid(2, 50), heads=2).dimension_variance < 1e-5


def test_semantic_coherence_agrees_with_a_loop_and_never_looks_ahead():
    generator = torch.Generator().manual_seed(0)
    hidden, phase = torch.randn(2, 9, 5, generator=generator), random_phases(1, 2, 9, 3)
    mask = torch.arange(9) < torch.tensor([9, 6]).unsqueeze(1)
    values = []
    for b, n in enumerate([9, 6]):
        for t in range(n):
            weights = [max(0.0, float(torch.cosine_similarity(hidden[b, t], hidden[b, j], dim=0))) for j in range(t)]
            if sum(weights) > 0:
                agree = [float((phase[b, t] - phase[b, j]).cos().mean()) for j in range(t)]
                values.append(sum(w * a for w, a in zip(weights, agree, strict=True)) / sum(weights))
    measured = phase_statistics([phase], mask, heads=1, hidden_BTD=hidden).semantic_coherence
    assert measured == pytest.approx(np.mean(values), abs=1e-5)


def test_similar_tokens_that_share_phases_are_coherent():
    """Two kinds of token, orthogonal in state and opposite in phase: each agrees with its own kind."""
    kind = torch.tensor([[0, 1, 0, 0, 1, 1, 0, 1]])
    phase = (kind * math.pi).unsqueeze(-1).expand(1, 8, 4)
    hidden = torch.nn.functional.one_hot(kind, 2).float()
    assert phase_statistics([phase], all_valid(1, 8), 2, hidden_BTD=hidden).semantic_coherence == pytest.approx(1)
    mixed = phase_statistics([phase], all_valid(1, 8), 2, hidden_BTD=torch.ones(1, 8, 3)).semantic_coherence
    assert mixed < 0.2


def test_the_portrait_shows_points_of_one_row_at_their_places():
    angle = random_phases(0, 2, 100, 32)
    amplitude = torch.arange(100.0).view(1, 100, 1) + 1
    mask = torch.zeros(2, 100, dtype=torch.bool)
    mask[1, 10:90] = True
    portrait = phase_statistics([angle], mask, heads=4, state_BTP=wave(angle, amplitude)).portrait
    assert portrait is not None
    assert len(portrait.phase_S) == len(portrait.amplitude_S) == len(portrait.position_S) == 512
    assert set(portrait.position_S) == set(range(10, 90))
    np.testing.assert_allclose(portrait.amplitude_S, portrait.position_S + 1, rtol=1e-5)
    assert np.abs(portrait.phase_S).max() <= math.pi + 1e-6
    own = torch.exp(1j * angle[1])
    for phase, place in zip(portrait.phase_S, portrait.position_S, strict=True):
        assert (own[place] - cmath.exp(1j * float(phase))).abs().min() < 1e-3


def test_names_and_shapes_of_what_is_stored():
    phases = [random_phases(seed, 2, 30, 8) for seed in range(3)]
    statistics = phase_statistics(phases, all_valid(2, 30), 4, wave(phases[-1]), torch.randn(2, 30, 6))
    layers = {f"phase/R_layer{layer}" for layer in range(3)}
    windows = {f"phase/window_{width}" for width in (1, 2, 4, 8, 16)}
    others = {"R", "coverage", "im_re_ratio", "dimension_variance", "semantic_coherence"}
    assert set(statistics.scalars()) == layers | windows | {f"phase/{name}" for name in others}
    assert statistics.scalars()["phase/R"] == pytest.approx(statistics.resultant_LP[1:].mean())
    shapes = {name: array.shape for name, array in statistics.arrays().items()}
    assert shapes == {
        "resultant": (3, 8),
        "heads": (3, 4),
        "histogram": (3, 36),
        "spectrum": (3, 33),
        "windows": (3, 5),
        "portrait_phase": (240,),
        "portrait_amplitude": (240,),
        "portrait_position": (240,),
    }
    kinds = {name: str(array.dtype) for name, array in statistics.arrays().items()}
    assert kinds.pop("portrait_position") == "int32"
    assert set(kinds.values()) == {"float32"}


def test_nothing_valid_has_no_statistics():
    phases = [random_phases(0, 2, 10, 4)]
    mask = torch.zeros(2, 10, dtype=torch.bool)
    statistics = phase_statistics(phases, mask, 2, wave(phases[0]), torch.randn(2, 10, 3))
    assert statistics.scalars() == {}
    assert len(statistics.arrays()["portrait_phase"]) == 0


def test_one_token_is_in_order_and_says_nothing_else():
    phases = [random_phases(0, 1, 1, 4)] * 2
    series = phase_statistics(phases, all_valid(1, 1), 2, wave(phases[0]), torch.randn(1, 1, 3)).scalars()
    assert series["phase/R"] == pytest.approx(1)
    assert "phase/dimension_variance" not in series
    assert "phase/semantic_coherence" not in series
    assert "phase/coverage" not in series


def test_without_a_wave_there_is_no_portrait_and_the_angles_are_covered():
    statistics = phase_statistics([random_phases(0, 2, 60, 16)], all_valid(2, 60), 4)
    assert statistics.portrait is None
    assert "portrait_phase" not in statistics.arrays()
    assert statistics.coverage == 1
    assert "phase/im_re_ratio" not in statistics.scalars()


def test_half_precision_is_measured_in_full():
    phase = random_phases(0, 2, 20, 4)
    half = phase_statistics([phase.bfloat16()], all_valid(2, 20), 2)
    full = phase_statistics([phase.bfloat16().float()], all_valid(2, 20), 2)
    np.testing.assert_array_equal(half.resultant_LP, full.resultant_LP)


def test_real_axis_share():
    """Fault G3: a lost imaginary part leaves 0 and π."""
    lost = torch.complex(torch.randn(2, 10, 4), torch.zeros(2, 10, 4)).angle()
    assert real_axis_share([lost]) == 1
    assert real_axis_share([lost, lost + 0.5]) == pytest.approx(0.5)
    assert real_axis_share([random_phases(0, 4, 50, 8)]) < 0.01
    assert math.isnan(real_axis_share([]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": []}, "phases is empty"),
        ({"phases": [torch.zeros(2, 5, 4), torch.zeros(2, 5, 3)]}, r"phases\[1\].*\(2, 5, 3\)"),
        ({"phases": [torch.zeros(2, 5, 4, dtype=torch.complex64)]}, "complex64"),
        ({"mask_BT": torch.ones(2, 6, dtype=torch.bool)}, r"mask_BT has shape \(2, 6\)"),
        ({"mask_BT": torch.ones(2, 5)}, "float32; pass torch.bool"),
        ({"heads": 0}, "0 heads"),
        ({"heads": 3}, "4 phases leave one of 3 heads without any"),
        ({"state_BTP": torch.zeros(1, 5, 4, dtype=torch.complex64)}, "state_BTP has shape"),
        ({"hidden_BTD": torch.zeros(2, 4, 4)}, "hidden_BTD has shape"),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {"phases": [torch.zeros(2, 5, 4)], "mask_BT": all_valid(2, 5), "heads": 2, **changes}
    with pytest.raises(ValueError, match=message):
        phase_statistics(**arguments)
