"""The adapter's sections: complete declarations that fit the video family's own, and combinations that are refused."""

from dataclasses import replace

import pytest

from qcore.config import (
    ClipSamplingConfig,
    ConfigError,
    FlowConfig,
    OptimConfig,
    VideoObjectiveConfig,
    VideoProbesConfig,
)
from qcore.config.ltx import LatentsConfig, LTXVideoConfig, check_adapter
from qcore.config.video import VideoFlowConfig


def test_names_are_unique_within_a_run_and_shared_ones_mean_the_same() -> None:
    sections = (
        LTXVideoConfig,
        LatentsConfig,
        FlowConfig,
        VideoObjectiveConfig,
        OptimConfig,
        VideoProbesConfig,
        ClipSamplingConfig,
    )
    names = [control.name for section in sections for control in section.controls()]
    assert len(names) == len(set(names))
    for control in LTXVideoConfig.controls():
        if control.name in VideoFlowConfig.model_fields and control.name != "kind":
            assert replace(control, help="") == replace(VideoFlowConfig.control(control.name), help="")


@pytest.mark.parametrize(("variant", "width", "layers"), [("tiny", 32, 2), ("2b", 2048, 28), ("13b", 4096, 48)])
def test_a_variant_has_its_published_size(variant: str, width: int, layers: int) -> None:
    config = LTXVideoConfig.model_validate({"variant": variant})
    assert (config.width, config.layers, config.anchor_input) == (width, layers, False)
    assert config.model_dump().keys() == LTXVideoConfig.model_fields.keys()


def test_the_defaults_fit_together() -> None:
    check_adapter(LTXVideoConfig(), LatentsConfig())
    check_adapter(LTXVideoConfig(variant="2b"), LatentsConfig(channels=128))
    check_adapter(LTXVideoConfig(model_id="mine"), LatentsConfig(channels=32))


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (LTXVideoConfig(), LatentsConfig(source="folder"), "needs path, which is empty"),
        (
            LTXVideoConfig(),
            LatentsConfig(channels=8),
            "channels = 8 is refused: variant = 'tiny' reads latents with 16",
        ),
        (LTXVideoConfig(variant="2b"), LatentsConfig(), "reads latents with 128"),
        (LTXVideoConfig(), LatentsConfig(normalisation="stored"), "random latents bring no mean"),
        (LTXVideoConfig(lora_targets=[]), LatentsConfig(), "nothing would train"),
    ],
)
def test_sections_that_do_not_fit_are_refused(model: LTXVideoConfig, data: LatentsConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_adapter(model, data)
