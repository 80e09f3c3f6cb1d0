"""The two forms in which a tied table enters the stream: the loss before the first step, and what each form learns.

python bench/starts.py [--presets tiny tiny-transformer pam] [--steps 400] [--seeds 2] [--widths 48 96 256 512 768]

Each preset is trained with `start: level` and `start: tied` on the same batches, without probes; printed: first loss,
and held-out losses after an eighth, a quarter, a half and all of the steps. With --widths only first losses, by width.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.automation.control_board import ControlBoard
from qcore.config import RunConfig, TextRunConfig, preset
from qcore.data import open_dataset
from qcore.train.text_engine import Engine


def engine_of(config: RunConfig) -> tuple[Engine, ControlBoard]:
    assert isinstance(config, TextRunConfig)
    return Engine(config, open_dataset(config.data, config.model.context, None)), ControlBoard(config)


def learned(config: RunConfig) -> tuple[float, list[float]]:
    """First loss, and held-out losses on the way."""
    engine, board = engine_of(config)
    first, steps, found = engine.preview(board).loss, int(board["steps"]), []
    for step in range(1, steps + 1):
        engine.step(step, board)
        if step in (steps // 8, steps // 4, steps // 2, steps):
            found.append(engine.evaluate())
    return first, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["tiny", "tiny-transformer", "pam"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="*", default=[])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.presets:
        for width in chosen.widths:
            firsts = []
            for start in ("tied", "level"):
                engine, board = engine_of(preset(name).config.with_values({"width": width, "start": start}))
                firsts.append(engine.preview(board).loss)
            near = firsts[1] / math.log(engine.dataset.tokenizer.vocab_size)
            print(
                f"{name:17} width {width:4} tied {firsts[0]:6.2f} level {firsts[1]:6.2f} = {near:.3f} ln V", flush=True
            )
        for seed in range(0 if chosen.widths else chosen.seeds):
            for start in ("level", "tied"):
                config = preset(name).config.with_values({"start": start, "seed": seed, "steps": chosen.steps})
                first, found = learned(config)
                shown = " ".join(f"{value:.4f}" for value in found)
                print(f"{name:17} seed {seed} {start:5} first {first:6.3f} held out {shown}", flush=True)


if __name__ == "__main__":
    main()
