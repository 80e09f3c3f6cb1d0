"""Checkpoints: exact round trip; corrupted, truncated and foreign folders are refused; an interrupted write loses
nothing.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from qcore.automation.control_board import ControlBoard
from qcore.data import open_dataset
from qcore.runs.checkpoint_folders import (
    CheckpointError,
    checkpoint_folders,
    prune_checkpoints,
    read_state,
    recover_interrupted,
    write_folder,
)
from qcore.train.checkpoint import load_checkpoint, put_back, restore_model, restore_optimizer, save_checkpoint
from qcore.train.saving import restore_scaler
from qcore.train.text_engine import Engine
from tests.support.configs import small_config


def make(**changes):
    config = small_config(**changes)
    return Engine(config, open_dataset(config.data, config.model.context, None)), ControlBoard(config)


def write(engine, board, folder, step=3, reason="interval"):
    return save_checkpoint(
        folder,
        engine.saved,
        engine.model,
        engine.optimizer,
        step=step,
        reason=reason,
        controls=board,
        event_seq=7,
        seconds_trained=1.5,
        scaler={},
        watch={"lr_sum": 0.5},
    )


@pytest.fixture
def saved(tmp_path):
    engine, board = make()
    for step in (1, 2, 3):
        engine.step(step, board)
    return engine, board, write(engine, board, tmp_path)


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_resumed_steps_equal_uninterrupted_ones_bit_for_bit(tmp_path, kind):
    engine, board = make(kind=kind, dropout=0.1)
    for step in (1, 2, 3):
        engine.step(step, board)
    folder = write(engine, board, tmp_path)
    resumed, _ = make(kind=kind, dropout=0.1)
    checkpoint = load_checkpoint(folder)
    restore_model(resumed.model, checkpoint)
    restore_optimizer(resumed.model, resumed.optimizer, checkpoint)
    assert checkpoint.state.controls == dict(board)
    assert (checkpoint.state.step, checkpoint.state.event_seq) == (3, 7)
    for step in (4, 5, 6):
        a, b = engine.step(step, board), resumed.step(step, board)
        assert (a.loss, a.grad_norm) == (b.loss, b.grad_norm)
    for expected, found in zip(engine.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty", "pickle"])
def test_damaged_files_are_refused(saved, name, damage):
    _, _, folder = saved
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif damage == "delete":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    with pytest.raises(CheckpointError, match=r"step-000003 is refused: .*use another checkpoint"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "somebody-else"}, "not written by Collapse Lab"),
        ({"version": 99}, "version 99"),
        ({"files": []}, "list of files"),
        ({"files": {"../outside": {"bytes": 1, "sha256": ""}}}, "outside its folder"),
        ({"files": {}}, "has no model.safetensors"),
        ({"step": 4}, "renamed"),
    ],
)
def test_foreign_documents_are_refused(saved, change, reason):
    _, _, folder = saved
    document = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(folder)


def test_a_checkpoint_of_another_model_changes_nothing(saved):
    _, _, folder = saved
    other, _ = make(width=32)
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"not torch\.float32|lacks"):
        restore_model(other.model, load_checkpoint(folder))
    assert all(torch.equal(value, before[name]) for name, value in other.model.state_dict().items())
    with pytest.raises(CheckpointError, match="fits no parameter"):
        restore_optimizer(other.model, other.optimizer, load_checkpoint(folder))
    assert not other.optimizer.state


def test_a_rehashed_foreign_tensor_file_is_refused(saved):
    """Hashes that match don't help a file whose tensors are not the model's."""
    engine, _, folder = saved
    contents = {
        "model.safetensors": save({"stranger": torch.zeros(2)}),
        "optimizer.safetensors": (folder / "optimizer.safetensors").read_bytes(),
    }
    rewritten = write_folder(folder.parent, read_state(folder), contents)
    with pytest.raises(CheckpointError, match="lacks"):
        restore_model(engine.model, load_checkpoint(rewritten))


@pytest.mark.parametrize("damage", ["missing", "unknown", "type", "count"])
def test_moments_that_no_update_could_use_change_nothing(saved, damage):
    engine, _, folder = saved
    moments = load((folder / "optimizer.safetensors").read_bytes())
    name = next(key for key in moments if key.endswith(".exp_avg"))
    if damage == "missing":
        del moments[name]
    elif damage == "unknown":
        moments[name + "_of_nothing"] = moments[name].clone()
    elif damage == "type":
        moments[name] = moments[name].to(torch.int64)
    else:
        moments[name.replace("exp_avg", "step")] = torch.zeros(2)
    weights = {key: value + 1 for key, value in load((folder / "model.safetensors").read_bytes()).items()}
    contents = {"model.safetensors": save(weights), "optimizer.safetensors": save(moments)}
    rewritten = write_folder(folder.parent, read_state(folder), contents)
    before = {key: value.clone() for key, value in engine.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"the moments of|fits no parameter"):
        put_back(engine.saved, engine.model, engine.optimizer, load_checkpoint(rewritten))
    assert all(torch.equal(value, before[key]) for key, value in engine.model.state_dict().items())


def test_a_loss_scale_that_is_none_is_refused(saved):
    engine, _, folder = saved
    engine.scaler = torch.amp.GradScaler("cpu", enabled=True)
    good = engine.scaler.state_dict()
    for bad in ({"scale": 8.0}, {**good, "scale": "big"}, {**good, "scale": -1.0}, {**good, "_growth_tracker": None}):
        with pytest.raises(CheckpointError, match=r"step-000003 is refused: scaler in it cannot be used"):
            restore_scaler(engine, bad, folder)
    restore_scaler(engine, {}, folder)  # of a machine whose precision needs none
    assert engine.scaler.state_dict() == good
    restore_scaler(engine, {**good, "scale": 8.0}, folder)
    assert engine.scaler.get_scale() == 8.0


@pytest.mark.parametrize("survivor", ["replaced", "target"])
def test_an_interrupted_replacement_is_undone(saved, survivor):
    _, _, folder = saved
    replaced = folder.parent / f".replaced-{folder.name}"
    (folder.parent / ".writing-step-000009").mkdir()
    if survivor == "replaced":  # killed between the two renames
        os.rename(folder, replaced)
    else:  # killed before the old one was deleted
        shutil.copytree(folder, replaced)
    recover_interrupted(folder.parent)
    assert [path.name for path in folder.parent.iterdir()] == ["step-000003"]
    load_checkpoint(folder)


def test_a_checkpoint_that_is_half_deleted_is_none(saved, monkeypatch):
    engine, board, folder = saved
    write(engine, board, folder.parent, 4, "interval")
    delete = shutil.rmtree

    def breaks_off(path, **options):
        if Path(path).exists():
            next(Path(path).glob("*.safetensors")).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        prune_checkpoints(folder.parent, 1)
    monkeypatch.setattr(shutil, "rmtree", delete)
    assert [path.name for path in checkpoint_folders(folder.parent)] == ["step-000004"]
    recover_interrupted(folder.parent)
    assert [path.name for path in folder.parent.iterdir()] == ["step-000004"]


def test_pruning_keeps_the_newest_and_the_wanted(saved):
    engine, board, folder = saved
    for step, reason in ((4, "requested"), (5, "interval"), (6, "risky change"), (7, "interval")):
        write(engine, board, folder.parent, step, reason)
    write(engine, board, folder.parent, 4, "interval")  # the same step again: what was wanted stays wanted
    damaged = folder.parent / "step-000001"
    damaged.mkdir()
    gone = prune_checkpoints(folder.parent, 1)
    assert [path.name for path in gone] == ["step-000003", "step-000005"]
    assert [int(path.name[5:]) for path in checkpoint_folders(folder.parent)] == [1, 4, 6, 7]
    assert read_state(folder.parent / "step-000004").reason == "requested"
