"""One optimizer step and one evaluation of a language model, without threads, files or clocks.

Gradient accumulation weighs each micro-batch by its share of the real targets, which equals the big batch for every
term that is a mean over tokens or token-weighted over rows; the terms of the *mean prediction* (diversity, dominance)
see one micro-batch at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from qcore.automation.learning_rate import learning_rate
from qcore.config import TextRunConfig
from qcore.data import Batch, Dataset, batch_for_run
from qcore.diagnostics import AccumulationWeights, accumulation_weights
from qcore.models import LanguageModel, ModelOutput, build_model
from qcore.objectives import TERMS, TermInputs, Total, measure_terms, total_loss
from qcore.probes import catalog
from qcore.sampling import SampledToken
from qcore.train.engine import RANDOM_LOCK, BaseEngine, StepResult, compile_lazily, make_optimizer

MEASURED_ROWS = 2


@dataclass(frozen=True)
class TextResult(StepResult):
    """A step of a language model, with the last micro-batch and its output for the probes (detached)."""

    output: ModelOutput
    batch: Batch

    @property
    def rows(self) -> Batch:
        """The first rows of the batch."""
        return Batch(*(value[:MEASURED_ROWS] for value in vars(self.batch).values()))

    @property
    def row_output(self) -> ModelOutput:
        """The output at those rows."""
        return _map_tensors(self.output, lambda value: value[:MEASURED_ROWS])


class Engine(BaseEngine):
    """Model, optimizer and data of one language run on its device."""

    config: TextRunConfig
    model: LanguageModel
    unit = "tokens"
    eval_name = catalog.EVAL_CE
    speed_name = catalog.TRAIN_TOKENS_PER_SECOND
    compiles = True

    def __init__(self, config: TextRunConfig, dataset: Dataset) -> None:
        super().__init__(config)
        self.dataset = dataset
        self.counts = counts = torch.as_tensor(dataset.token_counts)
        with RANDOM_LOCK:
            self.model = build_model(config.model, dataset.tokenizer.vocab_size, counts, seed=config.seed)
        self.model.to(self.device)
        self.saved = self.model
        self.optimizer = make_optimizer(self.model)
        smoothed = counts.to(torch.float32).clamp(min=0)
        self.terms = TERMS
        self.unigram_V = (smoothed / smoothed.sum().clamp(min=1)).to(self.device)
        self._validation: list[Batch] | None = None

    def replace_model(self, config: TextRunConfig, model: LanguageModel, optimizer: torch.optim.AdamW) -> None:
        """Go on with a model of another size, on the same data."""
        self.config, self.optimizer = config, optimizer
        self.model = self.saved = model
        self.__dict__.pop("_parameters", None)
        self.__dict__.pop("_trained", None)

    def step(self, step: int, controls: Mapping[str, Any]) -> TextResult:
        rate = self._prepare(step, controls)
        summed, total_count, output, batch = self._accumulate(step, controls)
        self.model.before_update(controls)
        terms, grad_norm, skipped = self._finish(step, controls, summed)
        self.model.after_update(output.hidden_BTD.detach(), batch.targets_BT, batch.mask_BT, controls)
        return TextResult(terms.pop("loss"), terms, grad_norm, rate, total_count, skipped, _detached(output), batch)

    def _accumulate(self, step: int, controls: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, ModelOutput, Batch]:
        """Gradients of all micro-batches of an update; the summed parts, real targets, last output and batch."""
        self._to_training()
        batches = self._micro_batches(step, controls)
        counts = [int(batch.mask_BT.sum()) for batch in batches]
        total_count = max(1, sum(counts))
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, Tensor] = {}
        with self._dropout_stream(step, float(self.model.needs_randomness)):
            for batch, count in zip(batches, counts, strict=True):
                with self._autocast():
                    output = self._trained(batch.inputs_BT, with_phases=True)
                total = total_loss(self.term_inputs(output, batch), controls, self.terms)
                self._backward(step, total, count / total_count if len(batches) > 1 else 1.0, summed)
        return summed, total_count, output, batch

    @cached_property
    def _trained(self) -> Callable[..., ModelOutput]:
        """The forward pass of a training step; compiled at the first one, when any fault has been planted."""
        return compile_lazily(self.model) if self.config.optim.compile else self.model

    def first_batches(self, count: int, controls: Mapping[str, Any]) -> list[Batch]:
        """The first micro-batch of each of the first updates."""
        return [self._micro_batches(step, controls)[0] for step in range(1, count + 1)]

    def preview(self, controls: Mapping[str, Any]) -> TextResult:
        batch = self._micro_batches(1, controls)[0]
        self.model.eval()
        with torch.no_grad():
            with self._autocast():
                output = self.model(batch.inputs_BT, with_phases=True)
            total = total_loss(self.term_inputs(output, batch), controls, self.terms)
        terms = {name: float(part) for name, part in total.parts.items()}
        count = int(batch.mask_BT.sum())
        return TextResult(float(total.loss), terms, math.nan, learning_rate(1, controls), count, False, output, batch)

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits of a window of tokens, float32, without gradient and without dropout: what probes call."""
        self.model.eval()
        with torch.no_grad(), self._autocast():
            return self.model(tokens_BT).logits_BTV.float()

    def draw_text(
        self,
        draw: Callable[..., Iterator[SampledToken]],
        model: LanguageModel,
        prompt_ids: list[int],
        settings: Any,
        **more: Any,
    ) -> Iterator[SampledToken]:
        """Tokens after a prompt, one by one.

        Args:
            draw: the sampler, which is given the rest.
        """
        return draw(model, prompt_ids, settings, **more)

    def logits_as_generated(self, tokens_BT: Tensor) -> Tensor:
        """The same without autocast, as text is generated."""
        self.model.eval()
        with torch.no_grad():
            return self.model(tokens_BT.to(self.device)).logits_BTV

    def stepped_logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V] of the same tokens, fed one by one through the step that generates."""
        self.model.eval()
        tokens_BT = tokens_BT.to(self.device)
        state, found = self.model.start(len(tokens_BT)), []
        with torch.no_grad():
            for tokens_B in tokens_BT.unbind(1):
                output, state = self.model.step(tokens_B, state)
                found.append(output.logits_BTV[:, -1])
        return torch.stack(found, 1)

    def graph(self, result: TextResult, controls: Mapping[str, Any]) -> Total:
        return self.graph_of(result.rows, controls)

    def gradients(self, result: TextResult, controls: Mapping[str, Any]) -> dict[str, Tensor | None]:
        return self._gradients_of(self.graph_of(result.batch, controls))

    def graph_of(self, batch: Batch, controls: Mapping[str, Any]) -> Total:
        """Terms of a batch with their graph, in full precision and without dropout."""
        self.model.eval()
        output = self.model(batch.inputs_BT, with_phases=True)
        return total_loss(self.term_inputs(output, batch), controls, self.terms)

    def probe_row(self, tokens: int) -> Tensor:
        """The start of the first held-out row, [1, ≤ tokens]: the same at every step."""
        return self._held_out()[0].inputs_BT[:1, :tokens]

    def check_accumulation(
        self, step: int, controls: Mapping[str, Any]
    ) -> tuple[float, Callable[[], AccumulationWeights]]:
        """‖g_accumulated − g_big‖ ÷ ‖g_big‖ of the cross-entropy of update `step`, NaN where it cannot be compared, and
        what the accumulated gradient is made of, measured when it is asked for.

        The big batch is all micro-batches at once. Other terms are left out: those of the mean prediction rightly see
        one micro-batch at a time. Leaves the gradients cleared.
        """
        if self.config.optim.accumulation == 1 or self.model.needs_randomness or self.scaler.is_enabled():
            return math.nan, lambda: AccumulationWeights((), (), math.nan)
        plain = {name: 0.0 if name.endswith("_weight") else value for name, value in controls.items()}
        plain |= {"ce_weight": 1.0, "label_smoothing": 0.0}
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._accumulate(step, plain)
        accumulated = [_flat(parameter.grad, parameter) for parameter in parameters]
        batches = self._micro_batches(step, controls)
        whole = Batch(*(torch.cat(column) for column in zip(*(vars(batch).values() for batch in batches), strict=True)))
        gradients = self._plain_gradients(whole, parameters, plain)
        self.optimizer.zero_grad(set_to_none=True)
        difference = sum(float((a - b).square().sum()) for a, b in zip(accumulated, gradients, strict=True))
        error = math.sqrt(difference / max(sum(float(b.square().sum()) for b in gradients), 1e-30))
        counts = [int(batch.mask_BT.sum()) for batch in batches]

        def weights() -> AccumulationWeights:
            micro = [self._plain_gradients(batch, parameters, plain) for batch in batches]
            return accumulation_weights(accumulated, micro, counts)

        return error, weights

    def _plain_gradients(
        self, batch: Batch, parameters: list[nn.Parameter], controls: Mapping[str, Any]
    ) -> list[Tensor]:
        total = self.graph_of(batch, controls)
        found = torch.autograd.grad(total.loss, parameters, allow_unused=True)
        return [_flat(gradient, parameter) for gradient, parameter in zip(found, parameters, strict=True)]

    def measure_terms(self, result: TextResult, controls: Mapping[str, Any]) -> dict[str, float]:
        """Every term on the first rows (at most 2) of the step's last micro-batch, without gradient, whatever its
        weight.
        """
        measured = measure_terms(self.term_inputs(result.row_output, result.rows), controls, self.terms)
        return dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True))

    def evaluate(self, controls: Mapping[str, Any] | None = None) -> float:
        """Teacher-forced cross-entropy on the fixed held-out batches, nats per real target, token-weighted."""
        del controls
        batches = self._held_out()
        self.model.eval()
        summed = torch.zeros((), dtype=torch.float64, device=self.device)
        count = 0
        with torch.no_grad():
            for batch in batches:
                with self._autocast():
                    logits_BTV = self.model(batch.inputs_BT).logits_BTV
                losses_N = nn.functional.cross_entropy(
                    logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten(), reduction="none"
                )
                summed += losses_N.double()[batch.mask_BT.flatten()].sum()
                count += int(batch.mask_BT.sum())
        return float(summed) / max(1, count)

    def _held_out(self) -> list[Batch]:
        if self._validation is None:
            probes, optim = self.config.probes, self.config.optim
            batches = self.dataset.validation_batches(optim.batch_size, probes.eval_batches)
            self._validation = [self._move(batch) for batch in batches]
        return self._validation

    def _micro_batches(self, step: int, controls: Mapping[str, Any]) -> list[Batch]:
        """What an update trains on; held-out batches are always masked and shifted as they should be."""
        optim, count = self.config.optim, self.config.optim.accumulation
        positions = range((step - 1) * count, step * count)
        tokenizer, shift, masked = self.dataset.tokenizer, int(controls["label_shift"]), bool(controls["mask_padding"])
        return [
            self._move(
                batch_for_run(
                    self.dataset.train_batch(self.config.drawn_seed, position, optim.batch_size),
                    label_shift=shift,
                    mask_padding=masked,
                    pad_id=tokenizer.pad_id,
                    eos_id=tokenizer.eos_id,
                )
            )
            for position in positions
        ]

    def _move(self, batch: Batch) -> Batch:
        if self.device.type == "cpu":
            return batch
        return Batch(*(value.to(self.device, non_blocking=True) for value in vars(batch).values()))

    def term_inputs(self, output: ModelOutput, batch: Batch) -> TermInputs:
        """What the loss terms see of an output."""
        return TermInputs(
            logits_BTV=output.logits_BTV,
            targets_BT=batch.targets_BT,
            mask_BT=batch.mask_BT,
            inputs_BT=batch.inputs_BT,
            hidden_BTD=output.hidden_BTD,
            phases=output.phases,
            state_BTP=output.state_BTP,
            unigram_V=self.unigram_V,
            eos_id=self.dataset.tokenizer.eos_id,
            concepts_BTK=output.concepts_BTK,
            expected_concepts_BTK=output.expected_concepts_BTK,
            routers=output.routers,
            experts_active=getattr(self.config.model, "experts_active", 1),
        )


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient


def _detached(output: ModelOutput) -> ModelOutput:
    return _map_tensors(output, Tensor.detach)


def _map_tensors(output: ModelOutput, change: Callable[[Tensor], Tensor]) -> ModelOutput:
    """The output with every tensor of it changed."""

    def change_value(value: Tensor | tuple[Tensor, ...] | None) -> Any:
        return tuple(map(change, value)) if isinstance(value, tuple) else value if value is None else change(value)

    return ModelOutput(**{name: change_value(value) for name, value in vars(output).items()})
