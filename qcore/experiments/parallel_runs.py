"""Many runs side by side: each an ordinary run through the façade, spread over a few processes.

A small model keeps one core busy and no more, and torch holds its interpreter: processes, not threads. The module
that asks gives its own full name; its `__main__` trains the configurations that lie in the folder and prints a JSON
line of each, which comes back here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qcore.config import RunConfig
from qcore.experiments.worker_process import ending_text, worker_command
from qcore.lab.lab import Lab
from qcore.runs.errors import LabError, is_disk_trouble, sentence
from qcore.runs.info import RunInfo

RUNS_FOLDER = "runs"
DISK_CODE = 74
"""Exit code of a process whose disk took no more (EX_IOERR of sysexits.h)."""


def fan_out(
    folder: Path, configs: Mapping[str, RunConfig], jobs: int, module: str, keep: Callable[[str], None]
) -> None:
    """Train all configurations in `jobs` processes of `python -m module`; `keep` gets each line they print, one at a
    time.

    Raises:
        LabError: with the words of a process that failed, or of what went wrong with its answers here.
    """
    names = list(configs)
    troubles: list[Exception] = []
    lock = threading.Lock()

    def drive(number: int, part: list[str]) -> None:
        try:
            for name in part:
                (folder / f"{name}.yaml").write_text(configs[name].to_yaml(), encoding="utf-8")
            command = worker_command(module, str(folder), *part)
            log = folder / f"worker-{number}.log"
            # one thread a process: side by side they would fight for the cores, and a single thread repeats bit for bit
            with contextlib.closing(process_lines(command, log, {"OMP_NUM_THREADS": "1"})) as lines:
                for line in lines:
                    # `keep` appends to a file and tells a person: one line at a time
                    with lock:
                        keep(line)
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: whoever asked is told below
            troubles.append(error)

    # dealt out in turn: cases that follow each other are of one size, and processes end together
    parts = [part for part in (names[place::jobs] for place in range(jobs)) if part]
    threads = [
        threading.Thread(target=drive, args=(number, part), name=f"fleet-{number}") for number, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise LabError(f"a process of {module} failed: {sentence(troubles[0])}") from troubles[0]


def process_lines(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Generator[str, None, None]:
    """The lines that a process prints, as they come; what it says besides goes to its log.

    It is ended when nobody takes its lines any more.

    Raises:
        LabError: with its last words when it fails.
    """
    whole = {**os.environ, **environment}
    with (
        log.open("w+", encoding="utf-8") as words,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, env=whole, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield from process.stdout
            code = process.wait()
        except BaseException:
            # also when the generator is closed: nobody would read its pipe, and it would train on for nothing
            process.kill()
            raise
        if code:
            words.seek(0)
            # What ended it is in another process; of what kind it was is in the code.
            cause = OSError(errno.EIO, os.strerror(errno.EIO)) if code == DISK_CODE else None
            raise LabError(ending_text(code, words.read())) from cause


def run_as_process(results: Iterable[Mapping[str, Any]]) -> int:
    """The outer edge of a process of `fan_out`: each result as a line of JSON; the exit code, which tells of a disk
    that takes no more.
    """
    try:
        for result in results:
            print_message(result)
    except Exception as error:  # noqa: BLE001 - the process's outer edge: its last words
        traceback.print_exc()
        print(sentence(error), file=sys.stderr)  # noqa: T201 - the log that the parent process reads
        return DISK_CODE if is_disk_trouble(error) else 1
    return 0


def print_message(message: Mapping[str, Any]) -> None:
    """A line for the parent process."""
    print(json.dumps(message), flush=True)  # noqa: T201 - the lines that the parent process reads


def open_share(folder: Path, names: Sequence[str]) -> Iterator[tuple[Lab, str, RunConfig]]:
    """One process's share: the lab of the folder, and each name with its configuration."""
    with Lab(folder / RUNS_FOLDER) as lab:
        for name in names:
            yield lab, name, RunConfig.from_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def train_to_end(lab: Lab, name: str, config: RunConfig, author: str, seconds: float) -> RunInfo:
    """Train a run to its end.

    Raises:
        LabError: when it takes longer than `seconds`.
    """
    info = lab.wait(lab.start(config, name=name, author=author), seconds)
    if info.alive:
        raise LabError(f"run {name!r} took more than {seconds:g} s: use fewer jobs, or a free machine")
    return info
