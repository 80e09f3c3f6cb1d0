"""Small engines, planted or healthy; those with equal data share one data set object, as the runs of a lab may."""

from functools import cache

import pytest

from qcore.automation.control_board import ControlBoard
from qcore.config import FAULTS, WEAKENED, RunConfig, default_run
from qcore.data import open_clips, open_dataset
from qcore.faults import plant
from qcore.train.text_engine import Engine
from qcore.train.video_engine import VideoEngine
from tests.support.configs import small_config, small_video


@cache
def _dataset(yaml):
    config = RunConfig.from_yaml(yaml)
    if config.kind == "video_flow":
        return open_clips(config.data)
    return open_dataset(config.data, config.model.context, None)


def _engine(config):
    model = {"kind": "video_flow"} if config.kind == "video_flow" else {"context": config.model.context}
    data_only = default_run().with_values({**model, **config.data.model_dump()})
    make = VideoEngine if config.kind == "video_flow" else Engine
    return make(config, _dataset(data_only.to_yaml()))


def _config(code, changes):
    """A case at the size of a unit test: its kind, terms and data, but a tiny model, and as `changes` say."""
    case = (FAULTS | WEAKENED)[code]
    own = {name: value for name, value in case.changes.items() if name not in case.base}
    make = small_video if case.base.get("kind") == "video_flow" else small_config
    return make(**{**own, **changes})


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
