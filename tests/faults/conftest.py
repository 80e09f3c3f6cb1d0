"""Small engines, planted or healthy; the data sets they share are opened once."""

from functools import cache

import pytest

from qcore.config.faultbank import EXAM_BASE, FAULTS
from qcore.data import open_dataset
from qcore.faults import plant
from qcore.train.board import ControlBoard
from qcore.train.engine import Engine
from tests.helpers import small_config

_KEPT = {"width", "context", "batch_size", "layers", *EXAM_BASE}


@cache
def _dataset(data, context):
    return open_dataset(data, context, None)


@cache
def _shared(text):
    from qcore.config import RunConfig

    config = RunConfig.from_yaml(text)
    return open_dataset(config.data, config.model.context, None)


def engine_of(config):
    """A healthy engine; equal configurations of the data share one data set object, as two runs of a lab may."""
    return Engine(config, _shared(config.to_yaml()))


def case_config(code, **changes):
    """The configuration of a case at the size of a unit test: its kind, terms and data, but a tiny model."""
    case = {name: value for name, value in FAULTS[code].changes.items() if name not in _KEPT}
    return small_config(**{**case, **changes})


@pytest.fixture
def planted():
    """`planted(code, **changes)` → engine with the fault, and its controls."""

    def make(code, **changes):
        config = case_config(code, **changes)
        engine = engine_of(config)
        plant(code, engine)
        return engine, ControlBoard(config)

    return make


@pytest.fixture
def healthy():
    """`healthy(code, **changes)` → the same engine without the fault, and its controls."""

    def make(code, **changes):
        config = case_config(code, **changes)
        return engine_of(config), ControlBoard(config)

    return make
