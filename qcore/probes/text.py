"""The probes of a language run: what each measures on the live model, and what it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from qcore.data import translation_pairs
from qcore.diagnostics import (
    batch_dependence,
    causality_probe,
    coherence_perplexity,
    concept_alignment,
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
)
from qcore.models import ModelOutput
from qcore.models.phase.concepts import ConceptLayer
from qcore.objectives import Derived, TermInputs, term_weights
from qcore.train.instruments import Instruments, Probe, Reading, jittered
from qcore.train.text_engine import MEASURED_ROWS, Engine

KERNEL_TOKENS = 48
_TABLES = {"encoding.semantic.weight", "token.weight", "angle.weight", "radius.weight"}
"""Tables of which a batch uses the rows of its own tokens only; a tied embedding is used whole by the head."""


class TextInstruments(Instruments):
    """All probes of one language run."""

    _engine: Engine

    def _make_probes(self) -> list[Probe]:
        tokenizer = self._engine.dataset.tokenizer
        self._special_ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")}
        self._pairs = translation_pairs(tokenizer) if self._engine.config.data.source == "bilingual" else ()
        return [
            Probe("tokens", "tokens_every", self._tokens),
            Probe("terms", "phase_every", self._terms),
            Probe("phase", "phase_every", self._phase),
            Probe("internals", "phase_every", self._internals),
            Probe("pull", "phase_every", self._pull),
            Probe("gradients", "gradients_every", self._gradients),
            Probe("weights", "gradients_every", self._weights),
            Probe("causality", "checks_every", self._causality),
            Probe("batch", "checks_every", self._batch),
            Probe("strict", "checks_every", self._strict),
            Probe("signs", "checks_every", self._signs),
            Probe("accumulation", "checks_every", self._accumulation),
            Probe("concepts", "checks_every", self._concepts),
            Probe("kernels", "kernels_every", self._kernels),
        ]

    def _weights_in_force(self, reading: Reading) -> Mapping[str, float]:
        return term_weights(reading.controls)

    def _looked_up(self, reading: Reading) -> dict[str, Tensor]:
        names = [name for name, _ in self._engine.model.named_parameters() if name in _TABLES]
        return dict.fromkeys(names, reading.result.batch.inputs_BT)

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
        output, mask_BT = reading.result.row_output, reading.result.rows.mask_BT
        geometry = hidden_geometry(reading.result.output.hidden_BTD, reading.result.batch.mask_BT)
        self._writer.log_arrays(reading.step, "spectrum", geometry.arrays())
        found = geometry.scalars()
        if output.phases is None:
            return found
        heads = self._engine.config.model.heads
        statistics = phase_statistics(output.phases, mask_BT, heads, output.state_BTP, output.hidden_BTD)
        self._writer.log_arrays(reading.step, "phase", statistics.arrays())
        seen = self._engine.term_inputs(output, reading.result.rows).phases
        if seen is not None:
            found["phase/real_axis_share"] = real_axis_share(seen)
        coherence_BT = local_coherence(output.phases[-1])
        found |= coherence_perplexity(
            output.logits_BTV, reading.result.rows.targets_BT, mask_BT, coherence_BT
        ).scalars()
        return found | statistics.scalars()

    def _internals(self, reading: Reading) -> dict[str, float]:
        """What the family shows of itself on the first rows."""
        model = self._engine.model
        model.eval()
        with torch.no_grad():
            internals = model.internals(reading.result.rows.inputs_BT)
        if internals.arrays:
            arrays = {name: value.float().cpu().numpy() for name, value in internals.arrays.items()}
            self._writer.log_arrays(reading.step, "internals", arrays)
        return internals.scalars

    def _concepts(self, reading: Reading) -> dict[str, float]:
        """Which concept each word of the training text has, and whether translations share theirs."""
        dataset = self._engine.dataset
        layer = next((part for part in self._engine.model.modules() if isinstance(part, ConceptLayer)), None)
        if layer is None:
            return {}
        with torch.no_grad():
            share_VK = layer.shares(torch.arange(self._vocabulary, device=self._engine.device)[None])[0].float().cpu()
        share_VK[torch.as_tensor(dataset.token_counts) == 0] = math.nan
        alignment = concept_alignment(share_VK, self._pairs)
        self._writer.log_arrays(reading.step, "concepts", alignment.arrays())
        return alignment.scalars()

    # with gradients of their own

    def _pull(self, reading: Reading) -> dict[str, float]:
        """Gradients of the language terms at the last hidden state; terms of phases and concepts do not act there."""
        weights = term_weights(reading.controls)
        active = [term for term in self._engine.terms if weights[term.name] != 0 and not term.needs]
        if not active:
            return {}
        output = reading.result.row_output
        hidden = output.hidden_BTD.float().clone().requires_grad_()
        seen = ModelOutput(self._engine.model.read_out(hidden), hidden)
        derived = Derived(self._engine.term_inputs(seen, reading.result.rows))
        parts = {term.name: term.fn(derived, reading.controls) for term in active}
        gradients = term_gradients(parts, [hidden], weights)
        self._writer.log_arrays(reading.step, "hidden", gradients.arrays([term.name for term in self._engine.terms]))
        return {f"hidden/{name.removeprefix('grad/')}": value for name, value in gradients.scalars().items()}

    def _accumulation(self, reading: Reading) -> dict[str, float]:
        if self._engine.config.optim.accumulation == 1:
            return {}
        error = self._engine.accumulation_error(reading.step + 1, reading.controls)
        return {} if math.isnan(error) else {"accumulation/error": error}

    def _signs(self, reading: Reading) -> dict[str, float]:
        """Each phase term against the coherence that it is named for: all before training, then the weighted ones."""
        output, batch = reading.result.row_output, reading.result.rows
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
                self._engine.logits, reading.result.rows.inputs_BT, seed=reading.step, vocab_size=self._vocabulary
            )
        if arrays := probe.arrays():
            self._writer.log_arrays(reading.step, "causality", arrays)
        return probe.scalars()

    def _batch(self, reading: Reading) -> dict[str, float]:
        inputs_BT = reading.result.batch.inputs_BT
        probe = batch_dependence(
            self._engine.logits, inputs_BT, seed=reading.step, vocab_size=self._vocabulary, rows=MEASURED_ROWS
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
        self._engine.model.eval()  # dropout would draw from a stream that no replay can repeat
        kernels = self._engine.model.mixing(tokens_BT)
        statistics = interference_statistics(kernels, tokens_BT=tokens_BT)
        arrays = statistics.arrays()
        arrays["kernels"] = arrays["kernels"].astype("float16")  # a picture: half the bytes, 3 digits
        self._writer.log_arrays(reading.step, "interference", arrays)
        return statistics.scalars()

    @property
    def _vocabulary(self) -> int:
        return self._engine.model.vocab_size


def _with_phases(inputs: TermInputs, phases: tuple[Tensor, ...]) -> TermInputs:
    return TermInputs(**{**vars(inputs), "phases": phases})
