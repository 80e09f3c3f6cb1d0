"""Small engines, planted or healthy; those with equal data share one data set object, as the runs of a lab may."""

from functools import cache

import pytest

from qcore.config import RunConfig
from qcore.config.faultbank import EXAM_BASE, FAULTS
from qcore.data import open_dataset
from qcore.faults import plant
from qcore.train.board import ControlBoard
from qcore.train.engine import Engine
from tests.helpers import small_config

_SIZES = set(EXAM_BASE)


@cache
def _dataset(yaml):
    config = RunConfig.from_yaml(yaml)
    return open_dataset(config.data, config.model.context, None)


def _engine(config):
    data_only = RunConfig(data=config.data, model=RunConfig().with_values({"context": config.model.context}).model)
    return Engine(config, _dataset(data_only.to_yaml()))


def _config(code, changes):
    """A case at the size of a unit test: its kind, terms and data, but a tiny model, and as `changes` say."""
    case = {name: value for name, value in FAULTS[code].changes.items() if name not in _SIZES}
    return small_config(**{**case, **changes})


@pytest.fixture
def healthy():
    """`healthy(code, **changes)` → the engine of a case without its fault, and its controls."""

    def make(code, **changes):
        config = _config(code, changes)
        return _engine(config), ControlBoard(config)

    return make


@pytest.fixture
def planted(healthy):
    """`planted(code, **changes)` → the same with the fault."""

    def make(code, **changes):
        engine, board = healthy(code, **changes)
        plant(code, engine)
        return engine, board

    return make
