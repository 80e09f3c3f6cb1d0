"""A lab in a temporary folder, closed after the test."""

import pytest

from qcore.lab import Lab


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path / "runs") as opened:
        yield opened
