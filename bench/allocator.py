"""What keeping freed memory is worth (`qcore.train.allocator`): the same steps in processes that keep it and in such as
do not, taken in turn, each kind in several processes, because two equal ones differ by some percent.

    python bench/allocator.py [--presets tiny,pam] [--processes 3] [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from qcore.automation.control_board import ControlBoard
from qcore.config import preset
from qcore.train.allocator import keep_freed_memory
from qcore.train.text_workload import build_engine

STEPS = 8
WARM_UP = 10


def train(name: str, kept: bool) -> None:
    """Answer each line of input with ms a step, page faults a step, system ms a step, and the resident MB."""
    torch.set_num_threads(1)
    if kept and not keep_freed_memory():
        raise SystemExit("the C library is not glibc: nothing to compare")
    config = preset(name).config
    with tempfile.TemporaryDirectory() as folder:
        engine, board = build_engine(config, Path(folder), None), ControlBoard(config)
        step = 0
        for line in sys.stdin:
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.thread_time()
            for _ in range(int(line)):
                step += 1
                engine.step(step, board)
            spent, after = time.thread_time() - started, resource.getrusage(resource.RUSAGE_SELF)
            count = int(line)
            answer = (
                1e3 * spent / count,
                (after.ru_minflt - before.ru_minflt) / count,
                1e3 * (after.ru_stime - before.ru_stime) / count,
                after.ru_maxrss / 1e3,
            )
            print(json.dumps(answer), flush=True)


def ask(process: subprocess.Popen[str], steps: int) -> list[float]:
    """Let a process train."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def compare(name: str, processes: int, rounds: int) -> None:
    """Print one preset's line."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    kinds = [kind for _ in range(processes) for kind in ("left", "kept")]
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", name, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for kind in kinds
    ]
    found: dict[str, list[list[float]]] = {"left": [], "kept": []}
    try:
        for child in children:
            ask(child, WARM_UP)
        for _ in range(rounds):
            for kind, child in zip(kinds, children, strict=True):
                found[kind].append(ask(child, STEPS))
    finally:
        for child in children:
            assert child.stdin
            child.stdin.close()
            child.wait()
    left, kept = ([statistics.mean(column) for column in zip(*found[kind], strict=True)] for kind in ("left", "kept"))
    print(
        f"{name:18} left / kept: CPU {left[0]:.2f} / {kept[0]:.2f} ms a step, ratio {left[0] / kept[0]:.3f} · in the "
        f"kernel {left[2]:.2f} / {kept[2]:.2f} ms ({left[2] / left[0]:.1%} / {kept[2] / kept[0]:.1%}) · page faults "
        f"{left[1]:.0f} / {kept[1]:.0f} · resident {left[3]:.0f} / {kept[3]:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="tiny,tiny-transformer,pam,flux")
    parser.add_argument("--processes", type=int, default=3, help="of each kind")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        name, kind = chosen.child
        # As in the lab, not in the main thread, whose memory grows in another way.
        thread = threading.Thread(target=train, args=(name, kind == "kept"), name="train")
        thread.start()
        thread.join()
        return
    for name in chosen.presets.split(","):
        compare(name, chosen.processes, chosen.rounds)


if __name__ == "__main__":
    main()
