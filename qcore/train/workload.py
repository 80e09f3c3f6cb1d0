"""What a run trains, behind one interface: the loop, the monitor and the façade know no family.

A workload owns the engine with its data, makes the probes, tells the detectors what is known beforehand, describes
itself in the run's folder, and speaks: text that grows token by token, or clips.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qcore.config import ConfigError, RunConfig, Section, nearest_hint
from qcore.detect import Facts
from qcore.diagnostics import FixedMatrix, TrainedWeights, UpdateRecord, fixed_matrices, trained_weights
from qcore.probes.jitter import jitter_weights
from qcore.probes.runner import Runner
from qcore.store import Generation, RunWriter
from qcore.train.engine import BaseEngine, StepResult


class EngineStep:
    """What an engine provides about one step to any probe, whatever its family."""

    def __init__(self, engine: BaseEngine, step: int, result: StepResult, controls: Mapping[str, Any]) -> None:
        self._engine: Any = engine
        self._step = step
        self._result: Any = result
        self._controls = controls

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self._engine.model.named_parameters() if value.requires_grad]

    def counted_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every parameter but those that the family freezes by design."""
        model = self._engine.model
        by_design = tuple(getattr(model, "frozen_by_design", ()))
        return [
            (name, value)
            for name, value in model.named_parameters()
            if value.requires_grad or not name.startswith(by_design)
        ]

    def lookup_tables(self) -> dict[str, Tensor]:
        return {}

    def parts(self, *, tokens: int | None = None) -> Mapping[str, Tensor]:
        del tokens
        parts: Mapping[str, Tensor] = self._engine.graph(self._result, self._controls).parts
        return parts

    def gradients(self) -> Mapping[str, Tensor | None]:
        gradients: Mapping[str, Tensor | None] = self._engine.gradients(self._result, self._controls)
        return gradients

    def before_update(self) -> Mapping[str, Tensor] | None:
        before: Mapping[str, Tensor] | None = self._engine.before_update(self._result.learning_rate)
        return before

    def update(self) -> UpdateRecord | None:
        """What the last update did, if it was recorded."""
        record: UpdateRecord | None = self._engine.updates.record(skipped=self._result.skipped)
        return record

    def trained_weights(self) -> TrainedWeights:
        """Which parameters learn, and which of those the optimizer knows."""
        return trained_weights(self.counted_parameters(), self._engine.optimizer.param_groups)

    def block_outputs(self, call: Callable[[], Any]) -> Sequence[Tensor]:
        """What each block gives while `call` asks the model."""
        states: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Any) -> None:
            # a block may give more beside its states, such as those of a memory
            states.append(output if isinstance(output, Tensor) else output[0])

        hooks = [layer.register_forward_hook(keep) for layer in getattr(self._engine.model, "layers", ())]
        try:
            call()
        finally:
            for hook in hooks:
                hook.remove()
        return states

    def fixed_matrices(self, call: Callable[[], Any], inputs: Sequence[Tensor]) -> Sequence[FixedMatrix]:
        """Matrices of the forward pass `call` that nothing can train."""
        model = self._engine.model
        return fixed_matrices(call, model.parameters(), inputs, model.buffers())

    def measured_terms(self) -> Mapping[str, float]:
        terms: Mapping[str, float] = self._engine.measure_terms(self._result, self._controls)
        return terms

    def jittered(self, seed: int) -> AbstractContextManager[None]:
        return jitter_weights(self._engine.model, seed)


SAMPLE_ERRORS = (FloatingPointError, LookupError, RuntimeError, TypeError, ValueError)
"""What a broken model or sampler raises: a sample that failed is shown, and found; training goes on without it."""


def weight_versions(model: nn.Module) -> int:
    """A number that is another one after any change of a weight in place."""
    return sum(parameter._version for parameter in model.parameters())


class Sampler(ABC):
    """A model that can be sampled: the live one of a run, or a checkpoint's."""

    config: RunConfig

    @abstractmethod
    def sample(
        self,
        draft: Generation,
        settings: Any,
        controls: Mapping[str, Any],
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Generation]:
        """Yield `draft` as it grows, at most every 0.1 s, and last with its statistics and status done or failed."""

    def settings(self, changes: Mapping[str, Any]) -> Section:
        """The run's sampling settings with `changes`. Raises `ConfigError` for a setting of another family."""
        own = self.config.sampling
        fields = type(own).model_fields
        checked = {}
        for name, value in changes.items():
            if name not in fields:
                raise ConfigError(
                    f"{name!r} is no sampling setting of a {self.config.kind}{nearest_hint(name, fields)}"
                )
            checked[name] = own.control(name).check(value)
        return type(own).model_validate({**own.model_dump(), **checked})


class Workload(Sampler):
    """One run's engine and all that depends on its family."""

    engine: BaseEngine
    fingerprint: str
    """Hex, equal exactly when the data are."""

    @property
    def section(self) -> dict[str, Any]:
        """The model section of the configuration in force."""
        return self.engine.config.model.model_dump()

    def section_after_growth(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The model section after growth. `ConfigError` when this model cannot grow so."""
        raise ConfigError(f"a {self.config.kind} cannot grow: start a new run with {', '.join(changes)} as you want")

    def grow(self, section: Mapping[str, Any]) -> None:
        """Make the model larger, its outputs and the optimizer's moments kept."""
        self.section_after_growth(section)  # which refuses it

    def resize(self, section: Mapping[str, Any]) -> None:
        """Take the model's size from a checkpoint that is about to be loaded; empty: from before there was growth."""
        del section

    @abstractmethod
    def runner(self, writer: RunWriter) -> Runner:
        """The probes of the run."""

    @abstractmethod
    def facts(self, controls: Mapping[str, Any], planned_lr_sum: float) -> Facts:
        """What the detectors know before the first step."""

    @abstractmethod
    def term_weights(self, step: int, controls: Mapping[str, Any]) -> Mapping[str, float]:
        """Effective weight of each term at a step."""

    @abstractmethod
    def data_measurements(self, controls: Mapping[str, Any]) -> dict[str, float]:
        """Measurements of the data alone, as they are trained on: at step 0, and when a control of the data changes."""

    @abstractmethod
    def describe(self, run_dir: Path) -> dict[str, Any]:
        """Write the family's files into the run's folder, once, and return what is worth knowing, as meta keys."""

    @abstractmethod
    def timeline(self, controls: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Prompts and settings of the samples that are taken at a cadence."""

    def copied(self, sample: Generation) -> dict[str, float]:
        """Series, by name, of what a timeline sample has in common with the training data; the largest of a step's
        samples counts.
        """
        del sample
        return {}

    @abstractmethod
    def heard(self, stats: Mapping[str, Any]) -> dict[str, float]:
        """Series, by name, that the statistics of a timeline sample give."""

    @abstractmethod
    def compare_samples(self, samples: Sequence[Generation]) -> dict[str, float]:
        """Series, by name, of how all timeline samples of a step agree with the model that is trained."""
