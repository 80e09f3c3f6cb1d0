"""Precomputed latents: what is read, what is skipped and why, normalisation, batches as pure functions, the preview."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from qcore.config import DataError
from qcore.config.ltx import LatentsConfig
from qcore.data.video.latents import LatentClips, open_latents
from qcore.diagnostics.frames import frame_statistics


def latents(seed: int, channels: int = 4, frames: int = 6, height: int = 2, width: int = 3) -> Tensor:
    return torch.randn(channels, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def write(folder: Path, name: str, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name, metadata)


def folder_of(tmp_path: Path, count: int = 5, **sizes: int) -> LatentsConfig:
    for number in range(count):
        write(tmp_path, f"{number}.safetensors", {"latents": latents(number, **sizes)})
    return LatentsConfig(source="folder", path=str(tmp_path), frames=3)


def everything(clips: LatentClips) -> Tensor:
    return torch.cat((clips.train_NFCHW, clips.validation_NFCHW))


def test_clips_are_windows_of_the_files_normalised_per_channel(tmp_path: Path) -> None:
    clips = open_latents(folder_of(tmp_path))
    assert (clips.shape, clips.train_count, clips.validation_count) == ((3, 4, 2, 3), 8, 2)
    assert (clips.name, clips.skipped) == (tmp_path.name, ())
    std, mean = torch.std_mean(clips.train_NFCHW, (0, 1, 3, 4), correction=0)
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(std, torch.ones(4))
    raw = everything(clips) * clips.std_C[:, None, None] + clips.mean_C[:, None, None]
    for number in range(5):
        for start in (0, 3):
            window = latents(number)[:, start : start + 3].transpose(0, 1)
            assert (raw - window).abs().amax((1, 2, 3, 4)).min() < 1e-5


def test_no_file_is_on_both_sides(tmp_path: Path) -> None:
    config = folder_of(tmp_path).model_copy(update={"normalisation": "none"})
    clips = open_latents(config)
    whole = torch.cat(list(clips.validation_NFCHW)).transpose(0, 1)
    [held_out] = [number for number in range(5) if torch.equal(whole, latents(number))]
    others = [latents(number)[0, start] for number in range(5) if number != held_out for start in (0, 3)]
    assert all(any(torch.equal(clip[0, 0], other) for other in others) for clip in clips.train_NFCHW)
    assert torch.equal(open_latents(config).validation_NFCHW, clips.validation_NFCHW)


def test_one_file_holds_out_its_end(tmp_path: Path) -> None:
    config = folder_of(tmp_path, 1, frames=12).model_copy(update={"normalisation": "none"})
    clips = open_latents(config)
    assert (clips.train_count, clips.validation_count) == (3, 1)
    assert torch.equal(clips.validation_NFCHW[0].transpose(0, 1), latents(0, frames=12)[:, 9:])
    alone = open_latents(config.model_copy(update={"path": f"{tmp_path}/0.safetensors"}))
    assert torch.equal(alone.train_NFCHW, clips.train_NFCHW)


@pytest.mark.parametrize("as_metadata", [True, False])
def test_packed_and_unpacked_files_are_the_same_clips(tmp_path: Path, as_metadata: bool) -> None:
    sizes = {"num_frames": 6, "height": 2, "width": 3}
    for number in range(3):
        packed = {"latents": latents(number).flatten(1).T}
        if as_metadata:
            write(tmp_path, f"{number}.safetensors", packed, {key: str(value) for key, value in sizes.items()})
        else:
            more = {key: torch.tensor(value) for key, value in sizes.items()}
            write(tmp_path, f"{number}.safetensors", {**packed, **more})
    packed_clips = open_latents(LatentsConfig(source="folder", path=str(tmp_path), frames=3))
    unpacked_clips = open_latents(folder_of(tmp_path, 3))
    assert torch.equal(everything(packed_clips), everything(unpacked_clips))
    assert packed_clips.fingerprint == unpacked_clips.fingerprint


def test_a_file_that_cannot_be_used_is_skipped_with_its_reason(tmp_path: Path) -> None:
    config = folder_of(tmp_path, 2)
    broken = latents(9)
    broken[0, 0, 0, 0] = torch.nan
    write(tmp_path, "a.safetensors", {"latent": latents(9)})
    write(tmp_path, "b.safetensors", {"latents": broken})
    write(tmp_path, "c.safetensors", {"latents": latents(9, frames=2)})
    write(tmp_path, "d.safetensors", {"latents": latents(9, channels=5)})
    write(tmp_path, "e.safetensors", {"latents": latents(9).flatten(1).T})
    write(
        tmp_path,
        "f.safetensors",
        {"latents": latents(9).flatten(1).T},
        {"num_frames": "5", "height": "2", "width": "3"},
    )
    write(tmp_path, "g.safetensors", {"latents": latents(9)[0]})
    (tmp_path / "h.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "i.pt").write_bytes(b"\x80\x04.")
    (tmp_path / ".hidden").write_bytes(b"")
    clips = open_latents(config)
    reasons = {file.path: file.reason for file in clips.skipped}
    expected = {
        "a.safetensors": "no tensor 'latents'",
        "b.safetensors": "not finite",
        "c.safetensors": "too short: 2 latent frames, and a clip takes 3",
        "d.safetensors": "C, H, W = (5, 2, 3), and the first file has (4, 2, 3)",
        "e.safetensors": "no num_frames",
        "f.safetensors": "36 latents, which are not 5 × 2 × 3",
        "g.safetensors": "[C, F, H, W] or [F·H·W, C]",
        "h.safetensors": "cannot be read",
        "i.pt": "could run code",
    }
    assert reasons.keys() == expected.keys()
    assert all(part in reasons[name] for name, part in expected.items()), reasons
    assert clips.train_count + clips.validation_count == 4


def test_batches_are_pure_functions_and_an_epoch_shows_every_clip_once(tmp_path: Path) -> None:
    clips = open_latents(folder_of(tmp_path))
    assert torch.equal(clips.train_batch(3, 5, 4), clips.train_batch(3, 5, 4))
    epoch = torch.cat([clips.train_batch(3, position, 4) for position in range(2)])
    assert sorted(epoch.sum((1, 2, 3, 4)).tolist()) == sorted(clips.train_NFCHW.sum((1, 2, 3, 4)).tolist())
    assert not torch.equal(clips.train_batch(3, 0, 4), clips.train_batch(4, 0, 4))
    assert torch.equal(torch.cat(clips.validation_batches(1, 2)), clips.validation_clips(2))


def test_a_clip_comes_with_the_prompt_of_its_file(tmp_path: Path) -> None:
    for number in range(4):
        tensors = {"latents": torch.full((4, 6, 2, 3), float(number)) + latents(number) / 99}
        if number:
            tensors["prompt_embeds"] = torch.full((2 + number, 5), float(number))
            tensors["prompt_attention_mask"] = torch.ones(2 + number, dtype=torch.bool)
        write(tmp_path, f"{number}.safetensors", tensors)
    write(tmp_path, "9.safetensors", {"latents": latents(9), "prompt_embeds": torch.zeros(2, 6)})
    clips = open_latents(LatentsConfig(source="folder", path=str(tmp_path), frames=3, normalisation="none"))
    assert [file.path for file in clips.skipped] == ["9.safetensors"]
    text = clips.train_text(0, 0, 6)
    held_out = clips.validation_text(2)
    assert text is not None
    assert held_out is not None
    assert text.states_BLE.shape == (6, 5, 5)
    assert text.states_BLE[:, 0, 0].tolist() == clips.train_batch(0, 0, 6).mean((1, 2, 3, 4)).round().tolist()
    assert held_out.states_BLE[:, 0, 0].tolist() == clips.validation_clips(2).mean((1, 2, 3, 4)).round().tolist()
    assert text.mask_BL.sum(1).tolist() == [2 + n if n else 1 for n in text.states_BLE[:, 0, 0].int().tolist()]
    assert open_latents(LatentsConfig()).train_text(0, 0, 4) is None


def test_stored_statistics_normalise_each_file(tmp_path: Path) -> None:
    mean, std = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 1, 2, 4])
    for number in range(2):
        tensors = {"latents": latents(number), "latents_mean": mean, "latents_std": std}
        write(tmp_path, f"{number}.safetensors", tensors)
    write(tmp_path, "2.safetensors", {"latents": latents(2)})
    config = LatentsConfig(source="folder", path=str(tmp_path), frames=6, normalisation="stored")
    clips = open_latents(config)
    wanted = [((latents(n) - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)).transpose(0, 1) for n in range(2)]
    for clip in everything(clips):
        assert min((clip - other).abs().max() for other in wanted) < 1e-6
    assert [(file.path, "latents_mean" in file.reason) for file in clips.skipped] == [("2.safetensors", True)]


def test_random_latents_are_seeded_and_move(tmp_path: Path) -> None:
    clips = open_latents(LatentsConfig(clips=64))
    assert clips.shape == (4, 16, 4, 4)
    assert (clips.train_count, clips.validation_count) == (58, 6)
    assert clips.fingerprint == open_latents(LatentsConfig(clips=64)).fingerprint
    assert clips.fingerprint != open_latents(LatentsConfig(clips=64, data_seed=1)).fingerprint
    measured = frame_statistics(clips.train_NFCHW).scalars()
    assert 0.3 < measured["divergence"] < 1.3
    assert measured["coherence"] > 0.3


def test_the_preview_shows_the_principal_channels() -> None:
    clips = open_latents(LatentsConfig(clips=64, channels=5))
    pixels = clips.to_pixels(clips.train_NFCHW)
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (58, 4, 3, 4, 4))
    values = (pixels.double() / 127.5 - 1) * 2.5
    std, mean = torch.std_mean(values, (0, 1, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(3, dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(std, torch.ones(3, dtype=torch.float64), atol=0.15, rtol=0)
    correlation = torch.corrcoef(values.movedim(2, 0).flatten(1)) - torch.eye(3)
    assert correlation.abs().max() < 0.1, "principal channels are uncorrelated"
    assert clips.to_pixels(torch.full((5, 4, 4), torch.nan)).max() == 0
    grey = open_latents(LatentsConfig(clips=64, channels=2))
    assert tuple(grey.to_pixels(grey.train_NFCHW[0]).shape) == (4, 1, 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere"}, "path = 'nowhere' does not exist"),
        ({"frames": 7}, "could be used .* too short"),
        ({"normalisation": "stored"}, "has no latents_mean"),
    ],
)
def test_a_folder_without_anything_usable_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_latents(folder_of(tmp_path).model_copy(update=change))


def test_copies_of_one_file_are_refused_in_words_of_latents(tmp_path: Path) -> None:
    config = folder_of(tmp_path, 1)
    write(tmp_path, "copy.safetensors", {"latents": latents(0)})
    with pytest.raises(DataError, match=r"all 2 usable files .* hold the same clips.*add files") as refused:
        open_latents(config)
    assert "blank lines" not in str(refused.value)


def test_one_clip_and_constant_latents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a training and a held-out side need two"):
        open_latents(folder_of(tmp_path, 1).model_copy(update={"frames": 6}))
    write(tmp_path, "0.safetensors", {"latents": torch.ones(4, 6, 2, 3)})
    with pytest.raises(ValueError, match="never change"):
        open_latents(LatentsConfig(source="folder", path=str(tmp_path), frames=3))


def test_a_folder_gives_at_most_the_clips_that_are_asked_for(tmp_path: Path) -> None:
    clips = open_latents(folder_of(tmp_path, 4, frames=12).model_copy(update={"clips": 8}))
    assert clips.train_count + clips.validation_count == 8
