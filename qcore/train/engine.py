"""What every engine is: a model on its device, its optimizer, one guarded update. Families fill in batch and loss.

Randomness is a pure function of (seed, step): weights come from the seed, batches from (seed, position), noise and
dropout from (seed, step); a fork may draw with another seed than its weights came from (`order_seed`). So a run
resumed from weights, moments and step repeats bit for bit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from qcore.automation.learning_rate import learning_rate
from qcore.config import RunConfig
from qcore.objectives import Term, Total, nonfinite_parts
from qcore.probes.update_recorder import UpdateRecorder

_COMPILERS = ("g++", "clang++", "c++")
RANDOM_LOCK = threading.Lock()
"""Held while torch's process-wide random state is seeded and used: two runs of one process must not share a stream."""


class NonFiniteError(FloatingPointError):
    """The loss or gradient of a step is NaN or infinite; the optimizer has not stepped. step: the update that
    failed.
    """

    def __init__(self, step: int, terms: list[str], what: str) -> None:
        self.step, self.terms = step, terms
        super().__init__(
            f"{what} is not finite at step {step}: {', '.join(terms)}. The optimizer did not step; the weights are the "
            "last good ones. Lower the learning rate or the term's weight and resume, or go back to a checkpoint"
        )


@dataclass(frozen=True)
class StepResult:
    """What one update measured before it was made.

    Attributes:
        units: real target tokens, or frames, that it has seen.
    """

    loss: float
    terms: dict[str, float]
    grad_norm: float
    learning_rate: float
    units: int
    skipped: bool


class BaseEngine(ABC):
    """Model, optimizer and scaler of one run on its device.

    Attributes:
        saved: the module whose state a checkpoint keeps.
        unit: what `StepResult.units` counts.
        eval_name: series of the held-out loss.
        speed_name: series of how many it sees in a second.
        compiles: whether the family knows `compile`.
        updates: what is recorded of the updates that are measured.
    """

    model: nn.Module
    saved: nn.Module
    optimizer: torch.optim.AdamW
    terms: tuple[Term, ...]
    unit: str
    eval_name: str
    speed_name: str
    compiles = False

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.updates = UpdateRecorder(self)
        self.device = resolve_device(config.optim.device)
        wanted = config.optim.precision
        # float16 has no use without a GPU: the CPU's own is slower than float32 and overflows as early.
        precision = "fp32" if wanted == "fp16" and self.device.type != "cuda" else wanted
        self._autocast_type = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.precision = precision
        if config.optim.compile:
            problem = (
                compiler_problem(self.device) if self.compiles else "only language models are compiled: leave it off"
            )
            if problem:
                raise ValueError(f"compile = true is refused: {problem}")

    @abstractmethod
    def step(self, step: int, controls: Mapping[str, Any]) -> StepResult:
        """Make update `step` (1-based). Raises `NonFiniteError` before the optimizer steps when loss or gradient is
        not finite.
        """

    @abstractmethod
    def preview(self, controls: Mapping[str, Any]) -> StepResult:
        """The first update's first micro-batch, seen without gradient and without an update: what step 0 measures."""

    @abstractmethod
    def evaluate(self, controls: Mapping[str, Any]) -> float:
        """The held-out loss that says how good the model is; the same batches and draws at every step."""

    @abstractmethod
    def graph(self, result: Any, controls: Mapping[str, Any]) -> Total:
        """Terms of a few rows of a step with their graph, in full precision, for gradients of single terms."""

    @abstractmethod
    def gradients(self, result: Any, controls: Mapping[str, Any]) -> dict[str, Tensor | None]:
        """Gradient of the weighted loss of a step's batch by parameter name; `.grad` is not touched."""

    def before_update(self, rate: float) -> dict[str, Tensor] | None:
        """The parameters before the last update, from the optimizer's moments; None where they do not say it: another
        optimizer, or another rate than its groups have. What really moved is recorded by `updates`.

        AdamW: w' = w·(1 − lr·decay) − lr·m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ); exact up to rounding.
        """
        if not isinstance(self.optimizer, torch.optim.AdamW):
            return None
        if any(group["lr"] != rate for group in self.optimizer.param_groups):
            return None
        before = {}
        owners = {id(parameter): group for group in self.optimizer.param_groups for parameter in group["params"]}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                state, group = self.optimizer.state.get(parameter), owners.get(id(parameter))
                if not state or group is None:
                    before[name] = parameter.detach().clone()
                    continue
                (beta1, beta2), t = group["betas"], float(state["step"])
                root = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_().add_(group["eps"])
                moved = (state["exp_avg"] / (1 - beta1**t)).div_(root).mul_(rate)
                before[name] = moved.add_(parameter).div_(1 - rate * group["weight_decay"])
        return before

    # one guarded update

    @cached_property
    def _parameters(self) -> list[nn.Parameter]:
        """All parameters, found once: walking a small model's modules at every step costs a percent of it."""
        return list(self.model.parameters())

    def _to_training(self) -> None:
        if not self.model.training:
            self.model.train()

    def _prepare(self, step: int, controls: Mapping[str, Any]) -> float:
        """Set the optimizer as the controls ask; the learning rate."""
        self.updates.begin_step()
        rate = learning_rate(step, controls)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["betas"] = (controls["beta1"], controls["beta2"])
            group["weight_decay"] = controls["weight_decay"] if group["decayed"] else 0.0
        return rate

    def _finish(
        self, step: int, controls: Mapping[str, Any], summed: Mapping[str, Tensor]
    ) -> tuple[dict[str, float], float, bool]:
        """Clip, check and update; the parts as numbers, the gradient's norm, and whether fp16 skipped the update."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, controls["clip_norm"] or float("inf"))
        values = torch.stack([value.float() for value in summed.values()] + [norm.float()]).tolist()
        grad_norm = values.pop()
        skipped = self._update(step, grad_norm)
        return dict(zip(summed, values, strict=True)), grad_norm, skipped

    def _backward(self, step: int, total: Total, share: float, summed: dict[str, Tensor]) -> None:
        """Backward pass of one micro-batch that makes up `share` of the batch; its parts are added to `summed`."""
        if not torch.isfinite(total.loss.detach()):
            raise NonFiniteError(step, nonfinite_parts(total), "the loss")
        whole = share == 1.0
        self.updates.before_backward()
        self.scaler.scale(total.loss if whole else total.loss * share).backward()
        for name, part in (*total.parts.items(), ("loss", total.loss)):
            value = part.detach() if whole else part.detach() * share
            summed[name] = summed[name] + value if name in summed else value

    def _update(self, step: int, grad_norm: float) -> bool:
        if not math.isfinite(grad_norm) and not self.scaler.is_enabled():
            broken = [name for name, parameter in self.model.named_parameters() if _is_nonfinite(parameter.grad)]
            self.optimizer.zero_grad(set_to_none=True)
            shown = broken[:5] + ([f"and {len(broken) - 5} more"] if len(broken) > 5 else [])
            raise NonFiniteError(step, shown or ["the global norm overflowed"], "the gradient")
        self.updates.before_optimizer()
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.is_enabled() and self.scaler.get_scale() < scale

    def _gradients_of(self, total: Total) -> dict[str, Tensor | None]:
        found: dict[str, Tensor | None] = dict.fromkeys(name for name, _ in self.model.named_parameters())
        if total.loss.requires_grad:
            names, parameters = zip(*_trainable_parameters(self.model), strict=True)
            gradients = torch.autograd.grad(total.loss, parameters, allow_unused=True)
            found.update(zip(names, gradients, strict=True))
        return found

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast_type is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._autocast_type)

    @contextlib.contextmanager
    def _dropout_stream(self, step: int, dropout: float) -> Iterator[None]:
        if not dropout:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with RANDOM_LOCK, torch.random.fork_rng(devices):
            torch.manual_seed((self.config.drawn_seed << 32) + step)
            yield


def resolve_device(name: str) -> torch.device:
    """`auto` → CUDA when there is one, else the CPU. Raises `ValueError` for `cuda` without a CUDA device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is refused: torch finds no CUDA device here; use auto or cpu")
    return torch.device(name)


class PlainAdamW(torch.optim.AdamW):
    """AdamW, the same to the last bit, that does not load torch's compiler: that takes a second of every
    process that trains.

    Torch keeps an optimizer's methods out of compiled code by wrappers that load the compiler at their first call.
    Nothing of an optimizer is compiled here, so what they wrap is called as it is. A torch that wraps them in another
    way is left alone, and loads it.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            if getattr(method, "__globals__", {}).get("__name__") == "torch._compile":
                plain = inspect.unwrap(method)
                vars(plain).setdefault("__dynamo_disable", plain)
        super().__init__(*arguments, **settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update.

        Args:
            closure: computes the loss anew.
        """
        return _step(self, closure)


_step: Callable[..., Any] = inspect.unwrap(torch.optim.AdamW.step)


def make_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW over what learns; matrices decay, vectors do not."""
    learning = [parameter for _, parameter in _trainable_parameters(model)]
    matrices = [parameter for parameter in learning if parameter.ndim >= 2]
    vectors = [parameter for parameter in learning if parameter.ndim < 2]
    groups = [{"params": matrices, "decayed": True}, {"params": vectors, "decayed": False}]
    return PlainAdamW([group for group in groups if group["params"]], lr=0.0, eps=1e-8, fused=True)


def _trainable_parameters(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _is_nonfinite(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool(torch.isfinite(gradient).all())


# torch.compile for who asks for it: refused with a remedy where there is no compiler, before a run has made a step.
# Compiled code sums in another order: its numbers differ from the plain model's in the last digits, so a run keeps its
# choice for life. Measured on one CPU thread: a step of training 1.2 to 1.5 times faster, after 1.5 to 2 minutes of
# compiling; a token of a generation 1.7 to 4 times, after 12 to 27 seconds. Complex operations are left to the plain
# code by the compiler itself.


def compiler_problem(device: torch.device) -> str:
    """Why torch.compile cannot work on this device, with the remedy; empty when it can."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed: install the CUDA build of torch, which brings it, or leave compile off"
        return ""
    wanted = (os.environ.get("CXX", ""), *_COMPILERS)
    if not any(name and shutil.which(name) for name in wanted):
        return "there is no C++ compiler here: install g++ (or set CXX), or leave compile off"
    return ""


def compile_lazily(function: Callable[..., Any], *, changing: bool = False) -> Callable[..., Any]:
    """A model's forward pass, or its step of a generation, compiled at the first call.

    Args:
        changing: its sizes will differ from call to call, as those of a cache do.
    """
    made: Callable[..., Any] = torch.compile(function, dynamic=changing or None)
    return made
