"""H2–H6: mistakes around the update: batches of junk, a rate that ends early, an evaluation that is NaN, a leak in
training alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qcore.data import Batch, Dataset
from qcore.faults.patching import Plantable, override

_JUNK_FROM, _JUNK_EVERY, _JUNK_LENGTH = 60, 40, 2
_HALF_OF = 2
_STRENGTH = 8.0


def junk_batches(engine: Plantable) -> None:
    """H2: from batch 60 on two of every 40 hold random tokens, as of a file of another kind; held-out ones are fine."""
    vocabulary = engine.dataset.tokenizer.vocab_size

    class _WithJunk(Dataset):
        def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
            batch = super().train_batch(seed, position, batch_size)
            if position < _JUNK_FROM or position % _JUNK_EVERY >= _JUNK_LENGTH:
                return batch
            generator = torch.Generator().manual_seed(seed + position)
            junk_BT = torch.randint(4, vocabulary, batch.targets_BT.shape, generator=generator)
            return Batch(junk_BT, junk_BT.roll(-1, 1), batch.mask_BT)

    engine.dataset = _WithJunk(**vars(engine.dataset))


def short_schedule(engine: Plantable) -> None:
    """H3: the schedule is counted in micro-steps, twice as fast as the run: its second half has a rate of 0."""

    def prepare(self: Any, step: int, controls: Any) -> float:
        rate = type(self)._prepare(self, _HALF_OF * step, controls)
        if _HALF_OF * step > int(controls["steps"]):
            rate = 0.0
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        return float(rate)

    override(engine, "_prepare", prepare)


def nan_evaluation(engine: Plantable) -> None:
    """H4: the held-out loss is NaN, as where a row of padding alone is averaged; training is fine."""
    override(engine, "evaluate", lambda self, controls=None: float("nan"))


def training_leak(engine: Plantable) -> None:
    """H6: in training alone the logits are told the next token; every measurement is made in evaluation mode."""

    def term_inputs(self: Any, output: Any, batch: Batch) -> Any:
        inputs = type(self).term_inputs(self, output, batch)
        return _told(inputs) if self.model.training else inputs

    override(engine, "term_inputs", term_inputs)


def _told(inputs: Any) -> Any:
    answer_BTV: Tensor = torch.nn.functional.one_hot(inputs.targets_BT, inputs.logits_BTV.shape[-1])
    return replace(inputs, logits_BTV=inputs.logits_BTV + _STRENGTH * answer_BTV.to(inputs.logits_BTV))


PLANTERS = {"H2": junk_batches, "H3": short_schedule, "H4": nan_evaluation, "H6": training_leak}
