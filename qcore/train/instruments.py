"""The probes of a run: what each measures on the live model, and what it keeps.

A probe reads the step's own outputs, detached, or calls the model on a few rows of its batch; it returns scalars by
series name and may write arrays. Probes never change the model: a jitter is taken back bit for bit, gradients of a
probe are its own. Everything is measured once before the first update, so that a fault speaks before it has done
anything. A probe that throws is switched off, with its traceback in the log, and training goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qcore.data import Batch
from qcore.diagnostics import (
    batch_dependence,
    causality_probe,
    coherence_perplexity,
    context_statistics,
    hidden_geometry,
    interference_statistics,
    local_coherence,
    phase_statistics,
    real_axis_share,
    shift_check,
    sign_tests,
    strict_loss,
    term_gradients,
    token_statistics,
    weight_statistics,
)
from qcore.models import ModelOutput
from qcore.objectives import Derived, TermInputs, term_weights
from qcore.store import RunWriter
from qcore.train.engine import Engine, StepResult
from qcore.train.probes import ProbeScheduler

ROWS = 2
KERNEL_TOKENS = 48
JITTER = 0.02
_PHASE_TABLE = "encoding.semantic.weight"


@dataclass(frozen=True)
class Reading:
    """One step as the probes see it. result.output and batch are those of the last micro-batch, detached."""

    step: int
    result: StepResult
    controls: Mapping[str, Any]

    @property
    def rows(self) -> Batch:
        """The first rows of the batch."""
        return Batch(*(value[:ROWS] for value in vars(self.result.batch).values()))

    @property
    def row_output(self) -> ModelOutput:
        """The output at those rows."""
        output, rows = self.result.output, slice(0, ROWS)
        phases = output.phases and tuple(phase[rows] for phase in output.phases)
        state = None if output.state_BTP is None else output.state_BTP[rows]
        return ModelOutput(output.logits_BTV[rows], output.hidden_BTD[rows], state, phases)


@dataclass(frozen=True)
class Probe:
    """name: of its cost series · every: control that asks for its cadence · measure: returns scalars by series name."""

    name: str
    every: str
    measure: Callable[[Reading], dict[str, float]]


class Instruments:
    """All probes of one run, run when they are due and within the budget."""

    def __init__(self, engine: Engine, writer: RunWriter) -> None:
        self.scheduler = ProbeScheduler()
        self._engine = engine
        self._writer = writer
        self._disabled: dict[str, str] = {}
        tokenizer = engine.dataset.tokenizer
        self._special_ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")}
        self._probes = [
            Probe("tokens", "tokens_every", self._tokens),
            Probe("terms", "phase_every", self._terms),
            Probe("phase", "phase_every", self._phase),
            Probe("pull", "phase_every", self._pull),
            Probe("gradients", "gradients_every", self._gradients),
            Probe("weights", "gradients_every", self._weights),
            Probe("causality", "checks_every", self._causality),
            Probe("batch", "checks_every", self._batch),
            Probe("strict", "checks_every", self._strict),
            Probe("signs", "checks_every", self._signs),
            Probe("accumulation", "checks_every", self._accumulation),
            Probe("kernels", "kernels_every", self._kernels),
        ]
        names = [name.rpartition(".")[0] or "(model)" for name, _ in engine.model.named_parameters()]
        writer.set_meta("term_names", [term.name for term in engine.terms])
        writer.set_meta("module_names", list(dict.fromkeys(names)))
        writer.set_meta("disabled_probes", {})

    def begin(self, reading: Reading) -> dict[str, float]:
        """Scalars of every probe, before the first update; what they cost here is not part of the budget."""
        if not reading.controls["budget_percent"]:
            return {}
        started = time.perf_counter()
        found: dict[str, float] = {}
        for probe in self._probes:
            self.scheduler.due(probe.name, 0, int(reading.controls[probe.every]), reading.controls["budget_percent"])
            found |= self._run(probe, reading)
        return found | {"cost/before_training_ms": (time.perf_counter() - started) * 1e3}

    def measure(self, reading: Reading) -> dict[str, float]:
        """Scalars of every probe that is due at this step."""
        budget = float(reading.controls["budget_percent"])
        found: dict[str, float] = {}
        for probe in self._probes:
            every = int(reading.controls[probe.every])
            if probe.name not in self._disabled and self.scheduler.due(probe.name, reading.step, every, budget):
                found |= self._run(probe, reading)
        return found

    def _run(self, probe: Probe, reading: Reading) -> dict[str, float]:
        try:
            with self.scheduler.measured(probe.name):
                return probe.measure(reading)
        except Exception as error:  # noqa: BLE001 - a diagnostic must never end a training run; the log keeps all of it
            self._disabled[probe.name] = f"{type(error).__name__}: {error}"
            self.scheduler.forget(probe.name)
            self._writer.set_meta("disabled_probes", self._disabled)
            self._writer.add_log(
                reading.step, "error", f"the probe {probe.name!r} is switched off:\n{traceback.format_exc()}"
            )
            return {}

    # on the step's own outputs

    def _tokens(self, reading: Reading) -> dict[str, float]:
        output, batch = reading.result.output, reading.result.batch
        statistics = token_statistics(
            output.logits_BTV,
            batch.targets_BT,
            batch.mask_BT,
            eos_id=self._engine.dataset.tokenizer.eos_id,
            special_ids=self._special_ids,
        )
        self._writer.log_arrays(reading.step, "tokens", statistics.arrays())
        return {
            **statistics.scalars(),
            **context_statistics(output.logits_BTV, batch.mask_BT).scalars(),
            **shift_check(output.logits_BTV, batch.inputs_BT, batch.targets_BT, batch.mask_BT).scalars(),
        }

    def _terms(self, reading: Reading) -> dict[str, float]:
        measured = self._engine.measure_terms(reading.result, reading.controls)
        return {f"term/{name}": value for name, value in measured.items() if name not in reading.result.terms}

    def _phase(self, reading: Reading) -> dict[str, float]:
        """Geometry of the hidden states, and the phases of a model that has them."""
        output, mask_BT = reading.row_output, reading.rows.mask_BT
        geometry = hidden_geometry(reading.result.output.hidden_BTD, reading.result.batch.mask_BT)
        self._writer.log_arrays(reading.step, "spectrum", geometry.arrays())
        found = geometry.scalars()
        if output.phases is None:
            return found
        heads = self._engine.config.model.heads
        statistics = phase_statistics(output.phases, mask_BT, heads, output.state_BTP, output.hidden_BTD)
        self._writer.log_arrays(reading.step, "phase", statistics.arrays())
        seen = self._engine.term_inputs(output, reading.rows).phases
        if seen is not None:
            found["phase/real_axis_share"] = real_axis_share(seen)
        coherence_BT = local_coherence(output.phases[-1])
        found |= coherence_perplexity(output.logits_BTV, reading.rows.targets_BT, mask_BT, coherence_BT).scalars()
        return found | statistics.scalars()

    # with gradients of their own

    def _pull(self, reading: Reading) -> dict[str, float]:
        """Gradients of the language terms at the last hidden state; phase terms do not act through it."""
        weights = term_weights(reading.controls)
        active = [term for term in self._engine.terms if weights[term.name] != 0 and not term.needs_phases]
        if not active:
            return {}
        output = reading.row_output
        hidden = output.hidden_BTD.float().clone().requires_grad_()
        seen = ModelOutput(self._engine.model.read_out(hidden), hidden)
        derived = Derived(self._engine.term_inputs(seen, reading.rows))
        parts = {term.name: term.fn(derived, reading.controls) for term in active}
        gradients = term_gradients(parts, [hidden], weights)
        self._writer.log_arrays(reading.step, "hidden", gradients.arrays([term.name for term in self._engine.terms]))
        return {f"hidden/{name.removeprefix('grad/')}": value for name, value in gradients.scalars().items()}

    def _gradients(self, reading: Reading) -> dict[str, float]:
        """Gradients of every weighted term over all parameters."""
        total = self._engine.graph(reading.rows, reading.controls)
        parameters = [parameter for parameter in self._engine.model.parameters() if parameter.requires_grad]
        gradients = term_gradients(total.parts, parameters, term_weights(reading.controls))
        names = [term.name for term in self._engine.terms]
        self._writer.log_arrays(reading.step, "gradients", gradients.arrays(names))
        values = {f"grad/value/{name}": float(part.detach()) for name, part in total.parts.items()}
        return gradients.scalars() | values

    def _weights(self, reading: Reading) -> dict[str, float]:
        """From the gradients that the step left behind; before the first update, from a backward pass of its own."""
        named = [(name, parameter) for name, parameter in self._engine.model.named_parameters()]
        tables = {name: reading.result.batch.inputs_BT for name, _ in named if name == _PHASE_TABLE}
        if reading.step == 0:
            gradients = self._engine.gradients(reading.result.batch, reading.controls)
            statistics = weight_statistics(named, gradients=gradients, tables=tables)
        else:
            before = self._engine.before_update(reading.result.learning_rate)
            statistics = weight_statistics(named, before, tables=tables)
        self._writer.log_arrays(reading.step, "modules", statistics.arrays())
        return statistics.scalars()

    def _accumulation(self, reading: Reading) -> dict[str, float]:
        if self._engine.config.optim.accumulation == 1:
            return {}
        error = self._engine.accumulation_error(reading.step + 1, reading.controls)
        return {} if math.isnan(error) else {"accumulation/error": error}

    def _signs(self, reading: Reading) -> dict[str, float]:
        """Each phase term against the coherence that it is named for: all before training, then the weighted ones."""
        output, batch = reading.row_output, reading.rows
        weights = term_weights(reading.controls)
        active = [
            term for term in self._engine.terms if term.needs_phases and (reading.step == 0 or weights[term.name])
        ]
        if output.phases is None or not active:
            return {}
        inputs = self._engine.term_inputs(output, batch)

        def of_phases(term: Any) -> Callable[..., Tensor]:
            return lambda phases: term.fn(Derived(_with_phases(inputs, phases)), reading.controls)

        tests = sign_tests({term.name: of_phases(term) for term in active}, output.phases, batch.mask_BT)
        return tests.scalars()

    # by calling the model

    def _causality(self, reading: Reading) -> dict[str, float]:
        with jittered(self._engine.model, reading.step):
            probe = causality_probe(
                self._engine.logits, reading.rows.inputs_BT, seed=reading.step, vocab_size=self._vocabulary
            )
        if arrays := probe.arrays():
            self._writer.log_arrays(reading.step, "causality", arrays)
        return probe.scalars()

    def _batch(self, reading: Reading) -> dict[str, float]:
        inputs_BT = reading.result.batch.inputs_BT
        probe = batch_dependence(
            self._engine.logits, inputs_BT, seed=reading.step, vocab_size=self._vocabulary, rows=ROWS
        )
        return probe.scalars()

    def _strict(self, reading: Reading) -> dict[str, float]:
        batch = reading.result.batch
        probe = strict_loss(
            self._engine.logits, batch.inputs_BT, batch.targets_BT, batch.mask_BT, 4, seed=reading.step, rows=4
        )
        return probe.scalars()

    def _kernels(self, reading: Reading) -> dict[str, float]:
        """Always the same row, so that two steps can be compared."""
        tokens_BT = self._engine.probe_row(KERNEL_TOKENS)
        kernels = self._engine.model.mixing(tokens_BT)
        statistics = interference_statistics(kernels, tokens_BT=tokens_BT)
        arrays = statistics.arrays()
        arrays["kernels"] = arrays["kernels"].astype("float16")  # a picture: half the bytes, 3 digits
        self._writer.log_arrays(reading.step, "interference", arrays)
        return statistics.scalars()

    @property
    def _vocabulary(self) -> int:
        return self._engine.model.vocab_size


@contextlib.contextmanager
def jittered(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Parameters moved by N(0, 0.02²), because a gate that starts at zero hides a leak; put back bit for bit."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator) * JITTER
                parameter.add_(noise.to(parameter.device, parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def _with_phases(inputs: TermInputs, phases: tuple[Tensor, ...]) -> TermInputs:
    return TermInputs(**{**vars(inputs), "phases": phases})
