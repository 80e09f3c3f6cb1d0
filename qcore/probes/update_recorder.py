"""What an engine's updates do, recorded on the steps that are measured, and on no other step.

Before such a step the recorder copies sampled elements of every parameter; when the optimizer is about to step it
copies their gradients, and after the step it compares. It asks the optimizer for its groups and, where its formula is
known, for its moments; everything else is measured, so any optimizer will do. On other steps it only looks whether a
gradient was left over by an earlier step: one look through a list of attributes.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qcore.diagnostics import (
    ElementSampler,
    TensorUpdate,
    UpdateRecord,
    adamw_direction,
    measure_movement,
    module_names,
)


class Updated(Protocol):
    """A model and whatever moves it."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def optimizer(self) -> Any:
        """What moves its weights, with parameter groups."""


class UpdateRecorder:
    """Belongs to one engine and to the thread that trains it."""

    def __init__(self, engine: Updated) -> None:
        self._engine = engine
        self._sampler = ElementSampler()
        self._before: dict[str, tuple[nn.Parameter, Tensor]] = {}
        self._gradients: dict[str, Tensor | None] | None = None
        self._record: UpdateRecord | None = None
        self._steps = self._leftovers = 0
        self._begins = False

    def arm(self) -> None:
        """Record the update that is about to be made."""
        self._record, self._gradients = None, None
        self._before = {
            name: (parameter, self._sampler.take(parameter))
            for name, parameter in self._engine.model.named_parameters()
            if parameter.requires_grad and parameter.numel()
        }

    def begin_step(self) -> None:
        """An update begins; its first backward pass is the next one."""
        self._begins, self._record = True, None

    def before_backward(self) -> None:
        """Note whether a gradient of an earlier step is still there when the first backward pass of a step begins.

        Of the optimizer's weights only: what it does not know, it does not clear.
        """
        if not self._begins:
            return
        self._begins = False
        self._steps += 1
        # none at all in a loop that sets them to None; one that fills them with zeros is looked at
        self._leftovers += any(
            parameter.grad is not None and bool(parameter.grad.count_nonzero())
            for group in self._engine.optimizer.param_groups
            for parameter in group["params"]
        )

    def before_optimizer(self) -> None:
        """The gradients are whole, clipped and checked: keep sampled ones of an update that is recorded."""
        if self._before and self._gradients is None:
            self._gradients = {name: self._gradient(parameter) for name, (parameter, _) in self._before.items()}

    def record(self, *, skipped: bool) -> UpdateRecord | None:
        """What the update did; None when it was not recorded.

        Args:
            skipped: the optimizer rightly left the weights alone.
        """
        if not self._before:
            return self._record
        # of a loop that goes its own way: the gradients that it has left behind
        self.before_optimizer()
        owners = {id(one): group for group in self._engine.optimizer.param_groups for one in group["params"]}
        updates, ratios = [], []
        assert self._gradients is not None
        for name, (parameter, before) in self._before.items():
            group = owners.get(id(parameter))
            direction, eps_ratio = self._adam(parameter, before, group)
            gradient = self._gradients[name]
            if gradient is not None and bool(gradient.count_nonzero()) and math.isfinite(eps_ratio):
                ratios.append(eps_ratio)
            updates.append(
                TensorUpdate(
                    name=name,
                    elements=parameter.numel(),
                    before=before,
                    after=self._sampler.take(parameter),
                    gradient=gradient,
                    direction=direction,
                    rate=None if group is None else float(group["lr"]),
                )
            )
        rates = [(float(group["lr"]), sum(one.numel() for one in group["params"])) for group in _filled(self._engine)]
        count = sum(size for _, size in rates)
        self._record = UpdateRecord(
            movement=measure_movement(updates) if updates and not skipped else None,
            rate_used=sum(rate * (size / count) for rate, size in rates) if count else math.nan,
            rate_lowest=min((rate for rate, _ in rates), default=math.nan),
            eps_ratio=float(np.median(ratios)) if ratios else math.nan,
            modules=module_names(name for name, _ in self._engine.model.named_parameters()),
            leftover=self._leftovers / self._steps if self._steps else math.nan,
        )
        self._before, self._gradients = {}, None
        self._steps = self._leftovers = 0
        return self._record

    def _gradient(self, parameter: nn.Parameter) -> Tensor | None:
        return None if parameter.grad is None else self._sampler.take(parameter.grad)

    def _adam(self, parameter: nn.Parameter, before: Tensor, group: Any) -> tuple[Tensor | None, float]:
        """Direction of AdamW's step, and √v̂ ÷ ε; nothing of an optimizer whose formula is another."""
        optimizer: Any = self._engine.optimizer
        state = optimizer.state.get(parameter, {}) if group is not None else {}
        if not isinstance(optimizer, torch.optim.AdamW) or not {"exp_avg", "exp_avg_sq", "step"} <= state.keys():
            return None, math.nan
        if group.get("amsgrad") or group.get("maximize") or not group["eps"] or not float(state["step"]):
            return None, math.nan
        average, square = (self._sampler.take(state[name]) for name in ("exp_avg", "exp_avg_sq"))
        step = float(state["step"])
        size = math.sqrt(float(square.double().mean()) / (1 - float(group["betas"][1]) ** step))
        return adamw_direction(before, average, square, step, group), size / float(group["eps"])


def _filled(engine: Updated) -> list[Any]:
    return [group for group in engine.optimizer.param_groups if group["params"]]
