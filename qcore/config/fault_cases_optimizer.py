"""Cases of the fault bank in which the optimizer is not what it seems: their words, and the run in which each shows."""

from __future__ import annotations

from typing import Any

_TRANSFORMER = {"kind": "transformer"}
_ACCUMULATED = {**_TRANSFORMER, "accumulation": 4, "batch_size": 2, "packing": "padded"}


def _case(code: str, *words: str, within: int, **changes: Any) -> dict[str, Any]:
    """A case; its words are title, what was seen, what gives it away, and the finding that names it."""
    title, seen, tell, finding = words
    return {
        "code": code,
        "title": title,
        "seen": seen,
        "tell": tell,
        "findings": (finding,),
        "within": within,
        "changes": {**_TRANSFORMER, **changes},
    }


CASES: tuple[dict[str, Any], ...] = (
    _case(
        "O1",
        "The optimizer was built over other weights",
        "a loss that falls slowly",
        "trainable weights that stand in no parameter group",
        "weights_without_optimizer",
        within=0,
    ),
    _case(
        "O2",
        "The head is a tensor that is no parameter",
        "nothing",
        "a matrix of the forward pass that stems from no parameter",
        "weights_without_optimizer",
        within=0,
    ),
    _case(
        "O3",
        "Half of the blocks were never thawed",
        "nothing",
        "weights that need no gradient, whole blocks of them",
        "frozen_weights",
        within=10,
        layers=4,
    ),
    _case(
        "O4",
        "A block is loaded again after each step",
        "nothing",
        "weights with gradient and rate that are the same to the last bit after the step",
        "still_weights",
        within=10,
    ),
    _case(
        "O5",
        "Weights are kept in bfloat16",
        "a loss that stops falling early",
        "updates that are smaller than half of the last digit of their weights",
        "lost_to_rounding",
        within=50,
        learning_rate=6e-4,
        lr_policy="constant",
    ),
    _case(
        "O6",
        "Gradients are never cleared",
        "a gradient norm that grows with the steps",
        "the first backward pass of a step finds the gradient of the one before",
        "stale_gradient",
        within=10,
    ),
    _case(
        "O7",
        "Epsilon above the gradients",
        "a loss that hardly falls",
        "gradients smaller than the optimizer's epsilon",
        "gradient_below_eps",
        within=20,
    ),
    _case(
        "O8",
        "The schedule does not reach the optimizer",
        "a learning rate as planned, and a loss that stays",
        "the rate in the groups, and the one that the weights followed, are not the scheduled one",
        "wrong_rate",
        within=10,
    ),
    _case(
        "O9",
        "Losses of micro-batches are not divided",
        "a gradient norm that is four times as large",
        "each micro-batch is in the accumulated gradient with more than its share",
        "accumulation_undivided",
        within=10,
        **_ACCUMULATED,
    ),
    _case(
        "O10",
        "A mean of means over micro-batches",
        "nothing",
        "micro-batches of unlike size have equal weights in the accumulated gradient",
        "accumulation_uneven",
        within=10,
        **_ACCUMULATED,
    ),
)
