"""Precision and compilation: bf16 on the CPU keeps complex states whole, and a compiler that is missing is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qcore.automation.control_board import ControlBoard
from qcore.config import TextRunConfig
from qcore.experiments.measure_models import time_generation
from qcore.train.engine import compiler_problem
from qcore.train.text_workload import build_engine
from qcore.train.video_workload import VideoWorkload
from tests.support.configs import small_config, small_video


def losses(kind: str, precision: str, steps: int = 6) -> tuple[list[float], object]:
    config = small_config(kind="phase_lm", precision=precision).with_values({"kind": kind})
    assert isinstance(config, TextRunConfig)
    engine, board = build_engine(config, None), ControlBoard(config)
    found = [engine.step(step, board) for step in range(1, steps + 1)]
    return [result.loss for result in found], (engine, found[-1])


@pytest.mark.parametrize("kind", ["phase_lm", "pam"])
def test_bf16_on_the_cpu_keeps_complex_states_in_complex64(kind: str) -> None:
    low, (engine, result) = losses(kind, "bf16")
    full, _ = losses(kind, "fp32")
    assert engine.precision == "bf16"
    assert result.output.logits_BTV.dtype == torch.bfloat16
    assert result.output.state_BTP.dtype == torch.complex64
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.float32}
    assert low != full
    assert low == pytest.approx(full, rel=0.03)


@pytest.mark.parametrize("kind", ["flux_lm", "transformer"])
def test_every_family_trains_in_bf16(kind: str) -> None:
    low, _ = losses(kind, "bf16")
    assert low == pytest.approx(losses(kind, "fp32")[0], rel=0.03)


def test_fp16_is_for_cuda() -> None:
    _, (engine, _) = losses("phase_lm", "fp16", steps=1)
    assert engine.precision == ("fp16" if engine.device.type == "cuda" else "fp32")


def test_a_missing_compiler_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert "install g++" in compiler_problem(torch.device("cpu"))
    config = small_config(compile=True, device="cpu")
    assert isinstance(config, TextRunConfig)
    with pytest.raises(ValueError, match="compile = true is refused: there is no C\\+\\+ compiler"):
        build_engine(config, None)


def test_video_does_not_compile() -> None:
    with pytest.raises(ValueError, match="only language models are compiled"):
        VideoWorkload(small_video(compile=True))


def test_the_compiled_forward_is_what_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself takes a minute and more; what it is handed, and that its work is used, is seen without it."""
    made = []

    def stand_in(model: torch.nn.Module, **options: object) -> object:
        made.append(model)
        return lambda *inputs, **more: model(*inputs, **more)

    monkeypatch.setattr(torch, "compile", stand_in)
    monkeypatch.setattr("qcore.train.engine.compiler_problem", lambda device: "")
    config = small_config(compile=True)
    assert isinstance(config, TextRunConfig)
    engine, board = build_engine(config, None), ControlBoard(config)
    first = engine.step(1, board).loss
    engine.step(2, board)
    assert made == [engine.model], "once a run"
    plain = build_engine(small_config(), None)  # type: ignore[arg-type]
    assert plain.step(1, board).loss == first


def test_a_generation_is_timed_compiled_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []

    def stand_in(step: Callable[..., object], **options: object) -> Callable[..., object]:
        made.append(options)
        return step

    monkeypatch.setattr(torch, "compile", stand_in)
    monkeypatch.setattr("qcore.experiments.measure_models.compiler_problem", lambda device: "")
    configs = {"plain": small_config(), "compiled": small_config(compile=True)}
    found = time_generation(configs, 64, (2, 4))  # type: ignore[arg-type]
    assert made == [{"dynamic": True}], "only the one that asks, and for sizes that change"
    assert [position for position, _ in found["compiled"]] == [2, 4]
    assert all(rate > 0 for rates in found.values() for _, rate in rates)
