"""Finished runs for tests that begin where training has ended: trained once in a process, copied into each lab."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from qcore.config import RunConfig
from qcore.lab import Lab


def finished_run(lab: Lab, config: RunConfig, name: str) -> str:
    """A run of this configuration that has trained to its end, in the lab's folder; returns its name."""
    shutil.copytree(_trained(config.to_yaml(), name), lab.runs_dir / name)
    assert lab.info(name).state == "finished"
    return name


@functools.cache
def _trained(text: str, name: str) -> Path:
    """Folder of the run that is copied. By name, too: what a run wrote of itself is then true of its copy."""
    runs = Path(tempfile.mkdtemp(prefix="trained-"))
    atexit.register(shutil.rmtree, runs, ignore_errors=True)
    with Lab(runs) as lab:
        lab.start(RunConfig.from_yaml(text), name=name)
        assert lab.wait(name, 120).state == "finished"
    return runs / name
