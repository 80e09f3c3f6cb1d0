"""One Quantum Flux layer against one transformer layer, forward and backward, on one CPU thread: time and memory.

python bench/flux_layer.py               s = 1024 and 8192 tokens, d = 768, b = 1
python bench/flux_layer.py --tokens 512  another length

published: as the preset `flux-published` · fast: the same with a soft gate in linear time · default:
FluxConfig() at this width. All are measured in turn in one process, in seconds of the processor; the best of the
repeats counts. Memory: bytes that autograd keeps between forward and backward, and the process's growth in its peak.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import FluxConfig, TransformerConfig, preset
from qcore.models import parameter_count
from qcore.models.flux.layer import FluxLayer, frequencies
from qcore.models.transformer.model import TransformerLayer

WIDTH = 768
_FAMILY = FluxConfig()
PUBLISHED = {
    name: value
    for name, value in preset("flux-published").config.model.model_dump().items()
    if value != getattr(_FAMILY, name)
}
FORMS = {
    "published": PUBLISHED,
    "default": {},
    "fast": {**PUBLISHED, "gate": "soft", "gate_temperature": 0.1, "evaluation": "fast"},
}
Pass = Callable[[], Tensor]


def transformer(tokens: int) -> tuple[nn.Module, Pass]:
    layer = TransformerLayer(TransformerConfig(width=WIDTH, heads=12, layers=6, context=tokens))
    x = torch.randn(1, tokens, WIDTH, requires_grad=True)
    return layer, lambda: layer(x).sum()


def flux(tokens: int, changes: dict[str, object]) -> tuple[nn.Module, Pass]:
    config = FluxConfig(width=WIDTH, layers=6, context=tokens, **changes)
    layer = FluxLayer(config)
    H, P = config.heads, config.planes // config.heads
    x = torch.randn(1, tokens, WIDTH, requires_grad=True)
    angle = torch.arange(tokens)[:, None] * frequencies(config) + torch.rand(1, H, tokens, P)
    states = torch.stack((angle.cos(), angle.sin()), dim=-1) * (0.7 * P**-0.5)
    states.requires_grad_()

    def run() -> Tensor:
        hidden, evolved = layer(x, states, angle[0].cos(), angle[0].sin())
        return hidden.sum() + evolved.sum()

    return layer, run


def kept_bytes(run: Pass) -> int:
    """Bytes of distinct storages that the backward pass waits for, without those of parameters and inputs."""
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not (x.is_leaf and x.requires_grad):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(sizes.values())


def seconds(run: Pass, repeats: int) -> float:
    """Seconds of the processor, so that a busy machine counts little; one thread."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        run().backward()
        best = min(best, time.process_time() - started)
    return best


def peak() -> float:
    """Largest resident size so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--repeats", type=int, default=2, help="of the shortest length; longer ones are measured once")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'layer':<12}{'tokens':>7}{'parameters':>12}{'ms':>10}{'ratio':>8}{'kept MB':>9}{'peak +MB':>10}")
    for tokens in chosen.tokens:
        # The smaller ones first: a peak only grows.
        measured = {}
        for name in (*FORMS, "transformer"):
            layer, run = transformer(tokens) if name == "transformer" else flux(tokens, FORMS[name])
            kept, before = kept_bytes(run) / 1e6, peak()
            measured[name] = (
                parameter_count(layer),
                seconds(run, chosen.repeats if tokens == min(chosen.tokens) else 1),
                kept,
                peak() - before,
            )
        slow = measured["transformer"][1]
        for name, (count, spent, kept, grown) in measured.items():
            ratio = f"{slow / spent:.1f} ×"
            print(
                f"{name:<12}{tokens:>7}{count:>12,}{1e3 * spent:>10.1f}{ratio:>8}{kept:>9.1f}{grown:>10.1f}", flush=True
            )


if __name__ == "__main__":
    main()
