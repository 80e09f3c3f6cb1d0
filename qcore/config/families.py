"""The model families there are, as far as no torch is needed: their sections, and what their runs have to show.

Pages, CLI and experiments ask what a run has and never for a family's name. What a family computes is in its own folder
of `qcore.models`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Union, get_args

from qcore.config.flux import FluxConfig
from qcore.config.ltx import LatentsConfig, LTXVideoConfig
from qcore.config.pam import PAMConfig
from qcore.config.phase import PhaseLMConfig
from qcore.config.sections import DataConfig, Section, TransformerConfig
from qcore.config.video import ClipsConfig, VideoFlowConfig

Capability = Literal["text", "clips", "phases", "discs", "memory", "curricula", "gradients", "samples", "trainer"]
"""What a run has: text, tokens and predictions · clips, whose frames can be told apart · phases, and weights that may
be negative · tokens on discs · a memory whose
state grows with the text · published curricula for its own loss terms · gradients, hidden states or measurements of
one's own · samples of what it makes · a trainer of ours: configuration, live controls, checkpoints, and all commands.
"""
OF_EVERY_FAMILY: tuple[Capability, ...] = ("gradients", "samples", "trainer")
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)


@dataclass(frozen=True)
class Family:
    """What is declared of a family.

    Attributes:
        kind: its name in a configuration.
        model, data: its sections.
    """

    kind: str
    model: type[Section]
    data: type[Section]
    capabilities: frozenset[Capability]

    def __post_init__(self) -> None:
        if ("text" in self.capabilities) == ("clips" in self.capabilities):
            raise ValueError(f"family {self.kind!r} must make either text or clips, not {sorted(self.capabilities)}")


def _family(kind: str, model: type[Section], data: type[Section], *capabilities: Capability) -> Family:
    return Family(kind, model, data, frozenset((*capabilities, *OF_EVERY_FAMILY)))


FAMILIES: dict[str, Family] = {
    family.kind: family
    for family in (
        _family("phase_lm", PhaseLMConfig, DataConfig, "text", "phases", "curricula"),
        _family("pam", PAMConfig, DataConfig, "text", "phases", "memory"),
        _family("flux_lm", FluxConfig, DataConfig, "text", "discs"),
        _family("transformer", TransformerConfig, DataConfig, "text"),
        _family("video_flow", VideoFlowConfig, ClipsConfig, "clips"),
        _family("ltx_video", LTXVideoConfig, LatentsConfig, "clips"),
    )
}
"""By kind; the first is the default."""
BASELINE = "transformer"
"""The family that the others are compared with, where nobody names another."""


def kinds_with(capability: Capability) -> tuple[str, ...]:
    """Kinds of the families that have a capability."""
    return tuple(kind for kind, family in FAMILIES.items() if capability in family.capabilities)


LANGUAGE_KINDS: dict[str, type[Section]] = {kind: FAMILIES[kind].model for kind in kinds_with("text")}
VIDEO_KINDS: dict[str, type[Section]] = {kind: FAMILIES[kind].model for kind in kinds_with("clips")}
MODEL_KINDS: dict[str, type[Section]] = {kind: family.model for kind, family in FAMILIES.items()}

if TYPE_CHECKING:
    LanguageConfig = PhaseLMConfig | PAMConfig | FluxConfig | TransformerConfig
else:  # the sections of all language models, so that one more needs no other list
    LanguageConfig = Union[tuple(LANGUAGE_KINDS.values())]  # noqa: UP007 - of a list
