"""O1–O10: the optimizer knows other weights, moves them otherwise than it says, or is given another gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qcore.data import Batch
from qcore.faults.patching import Plantable, change_batches, override, transformer_layers

_LARGE_EPS = 0.1
_FORGOTTEN_RATE = 1e-4
_KEPT_TARGETS = 6


def stale_groups(engine: Plantable) -> None:
    """O1: the optimizer was built before the blocks were replaced: it knows embedding and norms, and no block."""
    inside = {id(parameter) for layer in engine.model.layers for parameter in layer.parameters()}
    for group in engine.optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in inside]
    # as loops do that clear the model's gradients: those of the blocks do not add up
    override(engine.optimizer, "zero_grad", lambda self, set_to_none=True: engine.model.zero_grad(set_to_none))


def plain_head(engine: Plantable) -> None:
    """O2: when the vocabulary was resized the head became a tensor of its own that is no parameter."""
    transformer_layers(engine)
    model: Any = engine.model
    shape = model.embedding.weight.shape
    head_VD = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * shape[1] ** -0.5
    override(model, "read_out", lambda self, hidden_BTD: nn.functional.linear(hidden_BTD, head_VD.to(hidden_BTD)))


def frozen_blocks(engine: Plantable) -> None:
    """O3: the first half of the blocks was frozen for a warm-up, and never thawed."""
    layers = list(engine.model.layers)
    for layer in layers[: max(1, len(layers) // 2)]:
        layer.requires_grad_(False)


def restored_weights(engine: Plantable) -> None:
    """O4: the first block is loaded again after every step: what is trained is thrown away."""
    parameters = list(engine.model.layers[0].parameters())
    kept = [parameter.detach().clone() for parameter in parameters]

    def load_again(self: Plantable) -> None:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)

    _after_step(engine, load_again)


def rounded_weights(engine: Plantable) -> None:
    """O5: the weights are kept in bfloat16: after each step they have 7 digits of mantissa."""

    def round_all(self: Plantable) -> None:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(parameter.bfloat16().float())

    _after_step(engine, round_all)


def kept_gradients(engine: Plantable) -> None:
    """O6: `zero_grad` is forgotten: gradients add up over all steps."""
    override(engine.optimizer, "zero_grad", lambda self, set_to_none=True: None)


def large_eps(engine: Plantable) -> None:
    """O7: an epsilon far above the gradients, as one typed without its exponent."""
    for group in engine.optimizer.param_groups:
        group["eps"] = _LARGE_EPS


def forgotten_rate(engine: Plantable) -> None:
    """O8: the schedule is computed and logged, and the optimizer keeps a small rate of its own."""

    def prepare(self: Any, step: int, controls: Mapping[str, Any]) -> float:
        rate: float = type(self)._prepare(self, step, controls)
        for group in self.optimizer.param_groups:
            group["lr"] = min(rate, _FORGOTTEN_RATE * rate)
        return rate

    override(engine, "_prepare", prepare)


def summed_losses(engine: Plantable) -> None:
    """O9: the losses of the micro-batches are added up, and not divided by their number."""

    def accumulate(self: Any, step: int, controls: Mapping[str, Any]) -> Any:
        found = type(self)._accumulate(self, step, controls)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.config.optim.accumulation)
        return found

    override(engine, "_accumulate", accumulate)


def mean_of_means(engine: Plantable) -> None:
    """O10: rows of unlike length, and each micro-batch counts the same, however many targets it holds."""
    uneven_rows(engine)

    def backward(self: Any, step: int, total: Any, share: float, summed: dict[str, Tensor]) -> None:
        del share
        type(self)._backward(self, step, total, 1 / self.config.optim.accumulation, summed)

    override(engine, "_backward", backward)


def uneven_rows(engine: Plantable) -> None:
    """Every other row keeps a few targets only, as short answers do; no fault by itself."""

    def cut(batch: Batch) -> Batch:
        mask_BT = batch.mask_BT.clone()
        short_B = batch.inputs_BT.sum(1) % 2 == 0
        mask_BT[short_B, _KEPT_TARGETS:] = False
        return Batch(batch.inputs_BT, batch.targets_BT, mask_BT)

    change_batches(engine, cut)


def _after_step(engine: Plantable, change: Callable[[Plantable], None]) -> None:
    def step(self: Plantable, step: int, controls: Mapping[str, Any]) -> Any:
        result = type(self).step(self, step, controls)
        change(self)
        return result

    override(engine, "step", step)


PLANTERS = {
    "O1": stale_groups,
    "O2": plain_head,
    "O3": frozen_blocks,
    "O4": restored_weights,
    "O5": rounded_weights,
    "O6": kept_gradients,
    "O7": large_eps,
    "O8": forgotten_rate,
    "O9": summed_losses,
    "O10": mean_of_means,
}
