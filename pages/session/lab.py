"""The lab of this process over the runs folder of the environment, as the person may use it."""

from __future__ import annotations

import os
from pathlib import Path

from pages.session import moment, roles
from qcore.lab import Lab, shared_lab


def open_lab() -> Lab:
    """The lab of this process over the runs folder of the environment, as the person may use it. Where there is a
    login, the script ends here before it.
    """
    roles.gate()
    shared = shared_lab(Path(os.environ.get("QCORE_RUNS", "checkpoints")))
    return moment.page_lab(shared, roles.lab_for(shared))
