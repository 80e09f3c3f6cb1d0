"""The memory forecast: the peak of a real step within a quarter, the published sizes, and what a person is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qcore.config import LANGUAGE_KINDS, ConfigError, TextRunConfig, default_run, preset
from qcore.lab.forecast import memory_forecast
from qcore.models import build_model, parameter_count
from qcore.train.bench import peak_memory
from qcore.train.forecast import available_bytes, forecast, saved_bytes, size_text

SMALL = {"width": 32, "layers": 2, "heads": 2, "context": 40, "batch_size": 3, "tokenizer": "byte"}
TOLERANCE = 0.25


def config_of(kind: str, **changes: object) -> TextRunConfig:
    config = default_run(kind).with_values({**SMALL, **changes})
    assert isinstance(config, TextRunConfig)
    return config


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("kind", LANGUAGE_KINDS)
def test_what_autograd_keeps_is_counted_without_computing(kind: str, layers: int) -> None:
    config = config_of(kind, layers=layers)
    model = build_model(config.model, 260)
    real = saved_bytes(model, torch.zeros(3, 40, dtype=torch.int64))
    found = forecast(config)
    assert found.activations == real
    assert found.parameters == parameter_count(model)
    assert found.weights == found.gradients == 4 * found.parameters
    assert found.moments == 8 * found.parameters


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_the_peak_of_a_real_step_is_forecast_within_a_quarter(kind: str) -> None:
    config = config_of(kind, width=128, layers=3, heads=4, context=256, batch_size=16)
    found = forecast(config, 260)
    measured = peak_memory(config, 260)
    assert measured is not None
    assert found.total == pytest.approx(measured, rel=TOLERANCE)


def test_activations_grow_with_the_batch_and_shrink_when_layers_are_computed_anew() -> None:
    one, two = (forecast(config_of("phase_lm", batch_size=rows)).activations for rows in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.02)
    deep = config_of("phase_lm", layers=6)
    saved = forecast(deep).activations
    recomputed = forecast(deep.with_values({"activation_checkpointing": True})).activations
    assert recomputed < 0.5 * saved


def test_half_precision_keeps_less() -> None:
    config = config_of("transformer", width=64)
    assert forecast(config.with_values({"precision": "bf16"})).activations < 0.8 * forecast(config).activations


@pytest.mark.parametrize(
    ("name", "published"), [("published-small", 8.58), ("published-medium", 21.08), ("published-large", 43.95)]
)
def test_the_published_sizes(name: str, published: float) -> None:
    config = preset(name).config
    small = config.with_values({"batch_size": 1})
    assert isinstance(small, TextRunConfig)
    found = forecast(small)
    assert found.published is not None
    assert round(found.published / 1e6, 2) == published
    with torch.device("meta"):
        assert found.parameters == parameter_count(build_model(small.model, found.vocab_size))


def test_a_person_is_told_what_is_needed_and_what_there_is() -> None:
    found = replace(forecast(config_of("phase_lm")), activations=22 * 10**9, available=8 * 10**9)
    assert found.verdict == "too large"
    assert found.text.startswith("This needs about 22 GB; you have 8 GB")
    assert "lower batch_size" in found.text
    assert replace(found, available=23 * 10**9).verdict == "tight"
    assert replace(found, available=60 * 10**9).verdict == "fits"
    assert "smaller width" in replace(found, weights=10**11).text
    assert [size_text(size) for size in (10, 34e7, 14e8, 22e9)] == ["1 MB", "340 MB", "1.4 GB", "22 GB"]
    assert size_text(8e9) == "8 GB"
    assert available_bytes(torch.device("cpu")) > 0


def test_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    forecast(config_of("phase_lm"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.rand(3).dtype == torch.float32


def test_the_lab_asks_once_and_leaves_video_out() -> None:
    config = config_of("phase_lm")
    first = memory_forecast(config)
    assert first is not None
    other = memory_forecast(config.with_values({"seed": 7, "learning_rate": 1e-4}))
    assert other is not None
    assert replace(other, available=0) == replace(first, available=0)
    assert memory_forecast(default_run("video_flow")) is None


def test_a_run_that_cannot_fit_is_refused_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcore.cli import training

    huge = replace(forecast(config_of("phase_lm")), available=1)
    monkeypatch.setattr(training, "memory_forecast", lambda config: huge)
    with pytest.raises(ConfigError, match=r"you have 1 MB .* --force"):
        training._memory(config_of("phase_lm"), False)
    assert "you have 1 MB" in training._memory(config_of("phase_lm"), True)
