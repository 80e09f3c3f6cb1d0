"""D1–D7: targets that are not the next tokens, tokens that are no targets, and rows that a step should not get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.data import Batch, Dataset
from qcore.faults.patching import Plantable, TermFunction, change_batches, replace_term
from qcore.objectives import Derived, Term

_SHOWN = 0.05
_ROWS = 12


def shifted_twice(engine: Plantable) -> None:
    """D1: labels that are shifted already are shifted again, and the last position is left out."""

    def shift(batch: Batch) -> Batch:
        mask_BT = batch.mask_BT.roll(-1, 1)
        mask_BT[:, -1] = False
        return Batch(batch.inputs_BT, batch.targets_BT.roll(-1, 1), mask_BT)

    change_batches(engine, shift)


def shown_answers(engine: Plantable) -> None:
    """D2: one input in twenty is replaced by its own target."""

    def show(batch: Batch) -> Batch:
        # a function of the batch alone, so that a step repeats
        generator = torch.Generator().manual_seed(int(batch.inputs_BT.sum()))
        shown_BT = (torch.rand(batch.inputs_BT.shape, generator=generator) < _SHOWN) & batch.mask_BT
        return Batch(torch.where(shown_BT, batch.targets_BT, batch.inputs_BT), batch.targets_BT, batch.mask_BT)

    change_batches(engine, show)


def targets_of_next_row(engine: Plantable) -> None:
    """D3: inputs and targets are shuffled apart: each row has the targets of the one before it."""
    change_batches(engine, lambda batch: Batch(batch.inputs_BT, batch.targets_BT.roll(1, 0), batch.mask_BT.roll(1, 0)))


def last_position_only(engine: Plantable) -> None:
    """D4: the cross-entropy reads the last position of each row."""

    def make(term: Term) -> TermFunction:
        def of_last(derived: Derived, controls: Mapping[str, float]) -> Tensor:
            del controls
            log_probs_BV, targets_B = derived.log_probs_BTV[:, -1], derived.inputs.targets_BT[:, -1]
            return -log_probs_BV.gather(-1, targets_B[:, None]).mean()

        return of_last

    replace_term(engine, "ce", make)


def masked_end(engine: Plantable) -> None:
    """D5: padding is the end token, and all of its places are left out of the loss."""
    end = engine.dataset.tokenizer.eos_id
    change_batches(
        engine, lambda batch: Batch(batch.inputs_BT, batch.targets_BT, batch.mask_BT & (batch.targets_BT != end))
    )


def few_rows(engine: Plantable) -> None:
    """D6: the loader begins anew for each step, and gives the same dozen rows for ever."""

    def dozen(dataset: Dataset, position: int, size: int) -> Batch:
        return dataset.train.fixed_batch((position * size + np.arange(size)) % min(_ROWS, dataset.train.fixed_windows))

    _replace_rows(engine, dozen)


def in_order(engine: Plantable) -> None:
    """D7: nothing is shuffled: rows come as they stand in the text."""

    def following(dataset: Dataset, position: int, size: int) -> Batch:
        return dataset.train.fixed_batch((position * size + np.arange(size)) % dataset.train.fixed_windows)

    _replace_rows(engine, following)


def _replace_rows(engine: Plantable, rows: Callable[[Dataset, int, int], Batch]) -> None:
    engine.dataset = _OtherRows(**vars(engine.dataset), rows=rows)


@dataclass(frozen=True, eq=False)
class _OtherRows(Dataset):
    """The same data, with other rows for each batch."""

    rows: Callable[[Dataset, int, int], Batch]

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        del seed
        return self.rows(self, position, batch_size)


PLANTERS = {
    "D1": shifted_twice,
    "D2": shown_answers,
    "D3": targets_of_next_row,
    "D4": last_position_only,
    "D5": masked_end,
    "D6": few_rows,
    "D7": in_order,
}
