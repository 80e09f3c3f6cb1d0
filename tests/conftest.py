"""Shared test settings: one torch thread, so that every number is reproducible and two cores are not fought over; and a
lab with a run that is written by hand.
"""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from qcore.lab import Lab
from tests.growing import Growing

torch.set_num_threads(1)


@pytest.fixture
def bare_lab(tmp_path: Path):
    """A lab over an empty folder."""
    with Lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def growing(bare_lab: Lab):
    """A run in it, `run`, that has made a step."""
    found = Growing(bare_lab)
    yield found
    found.writer.close()
