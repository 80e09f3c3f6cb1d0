"""How much memory a run will need, told before it starts: nothing is computed and nothing is allocated.

The model is built with fake tensors, which have shapes and no data. One forward pass of a micro-batch then shows, by
autograd's own hooks, every tensor that the backward pass will keep: the same code as in training, so the same list.
What the backward pass needs besides is reckoned as the gradients of the logits and of one layer. The peak of real steps
(process high-water mark) was 0.95 to 1.2 times the forecast from 200 MB on; a test holds it to 25 %. The libraries' own
buffers, some 70 MB whatever the model, are not reckoned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from qcore.base.words import bytes_words
from qcore.config import (
    ClipsConfig,
    LanguageConfig,
    RunConfig,
    TextRunConfig,
    VideoRunConfig,
)
from qcore.models import (
    LanguageModel,
    VideoFlow,
    build_model,
    build_video_model,
    parameter_count,
)
from qcore.models.families import FAMILIES
from qcore.train.engine import RANDOM_LOCK, resolve_device

_BYTE_VOCABULARY = 260
TIGHT = 0.9
"""Share of the free memory above which a run is called tight: the machine has other things to do."""


@dataclass(frozen=True)
class MemoryForecast:
    """What a run will hold at the peak of a step, and while its data are opened, in bytes.

    Attributes:
        parameters: count.
        published: what the authors of the published phase model of these sizes counted; None for other families.
        vocab_size: tokens reckoned with, 0 for a video run.
        moments: AdamW's two.
        activations: what one micro-batch keeps for its backward pass.
        passing: gradients that live while that pass is in one layer.
        available: free memory of the device when it was asked.
        counted: whether the vocabulary was counted, else it is the largest that the tokenizer may make.
        source: bytes of the data, None when unknown.
        opening, held: memory of the data while they are opened, before the first step, and while the run trains on
            them; neither is a GPU's.
        machine: free memory of the machine, where the device has its own.
    """

    parameters: int
    published: int | None
    vocab_size: int
    weights: int
    gradients: int
    moments: int
    activations: int
    passing: int
    available: int
    device: str
    counted: bool = True
    source: float | None = 0.0
    opening: int = 0
    held: int = 0
    machine: int | None = None

    def now(self) -> MemoryForecast:
        """The same with what is free at this moment."""
        machine = available_bytes(torch.device("cpu")) if self.device != "cpu" else None
        return replace(self, available=available_bytes(torch.device(self.device)), machine=machine)

    @property
    def model(self) -> int:
        """The peak of a step without the data."""
        return self.weights + self.gradients + self.moments + self.activations + self.passing

    @property
    def total(self) -> int:
        """The largest that the run takes at a time: a step beside the data it trains on, or the opening of these."""
        return self.model if self.machine is not None else max(self.model + self.held, self.opening)

    @property
    def verdict(self) -> str:
        """`fits`, `tight` (above 90 % of what is free) or `too large`."""
        share = max(
            self.total / max(1, self.available), self.opening / max(1, self.machine) if self.machine is not None else 0
        )
        return "too large" if share > 1 else "tight" if share > TIGHT else "fits"

    @property
    def parameters_text(self) -> str:
        """`12,345 parameters`; at most so many where the vocabulary is known only when the text is read."""
        if self.counted:
            return f"{self.parameters:,} parameters"
        return f"at most {self.parameters:,} parameters (a vocabulary of at most {self.vocab_size:,} tokens)"

    @property
    def text(self) -> str:
        """The forecast in a sentence, with a remedy when it is too large."""
        parts = (
            f"{bytes_words(self.weights + self.gradients + self.moments)} for weights, gradients and moments, "
            f"{bytes_words(self.activations + self.passing)} for activations"
        )
        if self.source is None:
            parts += "; the data set's own size is known when it is there"
        elif self.opening:
            parts += f"; {bytes_words(self.held)} for the data, {bytes_words(self.opening)} while they are opened"
        on_machine = self.machine is not None and self.opening > TIGHT * self.machine
        have = self.machine if on_machine and self.machine is not None else self.available
        head = (
            f"This needs about {bytes_words(self.opening if on_machine else self.total)}; you have {bytes_words(have)}"
        )
        if self.verdict == "too large" and (on_machine or self.model + self.held <= self.available):
            tokens = ", or tokenizer = word, which takes a quarter" if self.vocab_size == _BYTE_VOCABULARY else ""
            return f"{head} ({parts}): the data are too large, use a part of them{tokens}, or a machine with more."
        if self.verdict == "fits":
            return f"{head} ({parts})."
        if self.verdict == "tight":
            return f"{head} ({parts}): it is tight, close other programs."
        if self.weights + self.gradients + self.moments > self.available:
            return f"{head} ({parts}): take a smaller width, fewer layers, or a machine with more."
        return f"{head} ({parts}): lower batch_size or context, or switch activation_checkpointing on."


def forecast(config: TextRunConfig, vocab_size: int | None = None) -> MemoryForecast:
    """The memory of a language run.

    `ValueError` as of the model and the device.

    Args:
        vocab_size: of its tokenizer, when known.
    """
    device = resolve_device(config.optim.device)
    vocab = vocab_size or (_BYTE_VOCABULARY if config.data.tokenizer == "byte" else config.data.vocab_size)
    parameters, activations, passing = _measure(config, vocab)
    size = 4 * parameters
    count_published = FAMILIES[config.kind].published_parameters
    published = None if count_published is None else count_published(config.model)
    return MemoryForecast(
        parameters, published, vocab, size, size, 2 * size, activations, passing, available_bytes(device), device.type
    )


def video_forecast(config: RunConfig) -> MemoryForecast | None:
    """The memory of a run on clips; None for the adapter of a published model, whose weights are read first.

    `ValueError` as of the model and the device.
    """
    data = config.data
    if not isinstance(config, VideoRunConfig) or not isinstance(data, ClipsConfig):
        return None
    shape = (data.frames, 3 if data.colour == "rgb" else 1, data.canvas, data.canvas)
    device = resolve_device(config.optim.device)
    with RANDOM_LOCK, FakeTensorMode():
        model = build_video_model(config.model, shape)
        assert isinstance(model, VideoFlow)
        parameters, activations = parameter_count(model), _video_saved_bytes(model, config)
    size = 4 * parameters
    averaged = size if config.model.ema_decay else 0
    passing = activations // config.model.layers
    return MemoryForecast(
        parameters, None, 0, size + averaged, size, 2 * size, activations, passing, available_bytes(device), device.type
    )


def _video_saved_bytes(model: VideoFlow, config: VideoRunConfig) -> int:
    """Bytes that autograd keeps of a micro-batch's forward pass and its squared error."""
    rows = config.optim.batch_size
    z_BFCHW = torch.zeros(rows, *model.latent_shape)
    anchor_BCHW = z_BFCHW[:, 0] if model.anchor_embed is not None else None

    def loss() -> Tensor:
        with _autocast(config.optim.precision):
            output = model(z_BFCHW, torch.zeros(rows), anchor_BCHW=anchor_BCHW)
        return output.velocity_BFCHW.float().square().mean()

    return _kept_bytes(model, loss)


def _measure(config: TextRunConfig, vocab: int) -> tuple[int, int, int]:
    """Parameters, bytes that one micro-batch holds at the start of its backward pass, and what comes on top in it."""
    model, rows, precision = config.model, config.optim.batch_size, config.optim.precision
    parameters, held = _model_bytes(
        model.model_copy(update={"activation_checkpointing": False}), rows, vocab, precision
    )
    gradient_of_logits = rows * model.context * vocab * 4
    one_layer = held // model.layers
    if model.activation_checkpointing:
        # All that is outside of the layers, their inputs, and one layer at a time.
        _, outside = _model_bytes(model, rows, vocab, precision)
        inputs = model.layers * rows * model.context * (model.width + int(getattr(model, "phases", 0))) * 4
        held = min(held, outside + inputs + max(0, held - outside) // model.layers)
    return parameters, held, gradient_of_logits + one_layer


def _model_bytes(model: LanguageConfig, rows: int, vocab: int, precision: str) -> tuple[int, int]:
    """Parameters and `saved_bytes` of a model; of many layers two are looked at, for each is like the next."""
    found = []
    for layers in (1, 2) if model.layers > 2 else (model.layers,):
        with RANDOM_LOCK, FakeTensorMode():
            built = build_model(model.model_copy(update={"layers": layers}), vocab)
            tokens_BT = torch.zeros(rows, model.context, dtype=torch.int64)
            found.append((parameter_count(built), saved_bytes(built, tokens_BT, precision)))
    if len(found) == 1:
        return found[0]
    one, two = found
    return one[0] + (model.layers - 1) * (two[0] - one[0]), one[1] + (model.layers - 1) * (two[1] - one[1])


def saved_bytes(model: LanguageModel, tokens_BT: Tensor, precision: str = "fp32") -> int:
    """Bytes that autograd keeps of a forward pass and its cross-entropy, weights aside; shared storage counts once."""

    def loss() -> Tensor:
        with _autocast(precision):
            logits_BTV = model(tokens_BT, with_phases=True).logits_BTV
        return functional.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BT.flatten())

    return _kept_bytes(model, loss)


def _kept_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes of what autograd keeps of the graph that `loss` makes, weights aside; shared storage counts once."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = loss()
    del made
    return sum(storage.nbytes() for storage in storages.values())


@contextlib.contextmanager
def _autocast(precision: str) -> Iterator[None]:
    """bf16 and fp16 take the same room: the fake tensors are the CPU's, which has bf16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        yield


def available_bytes(device: torch.device) -> int:
    """Memory that is free now: of the CUDA device, or of the machine, within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):  # `max` and no file: no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="utf-8"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="utf-8")))
    return max(0, free)
