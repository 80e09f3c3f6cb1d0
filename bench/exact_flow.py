"""Exact flow: seconds a setting, and how many motions survive correlated noise, for every path.

python bench/exact_flow.py [--clips 256] [--samples 64] [--steps 40] [--solver euler]

The data set is soft dots that drift over 8 × 8 pixels for 8 frames, each with its path's own statistical anchor; no
network is involved. One thread. Drawing N samples perfectly from K clips gives K (1 − (1 − 1/K)^N) different motions on
average, printed first. The ring is shown twice: with each clip's own anchor, and with one anchor for all.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.flow import PATHS, ExactFlow, correlated_noise, distinct_motions, make_path, statistical_anchor
from tests.flow.blobs import moving_blobs

CORRELATIONS = (0.0, 0.9, 0.999, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--solver", choices=("euler", "heun", "adaptive"), default="euler")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    clips = moving_blobs(chosen.clips)
    perfect = chosen.clips * (1 - (1 - 1 / chosen.clips) ** chosen.samples)
    print(
        f"{chosen.samples} samples of {chosen.clips} clips, {chosen.solver}: {perfect:.1f} motions when drawn perfectly"
    )
    print(f"{'path':20}" + "".join(f"ρ = {correlation:<14}" for correlation in CORRELATIONS) + "(motions, CPU-seconds)")
    for name in (*PATHS, "ring, one anchor"):
        kind = name.split(",")[0]
        anchors = statistical_anchor(kind, clips, torch.Generator().manual_seed(1))
        if name != kind:
            anchors = anchors.mean(dim=0).expand_as(anchors)
        cells = []
        for correlation in CORRELATIONS:
            generator = torch.Generator().manual_seed(2)
            own = torch.randn(chosen.samples, *clips.shape[1:], generator=generator, dtype=clips.dtype)
            shared = torch.randn(chosen.samples, *clips.shape[2:], generator=generator, dtype=clips.dtype)
            started = time.process_time()
            flow = ExactFlow(make_path(kind), clips, anchors, correlation)
            found = flow.sample(correlated_noise(own, shared, correlation), method=chosen.solver, steps=chosen.steps)
            cells.append(f"{distinct_motions(found, clips):3d}  {time.process_time() - started:6.2f} s     ")
        print(f"{name:20}" + "".join(f"{cell:18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
