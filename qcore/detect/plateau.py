"""Has the model learned to use its context yet? Rules about losing what was learned wait until it has.

Before its first step a model with tied tables copies its input, with a high mutual information at a terrible loss; then
it falls to the plateau of token frequencies, where one token may win nearly every position. So neither the predictions
nor their information alone arm a rule: the loss must be clearly under that of token frequencies, and the running
mean of the information (share 0.3 a measurement) above 0.3 nats. Where the information is not measured, or seldom, the
curve alone does it: a loss that stays there for 15 steps comes from nothing but the context.

How far under the frequencies a loss can come is the text's own: of random letters nothing can be learned from their
context. `finding.room_of` is that room, and every margin is a part of it where it is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.detect.rule import Limits, RuleContext
from qcore.probes import catalog

SHARE = 0.3
BLOCK = 5
"""Steps whose losses are averaged: a batch of a few rows scatters by a tenth of a nat."""
_NO_ROOM = 0.2
"""Nats between token frequencies and what is known to be possible under which a text has no plateau to leave."""
_PART = 0.25
_MEASURED_WIDTH = 96
"""Widest model on which it was measured how much learning leaves the plateau."""
_BLOCKS_OF_CURVE = 3
_BLOCKS_WITHOUT_REFERENCE = 10


def enough_for_width(width: int, total: float) -> float:
    """Σ learning rate that is enough at a width. Measured at width 48 to 96; a step of Adam changes what a layer puts
    out by about rate × width, so that wider ones need less.
    """
    return total * min(1.0, _MEASURED_WIDTH / max(1, width))


def has_waited_long(seen: RuleContext, limits: Limits) -> bool:
    """Whether a run that is still on the plateau has had time to leave it: enough steps, at rates that add up to
    enough. Where so many steps are not planned, a share of the plan.

    Healthy runs of the zoo stayed there for up to 105 steps, at Σ learning rate 1, and then left within twenty.
    """
    spent = seen.latest.get(catalog.OPTIM_LR_SUM, 0.0)
    planned, enough = seen.controls.get("steps"), limits["steps"]
    if isinstance(planned, int | float):
        enough = min(enough, limits["plan_share"] * planned)
    return seen.step >= enough and spent > enough_for_width(seen.facts.width, limits["spent"])


class PlateauDetector:
    """Running state behind `armed`; one a run."""

    def __init__(self, unigram: float | None, room: float | None = None) -> None:
        self.armed = False
        self.information: float | None = None
        self.block_loss: float | None = None
        self._unigram = unigram
        self._least_information = 0.3 if room is None else min(0.3, _PART * room)
        self._gain = 0.5 if room is None else min(0.5, room / 2)
        self._can_leave = room is None or room >= _NO_ROOM
        self._below = 0
        self._first_loss: float | None = None
        self._losses: list[float] = []

    def observe(self, values: Mapping[str, float]) -> None:
        """Take what arrived of term/ce and tokens/mutual_information."""
        if (loss := values.get(catalog.TERM_CE)) is not None:
            self._losses.append(loss)
            if len(self._losses) == BLOCK:
                self.block_loss = sum(self._losses) / BLOCK
                if self._first_loss is None:
                    self._first_loss = self.block_loss
                self._losses.clear()
                self._judge_curve()
        if (information := values.get(catalog.TOKENS_MUTUAL_INFORMATION)) is not None:
            old = self.information
            self.information = information if old is None else old + SHARE * (information - old)
            if not self.armed and self.block_loss is not None:
                informed = self.information > self._least_information and information > self._least_information
                self.armed = self._can_leave and informed and self.block_loss < self._plateau - self._gain

    def _judge_curve(self) -> None:
        """Count the blocks in a row whose loss lies under the plateau; enough of them arm by themselves."""
        assert self.block_loss is not None
        self._below = self._below + 1 if self.block_loss < self._plateau - self._gain else 0
        enough = _BLOCKS_WITHOUT_REFERENCE if self._unigram is None else _BLOCKS_OF_CURVE
        self.armed = self.armed or (self._can_leave and self._below >= enough)

    @property
    def _plateau(self) -> float:
        """Loss of token frequencies; when unknown, half of what the first block scored: certainly under a start."""
        if self._unigram is not None:
            return self._unigram
        return (self._first_loss or 0.0) / 2 + self._gain

    def state(self) -> dict[str, Any]:
        """JSON-able; see `restore`."""
        return {
            "armed": self.armed,
            "information": self.information,
            "block_loss": self.block_loss,
            "first_loss": self._first_loss,
            "losses": list(self._losses),
            "below": self._below,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. What a value of another type raises comes as it is."""
        self.armed = bool(state["armed"])
        self.information, self.block_loss, self._first_loss = (
            None if state[key] is None else float(state[key]) for key in ("information", "block_loss", "first_loss")
        )
        self._losses = [float(loss) for loss in state["losses"]]
        # a run from before the curve could arm has none
        self._below = int(state.get("below", 0))
