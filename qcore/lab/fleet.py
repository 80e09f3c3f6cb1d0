"""Many runs side by side: each an ordinary run through the façade, spread over a few processes.

A small model keeps one core busy and no more, and torch holds its interpreter: processes, not threads. The module
that asks gives its own full name; its `__main__` trains the configurations that lie in the folder and prints a JSON
line of each, which comes back here.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from qcore.config import RunConfig
from qcore.lab.errors import LabError
from qcore.lab.lab import Lab
from qcore.lab.runs import RunInfo
from qcore.train.processes import ending, worker_command

RUNS_FOLDER = "runs"


def fan_out(
    folder: Path, configs: Mapping[str, RunConfig], jobs: int, module: str, keep: Callable[[str], None]
) -> None:
    """Train all configurations in `jobs` processes of `python -m module`; `keep` gets each line they print, one at a
    time. Raises `LabError` with the words of a process that failed.
    """
    names = list(configs)
    troubles: list[str] = []
    lock = threading.Lock()

    def drive(number: int, part: list[str]) -> None:
        for name in part:
            (folder / f"{name}.yaml").write_text(configs[name].to_yaml(), encoding="utf-8")
        command = worker_command(module, str(folder), *part)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (
            (folder / f"worker-{number}.log").open("w+", encoding="utf-8") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                with lock:
                    keep(line)
            if code := process.wait():
                log.seek(0)
                troubles.append(ending(code, log.read()))

    parts = [part for part in (names[place::jobs] for place in range(jobs)) if part]
    threads = [
        threading.Thread(target=drive, args=(number, part), name=f"fleet-{number}") for number, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise LabError(f"a process of {module} failed: {troubles[0]}")


def share(folder: Path, names: Sequence[str]) -> Iterator[tuple[Lab, str, RunConfig]]:
    """One process's share: the lab of the folder, and each name with its configuration."""
    with Lab(folder / RUNS_FOLDER) as lab:
        for name in names:
            yield lab, name, RunConfig.from_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def trained(lab: Lab, name: str, config: RunConfig, author: str, seconds: float) -> RunInfo:
    """Train a run to its end. Raises `LabError` when it takes longer than `seconds`."""
    info = lab.wait(lab.start(config, name=name, author=author), seconds)
    if info.alive:
        raise LabError(f"run {name!r} took more than {seconds:g} s: use fewer jobs, or a free machine")
    return info
