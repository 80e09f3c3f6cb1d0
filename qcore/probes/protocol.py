"""What a probe is, what it may read, and what an engine provides: the whole contract between the two.

A probe is a name, the capabilities that it needs, a cadence and a function of a `ProbeInput`. The input holds what the
step computed anyway, detached, and callables that ask the model again about a few rows; nothing in it knows whose loop
trains the model. Built-in probes read nothing else, so one from outside can measure whatever they can. No torch is
imported here: a program that only declares a probe stays light.

Legend: B rows · T tokens · V vocabulary · D width · P phases · F frames · C channels · H, W height, width · N places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from qcore.base import QcoreError
from qcore.probes.catalog import CAPABILITIES

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from qcore.diagnostics import (
        AccumulationWeights,
        FixedMatrix,
        FrameReference,
        MovingPoint,
        TrainedRows,
        TrainedWeights,
        UpdateRecord,
    )

Keep: TypeAlias = "Callable[[str, Mapping[str, np.ndarray]], None]"
"""Stores arrays of a step under a name."""


class MissingError(QcoreError):
    """A probe reads what its run does not have; the message names the capability that the probe must ask for."""


class ModelAccess(Protocol):
    """What every engine provides about the step that was just made; each is computed when it is called."""

    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Every parameter that learns, by name."""

    def counted_parameters(self) -> Sequence[tuple[str, nn.Parameter]]:
        """Every parameter by name, also one that is switched off for training; those that the family freezes by design
        are left out.
        """

    def lookup_tables(self) -> Mapping[str, Tensor]:
        """Parameters that are lookup tables, with the ids that the step looked up; of any other, a row without
        gradient is a dead one.
        """

    def parts(self, *, tokens: int | None = None) -> Mapping[str, Tensor]:
        """The terms in the loss, unweighted, on the measured rows, with their graph: full precision, no dropout.

        Args:
            tokens: on so many of each row only, where rows are text.
        """

    def gradients(self) -> Mapping[str, Tensor | None]:
        """Gradient of the weighted loss of the whole batch by parameter name; `.grad` is not touched."""

    def before_update(self) -> Mapping[str, Tensor] | None:
        """Parameters before the last update, from the optimizer's moments; None where those do not say it."""

    def update(self) -> UpdateRecord | None:
        """What the optimizer did in the last update; None where it was not recorded."""

    def trained_weights(self) -> TrainedWeights:
        """Which parameters learn, and which of those the optimizer knows."""

    def block_outputs(self, call: Callable[[], Any]) -> Sequence[Tensor]:
        """What each of the model's blocks gives while `call` asks the model, in their order; empty without blocks."""

    def fixed_matrices(self, call: Callable[[], Any], inputs: Sequence[Tensor]) -> Sequence[FixedMatrix]:
        """Matrices that `call`, a forward pass of the model on `inputs`, multiplies by and that nothing can train."""

    def measured_terms(self) -> Mapping[str, float]:
        """Every term on the measured rows, whatever its weight, without gradient."""

    def jittered(self, seed: int) -> AbstractContextManager[None]:
        """Inside, the weights stand a little beside where they are; afterwards exactly where they were."""


class ModelMeasures(Protocol):
    """What a model says of itself: series by name, and arrays for its page."""

    @property
    def scalars(self) -> Mapping[str, float]: ...
    @property
    def arrays(self) -> Mapping[str, Tensor]: ...


class TextAccess(Protocol):
    """What an engine provides where the model reads tokens."""

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of other tokens, float32, without gradient and without dropout."""

    def logits_as_generated(self, tokens_BT: Tensor) -> Tensor:
        """The same in the precision in which text is generated."""

    def stepped_logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of the same tokens, fed one by one through the step that generates."""

    def internals(self, tokens_BT: Tensor) -> ModelMeasures:
        """What the family measures of itself on these tokens; nothing for a model that has nothing to say."""

    def mixing(self, tokens_BT: Tensor) -> Sequence[Tensor]:
        """Who reads whom: weights [B, heads, T, T], one tensor a layer."""

    def same_row(self, tokens: int) -> Tensor:
        """The start of one held-out row, [1, ≤ tokens]: the same at every step, so that two steps can be compared."""

    def parts_at(self, hidden_BTD: Tensor) -> Mapping[str, Tensor]:
        """The weighted terms that act through the last hidden state, as functions of one on the measured rows; empty
        when there is none.
        """

    def phase_terms(self, *, weighted: bool) -> Mapping[str, Callable[[tuple[Tensor, ...]], Tensor]]:
        """Terms that read phases, as functions of phases on the measured rows.

        Args:
            weighted: only those in the loss.
        """

    def seen_phases(self) -> tuple[Tensor, ...] | None:
        """Phases of the measured rows as the loss terms are given them."""

    def concept_shares(self) -> Tensor | None:
        """Share of each concept in each word of the vocabulary, [V, K]; None for a model without concepts."""

    def check_accumulation(self) -> tuple[float, Callable[[], AccumulationWeights]]:
        """‖g_accumulated − g_big‖ ÷ ‖g_big‖ of the next update, NaN where nothing is accumulated; and what the
        accumulated gradient is made of, which costs a backward pass for each micro-batch.
        """

    def surprises(self) -> Mapping[int, float]:
        """Mean −ln of how frequent the targets of an update are in training, by its number, for the newest ones; before
        the first update, for those to come.
        """

    def trained_rows(self) -> TrainedRows:
        """Rows of several updates as they are trained on: of those behind the step, before the first of those ahead."""


class WeightsAtTimes(Protocol):
    """Weights of a path at times t: z_t = α·noise + β·anchor + γ·clip."""

    @property
    def alpha(self) -> Tensor: ...
    @property
    def beta(self) -> Tensor: ...
    @property
    def gamma(self) -> Tensor: ...


class ClipAccess(Protocol):
    """What an engine provides where the model moves clips."""

    def measured_frames(self) -> Mapping[str, Tensor]:
        """Standardised pixels by source: `data`, and `denoised` where the path says something of the data."""

    def decode(self, latents_BFCHW: Tensor) -> Tensor:
        """Standardised pixels of latents."""

    def shown(self, clips_BFCHW: Tensor) -> np.ndarray:
        """Pixels to be looked at of standardised clips: u8 [B, F, H, W, C]."""

    def path_weights(self, t: Tensor) -> WeightsAtTimes:
        """Weights of the path that the step was trained on."""

    def path_jumps(self) -> tuple[float, ...]:
        """Times at which that path jumps."""

    def moving_point(self, rows: slice) -> tuple[Callable[[Tensor], MovingPoint], tuple[float, ...]]:
        """The path in force for these clips in float64, with all but the time fixed, and where it jumps."""

    def velocity(self, z_BFCHW: Tensor, t_B: Tensor, anchor_BCHW: Tensor) -> Tensor:
        """What the live model predicts, float32, in evaluation mode."""

    def times(self) -> Tensor:
        """Times t [K] of several updates, as they are drawn for training."""

    def velocity_gradient(self) -> Tensor | None:
        """Gradient of the weighted loss at the step's predicted velocity, [B, F, C, H, W]; None where the loss does not
        depend on it.
        """


@dataclass(frozen=True)
class TextInput:
    """A step on tokens.

    Attributes:
        inputs_BT: ids that were read.
        phases: angles [B, T, P], the encoding first and then one for each layer; None for a real model.
        state_BTP: the last layer's complex wave.
        heads: into how many heads P is divided.
        eos_id, special_ids: where the tokenizer has them.
        token_counts: how often each id occurs in the training data, where that is known.
        pairs: ids of translations, where the data have two languages.
    """

    inputs_BT: Tensor
    vocab_size: int
    engine: TextAccess
    phases: tuple[Tensor, ...] | None = None
    state_BTP: Tensor | None = None
    heads: int = 1
    eos_id: int | None = None
    special_ids: Mapping[str, int] = field(default_factory=dict)
    token_counts: np.ndarray | None = None
    pairs: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class ClipInput:
    """A step on clips.

    Attributes:
        clips: standardised pixels.
        latents: what the flow acts on.
        z: latents on their way to noise, at time t.
        denoised: x̂₀ of the prediction, where `defined_B` says that the path defines one.
        anchor_mean, anchor_log_variance: of an anchor network, None without.
        t_star: collapse time in force.
        reference: the held-out clips' own numbers.
    """

    clips_BFCHW: Tensor
    latents_BFCHW: Tensor
    z_BFCHW: Tensor
    t_B: Tensor
    noise_BFCHW: Tensor
    anchor_BCHW: Tensor
    anchor_mean_BCHW: Tensor | None
    anchor_log_variance_BCHW: Tensor | None
    denoised_BFCHW: Tensor
    defined_B: Tensor
    t_star: float
    uses_anchor: bool
    reference: FrameReference
    engine: ClipAccess


@dataclass(frozen=True)
class ProbeInput:
    """One step as a probe sees it; tensors are detached.

    Attributes:
        step: updates made, 0 before the first.
        controls: as they stand.
        terms: unweighted parts of the loss that the step measured.
        weights: effective weight of every term, in their order.
        outputs: logits [B, T, V], or the predicted velocity [B, F, C, H, W].
        targets: ids [B, T], or the velocity asked for.
        mask: bool [B, T] or [B, N], which positions of a hidden state count.
        hidden: hidden states by name, `last` is the one that the head reads.
        rows: the few rows about which the model is asked again, so that a probe stays cheap.
        engine: what any engine provides.
        keep: stores arrays of this step under a name, of a probe from outside as `own_<name>`.
        text, clips: what only such runs have.
        thorough: whether time is no matter: before the first update, after the last one, and where no budget thins the
            probes. Otherwise a dear probe asks less of the model, so that it can ask at all.
    """

    step: int
    controls: Mapping[str, Any]
    terms: Mapping[str, float]
    weights: Mapping[str, float]
    outputs: Tensor
    targets: Tensor
    mask: Tensor
    hidden: Mapping[str, Tensor]
    rows: slice
    engine: ModelAccess
    keep: Keep
    text: TextInput | None = None
    clips: ClipInput | None = None
    thorough: bool = True


@dataclass(frozen=True)
class Probe:
    """A measurement of a run in training.

    Attributes:
        name: of its cost series.
        needs: capabilities without which it is not run.
        every: the control that asks for its cadence, or a number of steps.
        records_update: the update before its measurement is recorded; whether it is due is decided before that one.
        measure: scalars by the names of declared series.

    Raises:
        ValueError: for a capability that no run has, or a cadence below 1.
    """

    name: str
    needs: Set[str]
    every: str | int
    measure: Callable[[ProbeInput], Mapping[str, float]]
    records_update: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset(self.needs))
        if unknown := sorted(self.needs - set(CAPABILITIES)):
            raise ValueError(
                f"the probe {self.name!r} needs {', '.join(unknown)}; a run may have: {', '.join(CAPABILITIES)}"
            )
        if isinstance(self.every, int) and self.every < 1:
            raise ValueError(f"the probe {self.name!r} runs every {self.every} steps; that must be 1 or more")

    def cadence(self, controls: Mapping[str, Any]) -> int:
        """Steps between two measurements as asked for."""
        return int(self.every if isinstance(self.every, int) else controls[self.every])


class ProbedRun(Protocol):
    """A run that can be probed: what an engine provides, ours or a watched one's."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the run has, of `CAPABILITIES`."""

    @property
    def probes(self) -> Sequence[Probe]:
        """The built-in probes of such a run, in the order in which they are measured."""

    @property
    def term_names(self) -> Sequence[str]:
        """Every term of the loss, in order."""

    def parameter_names(self) -> Iterable[str]:
        """Every parameter, in order."""

    def record_update(self) -> None:
        """Record what the update that is about to be made does to the weights."""

    def probe_input(
        self,
        step: int,
        result: Any,
        controls: Mapping[str, Any],
        keep: Keep,
    ) -> ProbeInput:
        """A step, as `result` of the engine's own kind has it, for probes."""


def text_of(seen: ProbeInput) -> TextInput:
    """The tokens of a step.

    Raises:
        MissingError: for a run without.
    """
    if seen.text is None:
        raise MissingError("this run has no tokens: give the probe needs={'text'}, and it is run where there are some")
    return seen.text


def clips_of(seen: ProbeInput) -> ClipInput:
    """The clips of a step.

    Raises:
        MissingError: for a run without.
    """
    if seen.clips is None:
        raise MissingError("this run has no clips: give the probe needs={'frames'}, and it is run where there are some")
    return seen.clips
