"""Has the model learned to use its context yet? Rules about losing what was learned wait until it has.

Before its first step a model with tied tables copies its input, with a high mutual information at a terrible loss; then
it falls to the plateau of token frequencies, where one token may win nearly every position. So neither the predictions
nor their information alone arm a rule: the loss must be clearly under that of token frequencies, and the running
mean of the information (share 0.3 a measurement) above 0.3 nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.probes import catalog

SHARE = 0.3
BLOCK = 5
"""Steps whose losses are averaged: a batch of a few rows scatters by a tenth of a nat."""


class PlateauDetector:
    """Running state behind `armed`; one a run."""

    def __init__(self, unigram: float | None, *, information: float = 0.3, gain: float = 0.5) -> None:
        self.armed = False
        self.information: float | None = None
        self.block_loss: float | None = None
        self._unigram = unigram
        self._least_information = information
        self._gain = gain
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
        if (information := values.get(catalog.TOKENS_MUTUAL_INFORMATION)) is not None:
            old = self.information
            self.information = information if old is None else old + SHARE * (information - old)
            if not self.armed and self.block_loss is not None:
                informed = self.information > self._least_information and information > self._least_information
                self.armed = informed and self.block_loss < self._plateau - self._gain

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
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. What a value of another type raises comes as it is."""
        self.armed = bool(state["armed"])
        self.information, self.block_loss, self._first_loss = (
            None if state[key] is None else float(state[key]) for key in ("information", "block_loss", "first_loss")
        )
        self._losses = [float(loss) for loss in state["losses"]]
