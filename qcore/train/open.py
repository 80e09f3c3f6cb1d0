"""From configuration to workload: which family trains a run, and which one speaks from its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcore.automation.control_board import ControlBoard
from qcore.config import RunConfig, TextRunConfig, VideoRunConfig, check_root
from qcore.runs.layout import CACHE_FOLDER
from qcore.train.text_workload import TextWorkload, load_text
from qcore.train.video_workload import VideoWorkload, load_video
from qcore.train.workload import Speaker, Workload


def open_workload(config: RunConfig, runs_dir: Path, tokenizer: Path | None = None) -> Workload:
    """Open the data and build the engine of a configuration. `ValueError` for data that cannot be used.

    tokenizer: file of the one to use, so that token ids mean the same on other data; None makes one from the data.
    """
    check_root(config)
    if isinstance(config, VideoRunConfig):
        return VideoWorkload(config)
    assert isinstance(config, TextRunConfig)
    return TextWorkload(config, runs_dir / CACHE_FOLDER, tokenizer)


def load_speaker(config: RunConfig, run_dir: Path, folder: Path) -> tuple[Speaker, Mapping[str, Any]]:
    """A checkpoint's model on the CPU, ready to speak, and the controls it was saved with; what it lacks, or has with a
    value that is refused, is as the run started with it. `CheckpointError` for a bad folder, `ConfigError` where its
    weights lie outside of the root for data."""
    check_root(config)
    if isinstance(config, VideoRunConfig):
        speaker, saved = load_video(config, folder)
    else:
        assert isinstance(config, TextRunConfig)
        speaker, saved = load_text(config, run_dir, folder)
    board = ControlBoard(config)
    board.restore(saved)
    return speaker, board
