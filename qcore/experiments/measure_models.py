"""Measuring language models side by side: time of a training step, generation against position, peak memory, quality.

Models take turns (A B A B), and what is compared are the ratios of one turn, so that whatever else the machine does
hits all alike. A step is forward, cross-entropy, backward and AdamW on random tokens; quality comes from ordinary runs.
Peak memory is measured in a process of its own for each model: a high-water mark cannot be taken back.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qcore.config import RunConfig, TextRunConfig
from qcore.data import bits_per_byte, open_dataset
from qcore.experiments.worker_process import worker_command
from qcore.models import build_model, count_cost, match_size
from qcore.runs.checkpoint_folders import checkpoint_folders
from qcore.train.checkpoint import load_checkpoint, restore_model
from qcore.train.engine import compile_lazily, compiler_problem, make_optimizer, resolve_device
from qcore.train.memory_forecast import forecast
from qcore.train.text_workload import build_engine

MODULE = "qcore.experiments.measure_models"
WARM_UP = 2
WINDOW = 25
"""Tokens before and after a position over which the time of one token is a median."""
TURN = 10
"""Tokens that a model writes in a row: the first one finds the processor's caches full of another model."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of a step's parts.

    Attributes:
        ratio: reference's step ÷ this one, median, least and largest of the turns: above 1 is faster than the
            reference.
    """

    forward_ms: float
    backward_ms: float
    step_ms: float
    ratio: tuple[float, float, float]


@dataclass(frozen=True)
class Measurement:
    """All that is measured of one model, without training it.

    Attributes:
        flops: matrix products of one forward pass of [batch, tokens].
        elementwise: values that other operations write.
        parts: name, formula, flops, parameters.
        gflops_forward: of the forward pass, achieved.
        generation: position and tokens a second there, one row.
        peak_bytes: what a training step took, beyond an empty process.
    """

    label: str
    config: str
    kind: str
    batch: int
    tokens: int
    parameters: int
    flops: float
    elementwise: float
    parts: list[dict[str, Any]]
    timing: Timing
    tokens_per_second: float
    gflops_forward: float
    gflops_backward: float
    generation: list[tuple[int, float]] = field(default_factory=list)
    peak_bytes: int | None = None
    forecast_bytes: int | None = None


def match_configs(
    configs: Mapping[str, TextRunConfig], vocab_size: int, by: str, reference: str
) -> dict[str, TextRunConfig]:
    """The configurations with the sizes of all models solved for the reference's; unchanged when `by` is `none`.

    Raises:
        ValueError: when one cannot be matched.
    """
    if by == "none":
        return dict(configs)
    goal = configs[reference].model
    found = {}
    for label, config in configs.items():
        if label == reference:
            found[label] = config
            continue
        chosen: Any = by
        model = match_size(goal, config.kind, vocab_size, by=chosen, start=config.model)
        found[label] = config.model_copy(update={"model": model})
    return found


def vocabulary(config: TextRunConfig, cache: Path | None) -> int:
    """Tokens of the data's tokenizer."""
    return open_dataset(config.data, config.model.context, cache).tokenizer.vocab_size


def measure(
    configs: Mapping[str, TextRunConfig],
    vocab_size: int,
    reference: str,
    *,
    rounds: int = 9,
    positions: Sequence[int] = (100, 500, 1000, 2000),
    report: Report = lambda text: None,
) -> list[Measurement]:
    """Time, generation and memory of every model.

    Args:
        positions: none leaves generation out.
    """
    report("timing training steps")
    timings = time_steps(configs, vocab_size, reference, rounds)
    rates: dict[str, list[tuple[int, float]]] = {label: [] for label in configs}
    if positions:
        report("generating")
        rates = time_generation(configs, vocab_size, positions)
    found = []
    for label, config in configs.items():
        report(f"memory of {label}")
        optim, cost = config.optim, count_cost(config.model, vocab_size, batch=config.optim.batch_size)
        timing = timings[label]
        found.append(
            Measurement(
                label,
                config.to_yaml(),
                config.kind,
                optim.batch_size,
                config.model.context,
                cost.parameters,
                cost.flops,
                cost.elementwise,
                [asdict(part) for part in cost.parts],
                timing,
                optim.batch_size * config.model.context / timing.step_ms * 1e3,
                cost.flops / timing.forward_ms / 1e6,
                2 * cost.flops / timing.backward_ms / 1e6,
                rates[label],
                peak_memory(config, vocab_size),
                forecast(config, vocab_size).total,
            )
        )
    return found


def time_steps(configs: Mapping[str, TextRunConfig], vocab_size: int, reference: str, rounds: int) -> dict[str, Timing]:
    """Every model makes a step, then all again: `rounds` times after a warm-up."""
    steps = {label: _Step(config, vocab_size) for label, config in configs.items()}
    for _ in range(WARM_UP):
        for step in steps.values():
            step()
    turns = [{label: step() for label, step in steps.items()} for _ in range(rounds)]
    found = {}
    for label in configs:
        forward, backward, whole = zip(*(turn[label] for turn in turns), strict=True)
        ratios = [turn[reference][2] / turn[label][2] for turn in turns]
        found[label] = Timing(
            1e3 * statistics.median(forward),
            1e3 * statistics.median(backward),
            1e3 * statistics.median(whole),
            (statistics.median(ratios), min(ratios), max(ratios)),
        )
    return found


class _Step:
    """One model with its optimizer and a fixed batch; a call makes a step and returns seconds forward, backward and in
    all.
    """

    def __init__(self, config: TextRunConfig, vocab_size: int) -> None:
        optim = config.optim
        self.device = resolve_device(optim.device)
        self.model = build_model(config.model, vocab_size, seed=config.seed).to(self.device).train()
        self.forward: Callable[..., Any] = self.model
        if optim.compile and not compiler_problem(self.device):
            self.forward = compile_lazily(self.model)
        self.optimizer = make_optimizer(self.model)
        self.precision = torch.bfloat16 if optim.precision == "bf16" else None
        generator = torch.Generator().manual_seed(config.seed)
        shape = (optim.batch_size, config.model.context + 1)
        self.tokens_BT = torch.randint(vocab_size, shape, generator=generator).to(self.device)

    def __call__(self) -> tuple[float, float, float]:
        self.optimizer.zero_grad(set_to_none=True)
        start = _synchronized_time(self.device)
        with torch.autocast(self.device.type, self.precision) if self.precision else nullcontext():
            logits_BTV = self.forward(self.tokens_BT[:, :-1]).logits_BTV
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), self.tokens_BT[:, 1:].flatten())
        middle = _synchronized_time(self.device)
        loss.backward()
        after = _synchronized_time(self.device)
        self.optimizer.step()
        end = _synchronized_time(self.device)
        return middle - start, after - middle, end - start


def _synchronized_time(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@torch.no_grad()
def time_generation(
    configs: Mapping[str, TextRunConfig], vocab_size: int, positions: Sequence[int]
) -> dict[str, list[tuple[int, float]]]:
    """Tokens a second of one row, by position: every model writes a few tokens, the most likely ones, then all again.

    The time at a position is the median of the steps around it. A model whose memory is a window gets one as long as
    the last position: it shall remember as much as the others.
    """
    last = max(positions) + WINDOW
    writers = {label: _Writer(config, vocab_size, last) for label, config in configs.items()}
    for start in range(0, last, TURN):
        for writer in writers.values():
            for _ in range(min(TURN, last - start)):
                writer()
    return {
        label: [(position, 1 / statistics.median(writer.seconds[max(0, position - WINDOW) :][: 2 * WINDOW]))
                for position in positions]
        for label, writer in writers.items()
    }  # fmt: skip


class _Writer:
    """One model that writes a row, a token a call; the seconds of each. Compiled if the configuration asks for it."""

    def __init__(self, config: TextRunConfig, vocab_size: int, tokens: int) -> None:
        section = config.model.model_copy(update={"context": max(config.model.context, tokens)})
        self.device = resolve_device(config.optim.device)
        model = build_model(section, vocab_size).to(self.device).eval()
        self.state = model.start(1)
        self.step: Callable[..., Any] = model.step
        if config.optim.compile and not compiler_problem(self.device):
            self.step = compile_lazily(model.step, changing=True)
        self.token_B = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.seconds: list[float] = []

    def __call__(self) -> None:
        start = _synchronized_time(self.device)
        output, self.state = self.step(self.token_B, self.state)
        self.token_B = output.logits_BTV[:, -1].argmax(-1)
        self.seconds.append(_synchronized_time(self.device) - start)


# memory


def peak_memory(config: TextRunConfig, vocab_size: int) -> int | None:
    """Bytes that two training steps take beyond an empty process; None where the process fails, as without memory."""
    command = worker_command(MODULE)
    request = json.dumps({"config": config.to_yaml(), "vocab_size": vocab_size})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else None


def _peak_in_process(config: TextRunConfig, vocab_size: int) -> int:
    """The same in this process, which must have done nothing else."""
    device = resolve_device(config.optim.device)
    warm = config.model_copy(update={"model": config.model.model_copy(update={"context": 8})})
    small = warm.model_copy(update={"optim": warm.optim.model_copy(update={"batch_size": 1})})
    _Step(small, vocab_size)()  # libraries are loaded once, whatever the size
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident_bytes()
    step = _Step(config, vocab_size)
    step()
    step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before
    return max(0, _peak_resident_bytes() - before)


def _peak_resident_bytes() -> int:
    """Largest resident set of this program, bytes. Not `ru_maxrss`: a child begins there with its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


# quality


@dataclass(frozen=True)
class HeldOutLoss:
    """Held-out loss of the newest checkpoint.

    Attributes:
        nats: per token.
        bits_per_byte: the same, of the text's bytes.
        tokens: how many were predicted.
    """

    nats: float
    bits_per_byte: float
    tokens: int
    step: int
    references: dict[str, float | None]


def held_out_loss(config: TextRunConfig, run_dir: Path, cache: Path | None, windows: int = 0) -> HeldOutLoss:
    """Cross-entropy of a run's newest checkpoint on the held-out side: all of it, or `windows` windows spread evenly.

    The references are of the whole held-out side, in bits per byte.
    """
    engine = build_engine(config, cache)
    folder = checkpoint_folders(run_dir)[-1]
    checkpoint = load_checkpoint(folder)
    restore_model(engine.saved, checkpoint)
    engine.model.eval()
    data = engine.dataset
    rows = config.optim.batch_size
    count = -(-(windows or data.validation.fixed_windows) // rows)
    summed, tokens = 0.0, 0
    with torch.no_grad():
        for batch in data.validation_batches(rows, count):
            logits_BTV = engine.model(batch.inputs_BT.to(engine.device)).logits_BTV.float()
            losses_N = _losses(logits_BTV, batch.targets_BT.to(engine.device))
            real_N = batch.mask_BT.flatten().to(engine.device)
            summed += float(losses_N[real_N].double().sum())
            tokens += int(real_N.sum())
    nats = summed / tokens

    def per_byte(value: float) -> float:
        return bits_per_byte(value, data.bytes_per_token)

    references = {name: None if value is None else per_byte(value) for name, value in vars(data.references).items()}
    return HeldOutLoss(nats, per_byte(nats), tokens, checkpoint.state.step, references)


def _losses(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    return functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    read = RunConfig.from_yaml(asked["config"])
    assert isinstance(read, TextRunConfig)
    print(_peak_in_process(read, asked["vocab_size"]))  # noqa: T201 - the number that `peak_memory` reads
