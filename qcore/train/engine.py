"""One optimizer step, one evaluation: model, data, objective and optimizer, without threads, files or clocks.

Randomness is a pure function of (seed, step): weights come from the seed, batches from (seed, position), dropout from
(seed, step). So a run resumed from weights, moments and step repeats bit for bit. Gradient accumulation weighs each
micro-batch by its share of the real targets, which equals the big batch for every term that is a mean over tokens or
token-weighted over rows; the terms of the *mean prediction* (diversity, dominance) see one micro-batch at a time.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qcore.config import RunConfig
from qcore.data import Batch, Dataset
from qcore.models import ModelOutput, build_model
from qcore.objectives import TERMS, TermInputs, Total, measure_terms, nonfinite_parts, total_loss
from qcore.train.schedule import learning_rate

_RANDOM_LOCK = threading.Lock()
"""Held while torch's process-wide random state is seeded and used: two runs of one process must not share a stream."""
MEASURED_ROWS = 2


class NonFiniteError(FloatingPointError):
    """The loss or gradient of a step is NaN or infinite; the optimizer has not stepped. step: the update that
    failed.
    """

    def __init__(self, step: int, terms: list[str], what: str) -> None:
        self.step, self.terms = step, terms
        super().__init__(
            f"{what} is not finite at step {step}: {', '.join(terms)}. The optimizer did not step; the weights are the "
            "last good ones. Lower the learning rate or the term's weight and resume, or go back to a checkpoint"
        )


@dataclass(frozen=True)
class StepResult:
    """What one update measured before it was made, and the last micro-batch for the probes (detached)."""

    loss: float
    terms: dict[str, float]
    grad_norm: float
    learning_rate: float
    tokens: int
    skipped: bool
    output: ModelOutput
    batch: Batch


class Engine:
    """Model, optimizer and data of one run on its device."""

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        self.config = config
        self.dataset = dataset
        self.device = resolve_device(config.optim.device)
        counts = torch.as_tensor(dataset.token_counts)
        with _RANDOM_LOCK:
            self.model = build_model(config.model, dataset.tokenizer.vocab_size, counts, seed=config.seed)
        self.model.to(self.device)
        self.optimizer = _make_optimizer(self.model, self.device)
        smoothed = counts.to(torch.float32).clamp(min=0)
        self.terms = TERMS
        self.unigram_V = (smoothed / smoothed.sum().clamp(min=1)).to(self.device)
        precision = config.optim.precision if self.device.type == "cuda" else "fp32"
        self._autocast_type = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.precision = precision
        self._validation: list[Batch] | None = None

    def step(self, step: int, controls: Mapping[str, Any]) -> StepResult:
        """Make update `step` (1-based). Raises `NonFiniteError` before the optimizer steps when loss or gradient is
        not finite.
        """
        rate = learning_rate(step, controls)
        self._set_optimizer(rate, controls)
        summed, total_count, output, batch = self._accumulate(step, controls)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), controls["clip_norm"] or float("inf"))
        values = torch.stack([value.float() for value in summed.values()] + [norm.float()]).tolist()
        grad_norm = values.pop()
        skipped = self._update(step, grad_norm)
        terms = dict(zip(summed, values, strict=True))
        return StepResult(terms.pop("loss"), terms, grad_norm, rate, total_count, skipped, _detached(output), batch)

    def _accumulate(self, step: int, controls: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, ModelOutput, Batch]:
        """Gradients of all micro-batches of an update; the summed parts, real targets, last output and batch."""
        self.model.train()
        batches = self._micro_batches(step)
        counts = [int(batch.mask_BT.sum()) for batch in batches]
        total_count = max(1, sum(counts))
        self.optimizer.zero_grad(set_to_none=True)
        summed: dict[str, Tensor] = {}
        with self._dropout_stream(step):
            for batch, count in zip(batches, counts, strict=True):
                share = count / total_count
                with self._autocast():
                    output = self.model(batch.inputs_BT, with_phases=True)
                total = total_loss(self.term_inputs(output, batch), controls, self.terms)
                self._check_finite(step, total)
                self.scaler.scale(total.loss * share if len(batches) > 1 else total.loss).backward()
                for name, part in (*total.parts.items(), ("loss", total.loss)):
                    value = part.detach() * share if len(batches) > 1 else part.detach()
                    summed[name] = summed[name] + value if name in summed else value
        return summed, total_count, output, batch

    def first_batches(self, count: int) -> list[Batch]:
        """The first micro-batch of each of the first updates."""
        return [self._micro_batches(step)[0] for step in range(1, count + 1)]

    def preview(self, controls: Mapping[str, Any]) -> StepResult:
        """The first update's first micro-batch, seen without gradient and without an update: what step 0 measures."""
        batch = self._micro_batches(1)[0]
        self.model.eval()
        with torch.no_grad():
            with self._autocast():
                output = self.model(batch.inputs_BT, with_phases=True)
            total = total_loss(self.term_inputs(output, batch), controls, self.terms)
        terms = {name: float(part) for name, part in total.parts.items()}
        count = int(batch.mask_BT.sum())
        return StepResult(float(total.loss), terms, math.nan, learning_rate(1, controls), count, False, output, batch)

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits of a window of tokens, float32, without gradient and without dropout: what probes call."""
        self.model.eval()
        with torch.no_grad(), self._autocast():
            return self.model(tokens_BT).logits_BTV.float()

    def graph(self, batch: Batch, controls: Mapping[str, Any]) -> Total:
        """Terms of some rows with their graph, in full precision and without dropout, for gradients of single terms."""
        self.model.eval()
        output = self.model(batch.inputs_BT, with_phases=True)
        return total_loss(self.term_inputs(output, batch), controls, self.terms)

    def gradients(self, batch: Batch, controls: Mapping[str, Any]) -> dict[str, Tensor | None]:
        """Gradient of the weighted loss of a batch by parameter name; `.grad` is not touched."""
        total = self.graph(batch, controls)
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        if not total.loss.requires_grad:
            return dict.fromkeys(names)
        return dict(zip(names, torch.autograd.grad(total.loss, parameters, allow_unused=True), strict=True))

    def before_update(self, rate: float) -> dict[str, Tensor]:
        """The parameters before the last update, from the optimizer's moments.

        AdamW: w' = w·(1 − lr·decay) − lr·m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ); exact up to rounding.
        """
        before = {}
        owners = {id(parameter): group for group in self.optimizer.param_groups for parameter in group["params"]}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                state, group = self.optimizer.state.get(parameter), owners[id(parameter)]
                if not state:
                    before[name] = parameter.detach().clone()
                    continue
                (beta1, beta2), t = group["betas"], float(state["step"])
                root = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_().add_(group["eps"])
                moved = (state["exp_avg"] / (1 - beta1**t)).div_(root).mul_(rate)
                before[name] = moved.add_(parameter).div_(1 - rate * group["weight_decay"])
        return before

    def probe_row(self, tokens: int) -> Tensor:
        """The start of the first held-out row, [1, ≤ tokens]: the same at every step."""
        return self._held_out()[0].inputs_BT[:1, :tokens]

    def accumulation_error(self, step: int, controls: Mapping[str, Any]) -> float:
        """‖g_accumulated − g_big‖ ÷ ‖g_big‖ of the cross-entropy of update `step`; NaN where it cannot be compared.

        The big batch is all micro-batches at once. Other terms are left out: those of the mean prediction rightly see
        one micro-batch at a time. Leaves the gradients cleared.
        """
        if self.config.optim.accumulation == 1 or self.config.model.dropout or self.scaler.is_enabled():
            return math.nan
        plain = {name: 0.0 if name.endswith("_weight") else value for name, value in controls.items()}
        plain |= {"ce_weight": 1.0, "label_smoothing": 0.0}
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._accumulate(step, plain)
        accumulated = [_flat(parameter.grad, parameter) for parameter in parameters]
        batches = self._micro_batches(step)
        whole = Batch(*(torch.cat(column) for column in zip(*(vars(batch).values() for batch in batches), strict=True)))
        total = self.graph(whole, plain)
        big = torch.autograd.grad(total.loss, parameters, allow_unused=True)
        self.optimizer.zero_grad(set_to_none=True)
        gradients = [_flat(gradient, parameter) for gradient, parameter in zip(big, parameters, strict=True)]
        difference = sum(float((a - b).square().sum()) for a, b in zip(accumulated, gradients, strict=True))
        return math.sqrt(difference / max(sum(float(b.square().sum()) for b in gradients), 1e-30))

    def measure_terms(self, result: StepResult, controls: Mapping[str, Any]) -> dict[str, float]:
        """Every term on the first rows (at most 2) of the step's last micro-batch, without gradient, whatever its
        weight.
        """
        output, batch, rows = result.output, result.batch, slice(0, MEASURED_ROWS)
        phases = output.phases and tuple(phase[rows] for phase in output.phases)
        state = None if output.state_BTP is None else output.state_BTP[rows]
        part = ModelOutput(output.logits_BTV[rows], output.hidden_BTD[rows], state, phases)
        inputs = self.term_inputs(part, Batch(*(value[rows] for value in vars(batch).values())))
        measured = measure_terms(inputs, controls, self.terms)
        return dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True))

    def evaluate(self) -> float:
        """Teacher-forced cross-entropy on the fixed held-out batches, nats per real target, token-weighted."""
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

    def _micro_batches(self, step: int) -> list[Batch]:
        optim, count = self.config.optim, self.config.optim.accumulation
        positions = range((step - 1) * count, step * count)
        return [
            self._move(self.dataset.train_batch(self.config.seed, position, optim.batch_size)) for position in positions
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
        )

    def _check_finite(self, step: int, total: Total) -> None:
        if not torch.isfinite(total.loss.detach()):
            raise NonFiniteError(step, nonfinite_parts(total), "the loss")

    def _update(self, step: int, grad_norm: float) -> bool:
        if not math.isfinite(grad_norm) and not self.scaler.is_enabled():
            broken = [name for name, parameter in self.model.named_parameters() if _broken(parameter.grad)]
            self.optimizer.zero_grad(set_to_none=True)
            shown = broken[:5] + ([f"and {len(broken) - 5} more"] if len(broken) > 5 else [])
            raise NonFiniteError(step, shown or ["the global norm overflowed"], "the gradient")
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.is_enabled() and self.scaler.get_scale() < scale

    def _set_optimizer(self, rate: float, controls: Mapping[str, Any]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["betas"] = (controls["beta1"], controls["beta2"])
            group["weight_decay"] = controls["weight_decay"] if group["decayed"] else 0.0

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast_type is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._autocast_type)

    @contextlib.contextmanager
    def _dropout_stream(self, step: int) -> Iterator[None]:
        if not self.config.model.dropout:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with _RANDOM_LOCK, torch.random.fork_rng(devices):
            torch.manual_seed((self.config.seed << 32) + step)
            yield


def build_engine(config: RunConfig, dataset: Dataset) -> Engine:
    """The engine of a run, with its fault planted if it asks for one."""
    engine = Engine(config, dataset)
    if config.fault:
        from qcore.faults import plant  # a resource of demonstrations and tests: healthy runs never load it

        plant(config.fault, engine)
    return engine


def resolve_device(name: str) -> torch.device:
    """`auto` → CUDA when there is one, else the CPU. Raises `ValueError` for `cuda` without a CUDA device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is refused: torch finds no CUDA device here; use auto or cpu")
    return torch.device(name)


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient


def _broken(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool(torch.isfinite(gradient).all())


def _detached(output: ModelOutput) -> ModelOutput:
    phases = output.phases and tuple(phase.detach() for phase in output.phases)
    state = None if output.state_BTP is None else output.state_BTP.detach()
    return ModelOutput(output.logits_BTV.detach(), output.hidden_BTD.detach(), state, phases)


def _make_optimizer(model: nn.Module, device: torch.device) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "decayed": True}, {"params": vectors, "decayed": False}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, eps=1e-8, fused=True)
