"""Faults of the bank's kinds, made faint: how little of a mistake is still seen.

A strong fault names itself; what people have is a share of the rows, a few layers, a tenth of the weight. The exam
tries these as well and reports them. None of them must be named, but a wrong name counts as one. They are planted by
code like the bank's (`qcore.faults.weakened`) and are no presets.
"""

from __future__ import annotations

from typing import Any

from qcore.config.fault_bank import FaultCase

_TRANSFORMER: dict[str, Any] = {"kind": "transformer"}
_DEEP: dict[str, Any] = {**_TRANSFORMER, "layers": 4}
_NO_LEAK = ("future_leak", "first_loss", "below_entropy")
_STILL = ("frozen_blocks", "frozen_weights", "weights_without_optimizer", "still_weights", "unused_weights")
_LAG = ("label_lag", "unshifted_labels")
_END = ("padding_targets", "eos_collapse")


def _case(
    code: str, title: str, findings: tuple[str, ...], within: int = 100, changes: dict[str, Any] = _TRANSFORMER
) -> FaultCase:
    return FaultCase(code, title, "nothing", title, findings, within, changes)


_CASES = (
    _case("L2w1", "The next token leaks at a hundredth of its strength", _NO_LEAK),
    _case("L2w2", "The next token leaks at a hundred-thousandth of its strength", _NO_LEAK),
    _case("L2w3", "One head of one layer sees one percent of the future", _NO_LEAK),
    _case("L2w4", "The next token leaks in training alone", ("train_leak", *_NO_LEAK)),
    _case("L2w5", "Statistics over batch and time, in training alone", ("train_leak", "batch_dependence", *_NO_LEAK)),
    _case("L2w6", "The answer stands in 5 % of the inputs", (*_LAG, *_NO_LEAK)),
    _case("L2w7", "The answer stands in 30 % of the inputs", (*_LAG, *_NO_LEAK)),
    _case("B1w1", "Half a percent of the batch's mean is subtracted", ("batch_dependence",)),
    _case("B2w1", "80 % of the targets are not shifted", _LAG),
    _case("B2w2", "50 % of the targets are not shifted", _LAG),
    _case("B2w3", "20 % of the targets are not shifted", _LAG),
    _case("B2w4", "Targets are those of another row", ("label_lag", "targets_of_other_rows")),
    _case("T1w1", "3 % of the targets are the end as padding", _END),
    _case("T1w2", "5 % of the targets are the end as padding", _END),
    _case("T1w3", "20 % of the targets are the end as padding", _END),
    _case("G5w1", "The energy is ten times its size", ("unscaled_term",), 100, {"local_energy_weight": 0.02}),
    _case("G6w1", "One of four micro-batches is lost", ("lost_accumulation", "accumulation_lost"), 100,
          {**_TRANSFORMER, "accumulation": 4, "batch_size": 2}),
    _case("G7w1", "Half of the blocks stand behind a detach", _STILL, 100, _DEEP),
    _case("G7w2", "Half of the blocks are frozen by requires_grad", _STILL, 100, _DEEP),
    _case("G7w3", "Half of the blocks are not in the optimizer", _STILL, 100, _DEEP),
    _case("G7w4", "The attention of all layers is frozen by requires_grad", _STILL, 100, _DEEP),
    _case("G8w1", "18 % of the weights are read by nothing", _STILL),
    _case("P3w1", "The imaginary part fades to .15", ("dead_imaginary",), 140, {}),
    _case("P3w2", "The imaginary part fades to .3", ("dead_imaginary",), 140, {}),
    _case("R1w1", "No residual connections in two of four layers", ("rank_collapse",), 100, _DEEP),
)  # fmt: skip

WEAKENED: dict[str, FaultCase] = {case.code: case for case in _CASES}
"""Every weakened case by its code: the code of the bank's own, w, and a number. Label shifts of 2 and 3 need no
planting: they are values of a control, and cases of the bank."""
