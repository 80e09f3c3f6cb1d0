"""Training tokens a second of phase_lm and of the transformer of equal parameters, A B A B in one process.

A step is forward, backward and AdamW. Each pair gives one ratio; the median and range of the ratios are printed, so
that whatever else the machine does hits both alike.

    python bench/throughput.py --context 512 --width 256 --layers 4 --batch 4
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models import LanguageModel, build_model, match_size, parameter_count


def training_step(model: LanguageModel, tokens_BT: torch.Tensor) -> Callable[[], float]:
    """A function that runs one training step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    inputs, targets = tokens_BT[:, :-1], tokens_BT[:, 1:]

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        logits = model(inputs).logits_BTV
        functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("context", 512), ("width", 256), ("layers", 4), ("heads", 4), ("phases", 32), ("vocab", 260), ("batch", 4),
        ("pairs", 9), ("threads", 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    phase_config = PhaseLMConfig(
        width=chosen.width, layers=chosen.layers, heads=chosen.heads, phases=chosen.phases, context=chosen.context
    )
    models = [
        build_model(c, chosen.vocab) for c in (phase_config, match_size(phase_config, "transformer", chosen.vocab))
    ]
    tokens = torch.randint(chosen.vocab, (chosen.batch, chosen.context + 1), generator=torch.Generator().manual_seed(0))
    phase_step, transformer_step = (training_step(model.train(), tokens) for model in models)
    for _ in range(2):
        phase_step()
        transformer_step()
    pairs = [(phase_step(), transformer_step()) for _ in range(chosen.pairs)]
    ratios = [transformer / phase for phase, transformer in pairs]
    phase_seconds, transformer_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    counted = chosen.batch * chosen.context
    print(f"parameters   phase_lm {parameter_count(models[0]):,} · transformer {parameter_count(models[1]):,}")
    print(
        f"step         phase_lm {phase_seconds * 1e3:.1f} ms · transformer {transformer_seconds * 1e3:.1f} ms (median)"
    )
    print(f"tokens/s     phase_lm {counted / phase_seconds:,.0f} · transformer {counted / transformer_seconds:,.0f}")
    print(
        f"ratio phase_lm / transformer, pair by pair: median {statistics.median(ratios):.3f} "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()
