"""torch.compile for who asks for it: refused with a remedy where there is no compiler, before a run has made a step.

Compiled code sums in another order: its numbers differ from the plain model's in the last digits, so a run keeps its
choice for life. Measured on one CPU thread: a step of training 1.2 to 1.5 times faster, after 1.5 to 2 minutes of
compiling; a token of a generation 1.7 to 4 times, after 12 to 27 seconds.
Complex operations are left to the plain code by the compiler itself.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch

_COMPILERS = ("g++", "clang++", "c++")


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


def compiled(function: Callable[..., Any], *, changing: bool = False) -> Callable[..., Any]:
    """A model's forward pass, or its step of a generation, compiled at the first call. changing: its sizes will differ
    from call to call, as those of a cache do.
    """
    made: Callable[..., Any] = torch.compile(function, dynamic=changing or None)
    return made


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
        """One update. closure: computes the loss anew."""
        return _step(self, closure)


_step: Callable[..., Any] = inspect.unwrap(torch.optim.AdamW.step)
