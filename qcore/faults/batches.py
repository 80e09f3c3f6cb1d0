"""B1, B2, N1, R1: rows that see their batch mates, labels that are the inputs, a NaN, and blocks without residuals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from qcore.data import Batch
from qcore.faults.patching import Plantable, TermFunction, change_batches, override, replace_term, transformer_layers
from qcore.models.transformer.model import TransformerLayer
from qcore.objectives import Derived, Term

_SHARE_OF_MEAN = 0.5
FIRST_NAN_STEP = 40


def batch_mean(engine: Plantable) -> None:
    """B1: half of the batch's mean state is subtracted inside the first block."""
    override(engine.model.layers[0], "_feed_forward", _minus_batch_mean)


def _minus_batch_mean(self: Any, x_BTD: Tensor) -> Any:
    found = type(self)._feed_forward(self, x_BTD)
    y_BTD, *rest = found if isinstance(found, tuple) else (found,)
    y_BTD = y_BTD - _SHARE_OF_MEAN * y_BTD.mean(0, keepdim=True)
    return (y_BTD, *rest) if rest else y_BTD


def unshifted_labels(engine: Plantable) -> None:
    """B2: the targets are not shifted: each position is asked for the token that it reads."""
    change_batches(engine, lambda batch: Batch(batch.inputs_BT, batch.inputs_BT.clone(), batch.mask_BT))


def nan_term(engine: Plantable) -> None:
    """N1: the z-loss is NaN from step 40 on."""
    current = 0

    def step(self: Plantable, step: int, controls: Mapping[str, Any]) -> Any:
        nonlocal current
        current = step
        try:
            return type(self).step(self, step, controls)
        finally:
            current = 0

    def make(term: Term) -> TermFunction:
        def broken_z_loss(derived: Derived, controls: Mapping[str, float]) -> Tensor:
            value = term.fn(derived, controls)
            return value * float("nan") if current >= FIRST_NAN_STEP else value

        return broken_z_loss

    override(engine, "step", step)
    replace_term(engine, "z_loss", make)


def no_residuals(engine: Plantable) -> None:
    """R1: x ← f(x) instead of x ← x + f(x) in every layer."""
    leave_residuals_out(transformer_layers(engine))


def leave_residuals_out(layers: Iterable[TransformerLayer]) -> None:
    """x ← f(x) instead of x ← x + f(x) in these layers."""
    for layer in layers:
        override(layer, "forward", _forward_without_residuals)
        override(layer, "step", _step_without_residuals)


def _forward_without_residuals(self: TransformerLayer, x_BTD: Tensor) -> Tensor:
    return self.ffn(self.ffn_norm(self.attention(self.attention_norm(x_BTD))))


def _step_without_residuals(
    self: TransformerLayer, x_B1D: Tensor, key: Tensor, value: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    mixed, key, value = self.attention.step(self.attention_norm(x_B1D), key, value, position)
    return self.ffn(self.ffn_norm(mixed)), key, value


PLANTERS = {"B1": batch_mean, "B2": unshifted_labels, "N1": nan_term, "R1": no_residuals}
