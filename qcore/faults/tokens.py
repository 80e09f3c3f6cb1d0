"""T1–T4: the predictions collapse onto the end of the text, one word, one distribution or one loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.data import Batch, Dataset
from qcore.faults.gradients import own_position_only
from qcore.faults.patching import (
    Plantable,
    TermFunction,
    change_batches,
    count_updates,
    override,
    replace_term,
    transformer_layers,
)
from qcore.models.transformer.model import Attention
from qcore.objectives import Derived, Term

_WARM_UP = 100
_FAINT = 0.01
_SMALL_START = 0.02


def padding_as_targets(engine: Plantable) -> None:
    """T1: padding is the end-of-sequence token, and nothing masks it: most targets are the end.

    The embedding starts at the originals' standard deviation of 0.02, so that the tied head begins with nearly equal
    probabilities; from this model's own start it would repeat its input for many steps.
    """
    tokenizer = engine.dataset.tokenizer

    def unmask(batch: Batch) -> Batch:
        return Batch(
            batch.inputs_BT.masked_fill(batch.inputs_BT == tokenizer.pad_id, tokenizer.eos_id),
            batch.targets_BT.masked_fill(~batch.mask_BT, tokenizer.eos_id),
            torch.ones_like(batch.mask_BT),
        )

    change_batches(engine, unmask)
    weight_VD = engine.model.get_parameter("embedding.weight")
    with torch.no_grad():
        weight_VD.mul_(_SMALL_START / weight_VD.std())


def rewarded_word(engine: Plantable) -> None:
    """T2: the dominance term rewards confidence in one word w: −s·mean √p_t(w), with a strength s that warms up from
    0.01 to 1 over the first 100 updates, (u/100)³. The loss falls all the way; the text is unlearned in mid-run.
    """
    word = arbitrary_word(engine.dataset)

    def make(term: Term) -> TermFunction:
        def confidence_in_one_word(derived: Derived, controls: object) -> Tensor:
            strength = _FAINT + (1 - _FAINT) * min(1.0, count_updates(engine) / _WARM_UP) ** 3
            return -strength * derived.mean((0.5 * derived.log_probs_BTV[..., word]).exp())

        return confidence_in_one_word

    replace_term(engine, "dominance", make, low=-1.0, high=0.0, hinge=False)


def arbitrary_word(dataset: Dataset) -> int:
    """The token of median frequency in the training text: neither common nor rare, and no special one."""
    tokenizer = dataset.tokenizer
    counts_V = torch.tensor(dataset.token_counts)
    counts_V[[tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id]] = 0
    seen = int((counts_V > 0).sum())
    return int(counts_V.argsort(stable=True)[-seen:][seen // 2])


def plant_nothing(engine: Plantable) -> None:
    """T2b: the mistake is in the configuration: its schedule makes the learning rate jump."""


def ignored_context(engine: Plantable) -> None:
    """T3: attention is exactly uniform and every token enters with the same vector: one distribution everywhere."""
    constant = engine.dataset.tokenizer.bos_id
    embedding = engine.model.get_submodule("embedding")
    for layer in transformer_layers(engine):
        override(layer.attention, "_project", _without_query)

    def same_token(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (torch.full_like(args[0], constant),)

    embedding.register_forward_pre_hook(same_token)


def _without_query(self: Attention, x_BTD: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = Attention._project(self, x_BTD, start)
    return torch.zeros_like(query), key, value


def own_token_only(engine: Plantable) -> None:
    """T4: the mask leaves each position itself alone: at best a bigram, which falls into loops when it speaks."""
    for layer in transformer_layers(engine):
        override(layer.attention, "forward", _attend_to_itself)
        override(layer.attention, "step", _step_by_itself)
        override(layer.attention, "weights", own_position_only)


def _attend_to_itself(self: Attention, x_BTD: Tensor) -> Tensor:
    return self._merge(self._project(x_BTD, 0)[2])


def _step_by_itself(
    self: Attention, x_B1D: Tensor, key: Tensor, value: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    return self._merge(self._project(x_B1D, position)[2]), key, value


PLANTERS = {
    "T1": padding_as_targets,
    "T2": rewarded_word,
    "T2b": plant_nothing,
    "T3": ignored_context,
    "T4": own_token_only,
}
