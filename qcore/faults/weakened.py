"""The bank's kinds of faults, made faint: a share of the rows, a few of the layers, a small part of the strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.data import Batch
from qcore.faults import phases
from qcore.faults.batches import leave_residuals_out
from qcore.faults.patching import Plantable, change_batches, override, replace_term, transformer_layers

Planter = Callable[[Plantable], None]
_LEAKED = 0.01
_MATES = 0.005
_IDLE = 0.18
_TENFOLD = 10.0
_NEWEST = 0.1
_TINY = 1e-5


def next_token(strength: float, *, training_only: bool = False) -> Planter:
    """The first layer adds a little of the next position to each."""

    def forward(self: Any, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = type(self).forward(self, x_BTD)
        if training_only and not self.training:
            return y_BTD
        return y_BTD + strength * functional.pad(x_BTD[:, 1:], (0, 0, 0, 1))

    return lambda engine: override(transformer_layers(engine)[0], "forward", forward)


def one_open_head(engine: Plantable) -> None:
    """One head of the second layer is one percent attention without a mask."""

    def forward(self: Any, x_BTD: Tensor) -> Tensor:
        query, key, value = self._project(x_BTD, 0)
        causal = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        whole = functional.scaled_dot_product_attention(query, key, value)
        mixed = (1 - _LEAKED) * causal[:, :1] + _LEAKED * whole[:, :1]
        merged: Tensor = self._merge(torch.cat([mixed, causal[:, 1:]], 1))
        return merged

    override(transformer_layers(engine)[1].attention, "forward", forward)


def batch_norm(engine: Plantable) -> None:
    """The first layer's output is normalised over batch and time; in evaluation by the running statistics."""
    layer = transformer_layers(engine)[0]
    width = engine.config.model.width
    # buffers, so that a checkpoint keeps them
    layer.register_buffer("running_mean_D", torch.zeros(width))
    layer.register_buffer("running_std_D", torch.ones(width))

    def forward(self: Any, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = type(self).forward(self, x_BTD)
        if not self.training:
            return (y_BTD - self.running_mean_D) / (self.running_std_D + _TINY)
        mean_D, std_D = y_BTD.mean((0, 1)), y_BTD.std((0, 1))
        with torch.no_grad():
            self.running_mean_D.lerp_(mean_D, _NEWEST)
            self.running_std_D.lerp_(std_D, _NEWEST)
        return (y_BTD - mean_D) / (std_D + _TINY)

    override(layer, "forward", forward)


def drawn_positions(batch: Batch, share: float) -> Tensor:
    """A share of the positions, drawn by the batch's own tokens, so that a replay draws the same."""
    generator = torch.Generator().manual_seed(int(batch.inputs_BT.sum()) % 2**31)
    return torch.rand(batch.inputs_BT.shape, generator=generator) < share


def answers_in_inputs(share: float) -> Planter:
    """A share of the inputs is the target itself."""

    def change(batch: Batch) -> Batch:
        shown_BT = drawn_positions(batch, share)
        return Batch(torch.where(shown_BT, batch.targets_BT, batch.inputs_BT), batch.targets_BT, batch.mask_BT)

    return lambda engine: change_batches(engine, change)


def unshifted(share: float) -> Planter:
    """A share of the targets is the input at its own place."""

    def change(batch: Batch) -> Batch:
        same_BT = drawn_positions(batch, share)
        return Batch(batch.inputs_BT, torch.where(same_BT, batch.inputs_BT, batch.targets_BT), batch.mask_BT)

    return lambda engine: change_batches(engine, change)


def other_rows(engine: Plantable) -> None:
    """Each row is asked for the targets of its neighbour."""
    change_batches(engine, lambda batch: Batch(batch.inputs_BT, batch.targets_BT.roll(1, 0), batch.mask_BT.roll(1, 0)))


def ends_as_padding(share: float) -> Planter:
    """The last share of each row is the end of the text, over and over."""

    def plant(engine: Plantable) -> None:
        eos = engine.dataset.tokenizer.eos_id

        def change(batch: Batch) -> Batch:
            count = max(2, int(batch.targets_BT.shape[1] * share))
            inputs_BT, targets_BT = batch.inputs_BT.clone(), batch.targets_BT.clone()
            targets_BT[:, -count:] = eos
            inputs_BT[:, -count + 1 :] = eos
            return Batch(inputs_BT, targets_BT, batch.mask_BT)

        change_batches(engine, change)

    return plant


def little_batch_mean(engine: Plantable) -> None:
    """A two-hundredth of the batch's mean is subtracted in the first block."""

    def feed_forward(self: Any, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = type(self)._feed_forward(self, x_BTD)
        return y_BTD - _MATES * y_BTD.mean(0, keepdim=True)

    override(engine.model.layers[0], "_feed_forward", feed_forward)


def tenfold_energy(engine: Plantable) -> None:
    """The energy is ten times what it should be, as when it is summed over something small."""
    replace_term(engine, "local_energy", lambda term: lambda derived, controls: _TENFOLD * term.fn(derived, controls))


def lose_first_micro_batch(engine: Plantable) -> None:
    """`zero_grad` once more after the first micro-batch of each update."""
    seen = 0

    def clear(model: nn.Module, args: object) -> None:
        nonlocal seen
        if not (model.training and torch.is_grad_enabled()):
            return
        fresh = all(parameter.grad is None for parameter in model.parameters())
        seen = 1 if fresh else seen + 1
        if seen == 2:
            engine.optimizer.zero_grad(set_to_none=True)

    engine.model.register_forward_pre_hook(clear)


def half_detached(engine: Plantable) -> None:
    """A detach in the middle: the first half of the blocks gets no gradient."""
    layers = list(engine.model.layers)
    layers[len(layers) // 2].register_forward_pre_hook(lambda module, args: tuple(value.detach() for value in args))


def _lower_half(engine: Plantable) -> list[nn.Parameter]:
    layers = list(engine.model.layers)
    return [parameter for layer in layers[: len(layers) // 2] for parameter in layer.parameters()]


def _freeze(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(False)


def half_frozen(engine: Plantable) -> None:
    """The first half of the blocks does not require a gradient."""
    _freeze(_lower_half(engine))


def half_without_optimizer(engine: Plantable) -> None:
    """The first half of the blocks gets its gradient, and no optimizer has it."""
    left_out = {id(parameter) for parameter in _lower_half(engine)}
    for group in engine.optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in left_out]
    # as loops that call the model's own do: a sum of old gradients would be a second mistake
    override(engine.optimizer, "zero_grad", lambda self, set_to_none=True: engine.model.zero_grad(set_to_none))


def frozen_attention(engine: Plantable) -> None:
    """The attention of every layer does not require a gradient."""
    for layer in transformer_layers(engine):
        _freeze(layer.attention.parameters())


def some_idle_weights(engine: Plantable) -> None:
    """A matrix that nothing reads, 18 % of all weights."""
    count = sum(parameter.numel() for parameter in engine.model.parameters())
    idle = nn.Parameter(torch.zeros(int(count * _IDLE / (1 - _IDLE))))
    engine.model.register_parameter("idle", idle)
    engine.optimizer.add_param_group({"params": [idle], "decayed": False})


def fading_imaginary(faintest: float) -> Planter:
    """P3, to another end."""
    return lambda engine: phases.dying_imaginary(engine, faintest)


def half_without_residuals(engine: Plantable) -> None:
    """R1 in the first half of the layers."""
    layers = transformer_layers(engine)
    leave_residuals_out(layers[: len(layers) // 2])


PLANTERS: dict[str, Planter] = {
    "L2w1": next_token(1e-2),
    "L2w2": next_token(1e-5),
    "L2w3": one_open_head,
    "L2w4": next_token(1.0, training_only=True),
    "L2w5": batch_norm,
    "L2w6": answers_in_inputs(0.05),
    "L2w7": answers_in_inputs(0.3),
    "B1w1": little_batch_mean,
    "B2w1": unshifted(0.8),
    "B2w2": unshifted(0.5),
    "B2w3": unshifted(0.2),
    "B2w4": other_rows,
    "T1w1": ends_as_padding(0.03),
    "T1w2": ends_as_padding(0.05),
    "T1w3": ends_as_padding(0.2),
    "G5w1": tenfold_energy,
    "G6w1": lose_first_micro_batch,
    "G7w1": half_detached,
    "G7w2": half_frozen,
    "G7w3": half_without_optimizer,
    "G7w4": frozen_attention,
    "G8w1": some_idle_weights,
    "P3w1": fading_imaginary(0.15),
    "P3w2": fading_imaginary(0.3),
    "R1w1": half_without_residuals,
}
