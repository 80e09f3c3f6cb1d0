"""Clips that are latents of a video autoencoder: a folder of precomputed ones, or waves made here for trying.

A file is safetensors with `latents`, [C, F, H, W] or LTX-Video's sequence [F·H·W, C] with num_frames, height and width
(tensors or metadata), and may hold `prompt_embeds` [L, E] with `prompt_attention_mask` [L]. Nothing else is read, since
other formats of tensors could run code. Clips are normalised once, on opening, and held in memory as float32.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qcore.config import DataError, SkippedFile
from qcore.config.ltx import LatentsConfig
from qcore.config.places import place, plain_error, printable_path
from qcore.config.sources import walk
from qcore.data.text.batches import epoch_items, philox, split_documents
from qcore.data.text.earlier import text_files
from qcore.data.video.dataset import ClipDataset, TextStates, epoch_order

_SUFFIX = ".safetensors"
_WAVES = 6
_SPREAD = 2.5  # standard deviations of a principal channel between black and white


@dataclass(frozen=True, eq=False)
class LatentClips(ClipDataset):
    """Latent clips split into training and held-out ones; a `ClipDataset` whose values are latents, not pixels.

    Attributes:
        train_NFCHW, validation_NFCHW: float32, normalised.
        mean, std: averages over channels of mean_C and std_C, by which the latents were normalised.
        texts: one row for each file, None when no file has a prompt.
        train_text_N, validation_text_N: int64, the row of each clip.
    """

    mean_C: Tensor
    std_C: Tensor
    texts: TextStates | None = None
    train_text_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    validation_text_N: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def low(self) -> float:
        """The lowest value of the training latents; latents have no bound of their own."""
        return float(self.train_NFCHW.min())

    @property
    def high(self) -> float:
        """The highest value of the training latents."""
        return float(self.train_NFCHW.max())

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for side in (self.train_NFCHW, self.validation_NFCHW):
            digest.update(repr(tuple(side.shape)).encode())
            digest.update(side.numpy().data)
        if self.texts is not None:
            for part in (self.texts.states_BLE, self.texts.mask_BL):
                digest.update(part.numpy().data)
            digest.update(np.concatenate((self.train_text_N, self.validation_text_N)).tobytes())
        return digest.hexdigest()

    @property
    def preview_channels(self) -> int:
        """Channels of what `to_pixels` gives: 3, or 1 for latents of fewer than 3 channels."""
        return 3 if self.channels >= 3 else 1

    def train_text(self, seed: int, position: int, batch_size: int) -> TextStates | None:
        """Prompt embeddings of the clips of `train_batch` with the same arguments."""
        if self.texts is None:
            return None
        order = partial(epoch_order, self.train_count)
        return self.texts.take(self.train_text_N[epoch_items(order, self.train_count, seed, position, batch_size)])

    def validation_text(self, count: int) -> TextStates | None:
        """Prompt embeddings of the clips of `validation_clips` with the same count."""
        if self.texts is None:
            return None
        wanted = min(count, self.validation_count)
        return self.texts.take(self.validation_text_N[np.arange(wanted) * self.validation_count // wanted])

    def to_pixels(self, x: Tensor) -> Tensor:
        """A preview of latents [..., C, H, W], uint8 [..., 3 or 1, H, W]; NaN is black.

        Not a picture: red, green and blue are the first three principal channels of the training latents (grey the
        first), from −2.5 to 2.5 of their standard deviations. The published autoencoder is what decodes latents.
        """
        axes_KC, spread_K = self._principal_axes
        shown = torch.einsum("kc,...chw->...khw", axes_KC, x.detach().float()) / spread_K[:, None, None]
        return ((shown / _SPREAD + 1) * 127.5).round().nan_to_num(0.0).clamp(0, 255).to(torch.uint8)

    @cached_property
    def _principal_axes(self) -> tuple[Tensor, Tensor]:
        """Directions of greatest variance among channels, the largest entry of each positive, and their spread."""
        flat_CN = self.train_NFCHW.movedim(2, 0).flatten(1).double()
        values_C, vectors_CC = torch.linalg.eigh(torch.cov(flat_CN).reshape(self.channels, self.channels))
        axes_KC = vectors_CC.flip(1)[:, : self.preview_channels].T
        signs_K = axes_KC.gather(1, axes_KC.abs().argmax(1, keepdim=True)).sign()
        spread_K = values_C.flip(0)[: self.preview_channels].clamp_min(1e-12).sqrt()
        return (axes_KC * signs_K).float(), spread_K.float()

    def _standardised(self, clips_NFCHW: Tensor, numbers: np.ndarray) -> Tensor:
        return clips_NFCHW[torch.from_numpy(numbers)]


@dataclass(frozen=True)
class _File:
    """What one file gives: its clips [N, F, C, H, W] and its prompt, if it has one."""

    clips_NFCHW: Tensor
    states_LE: Tensor | None
    mask_L: Tensor | None


def open_latents(config: LatentsConfig) -> LatentClips:
    """Make or read the latents, split and normalise them.

    With two or more readable files, `validation_fraction` of the files are held out, else the last clips; files shorter
    than `frames`, of another shape than the first, or broken are skipped with the reason.

    Raises:
        ValueError: naming the setting and the remedy, for a missing path, no readable file, too few clips, latents that
            never change.
    """
    if config.source == "random":
        waves = _waves(config)
        held_out = max(1, round(config.validation_fraction * len(waves)))
        return _normalize_clips(config, "random waves", waves[:-held_out], waves[-held_out:], ())
    files, skipped = _read_folder(config)
    names = sorted(files)
    texts = _texts([files[name] for name in names])
    if len(names) == 1:
        clips = files[names[0]].clips_NFCHW
        if len(clips) < 2:
            raise DataError(
                f"{config.path!r} gives one clip of {config.frames} latent frames, and a training and a held-out side "
                "need two: lower frames, or add files"
            )
        first = len(clips) - max(1, round(config.validation_fraction * len(clips)))
        sides = [(clips[:first], np.zeros(first, np.int64)), (clips[first:], np.zeros(len(clips) - first, np.int64))]
    else:
        digests = [hashlib.sha256(files[name].clips_NFCHW.numpy().tobytes()).hexdigest() for name in names]
        if len(set(digests)) < 2:
            raise DataError(
                f"all {len(names)} usable files under path = {config.path!r} hold the same clips, and a training and a "
                "held-out side need two different files: add files, or give one alone"
            )
        split = split_documents(digests, config.validation_fraction, config.data_seed, version=config.data_version)
        sides = [_side([files[names[number]] for number in side], side) for side in (split.train, split.validation)]
    (train, train_text), (validation, validation_text) = sides
    name = Path(config.path).expanduser().resolve().name
    return _normalize_clips(config, name, train, validation, skipped, texts, train_text, validation_text)


def _side(files: list[_File], numbers: tuple[int, ...]) -> tuple[Tensor, np.ndarray]:
    counts = [len(file.clips_NFCHW) for file in files]
    return torch.cat([file.clips_NFCHW for file in files]), np.repeat(np.array(numbers, np.int64), counts)


def _normalize_clips(
    config: LatentsConfig,
    name: str,
    train: Tensor,
    validation: Tensor,
    skipped: tuple[SkippedFile, ...],
    texts: TextStates | None = None,
    train_text: np.ndarray | None = None,
    validation_text: np.ndarray | None = None,
) -> LatentClips:
    std_C, mean_C = torch.std_mean(train.double(), (0, 1, 3, 4), correction=0)
    if not std_C.any():
        raise DataError(f"the training latents of {name!r} never change: give data with something to see")
    if config.normalisation != "data":  # stored: done file by file, with the numbers of each
        mean_C, std_C = torch.zeros_like(mean_C), torch.ones_like(std_C)
    std_C[std_C == 0] = 1.0  # a channel that never changes carries nothing: it becomes 0
    mean, scale = (value.float()[:, None, None] for value in (mean_C, std_C))
    none = np.zeros(0, np.int64)
    return LatentClips(
        name=name,
        train_NFCHW=(train - mean) / scale,
        validation_NFCHW=(validation - mean) / scale,
        mean=float(mean_C.mean()),
        std=float(std_C.mean()),
        skipped=skipped,
        mean_C=mean_C.float(),
        std_C=std_C.float(),
        texts=texts,
        train_text_N=none if train_text is None else train_text,
        validation_text_N=none if validation_text is None else validation_text,
    )


def _waves(config: LatentsConfig) -> Tensor:
    """[N, F, C, H, W]: each clip a sum of plane waves that drift at one velocity, mixed at random into the channels.

    x_f = Σ_k a_kc cos(2π(n_k·y/H + m_k·x/W − (n_k v/H + m_k u/W)·f) + φ_k): the frames differ, smoothly, by the
    drift alone.
    """
    N, F, C, H, W = config.clips, config.frames, config.channels, config.latent_height, config.latent_width
    draw = np.random.Generator(philox(config.data_seed, 0))
    waves_N2K = draw.integers(-1, 2, (N, 2, _WAVES))
    phase_NK = draw.random((N, _WAVES))
    speed_N2 = draw.uniform(-0.5, 0.5, (N, 2)) * np.array([H, W]) / 4  # latent positions a frame
    mix_NKC = draw.standard_normal((N, _WAVES, C))
    per_position_N2K = waves_N2K / np.array([H, W])[None, :, None]
    drift_NK = np.einsum("nik,ni->nk", per_position_N2K, speed_N2)
    turns = (
        per_position_N2K[:, 0, :, None, None, None] * np.arange(H)[:, None]
        + per_position_N2K[:, 1, :, None, None, None] * np.arange(W)
        - drift_NK[:, :, None, None, None] * np.arange(F)[:, None, None]
        + phase_NK[:, :, None, None, None]
    )
    clips = np.einsum("nkfhw,nkc->nfchw", np.cos(2 * math.pi * turns), mix_NKC)
    return torch.from_numpy(clips.astype(np.float32))


def _read_folder(config: LatentsConfig) -> tuple[dict[str, _File], tuple[SkippedFile, ...]]:
    """Usable files by their path relative to the folder, and the others with the reason."""
    root = place(config.path, "path", f"a folder of latents ({_SUFFIX} files)")
    files: dict[str, _File] = {}
    skipped: list[SkippedFile] = []
    # runs made before folders were walked whole must find the same files when they are resumed
    if root.is_file() or config.data_version < 2:
        paths = [root] if root.is_file() else text_files(root)
    else:
        found = walk(root)
        paths = list(found.files)
        skipped += found.odd
    wanted = config.clips
    for number, path in enumerate(paths):
        name = path.name if path == root else printable_path(path.relative_to(root))
        try:
            file = _read(path, config)
            # clips of another size or channel count cannot be in one batch
            _check_same(file, list(files.values()))
        except _UnusableError as reason:
            skipped.append(SkippedFile(name, str(reason), path.stat().st_size))
            continue
        # an even share of what is still wanted: one long file must not be the whole data set
        share = -(-wanted // (len(paths) - number))
        # a clone: a slice would keep the whole file in memory
        files[name] = _File(file.clips_NFCHW[:share].clone(), file.states_LE, file.mask_L)
        wanted -= len(files[name].clips_NFCHW)
        if wanted <= 0:
            break
    if not files:
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5]) or "it holds no files"
        raise DataError(f"no latents under path = {config.path!r} could be used ({reasons}): give {_SUFFIX} files")
    return files, tuple(skipped)


class _UnusableError(Exception):
    """Why a file gives no clips."""


def _read(path: Path, config: LatentsConfig) -> _File:
    if path.suffix != _SUFFIX:
        raise _UnusableError(f"is no {_SUFFIX} file: other formats are not opened, since they could run code")
    try:
        with safe_open(path, framework="pt") as opened:
            keys = set(opened.keys())
            tensors = {key: opened.get_tensor(key) for key in keys}
            notes = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _UnusableError(f"cannot be read ({plain_error(error)})") from error
    if "latents" not in keys:
        raise _UnusableError(f"has no tensor 'latents' (it has {', '.join(sorted(keys)) or 'none'})")
    latents_CFHW = _unpack_latents(tensors, notes)
    if not torch.isfinite(latents_CFHW).all():
        raise _UnusableError("holds values that are not finite")
    if config.normalisation == "stored":
        latents_CFHW = _normalize_by_stored(latents_CFHW, tensors)
    frames = latents_CFHW.shape[1]
    count = frames // config.frames
    if not count:
        raise _UnusableError(f"is too short: {frames} latent frames, and a clip takes {config.frames}")
    used = latents_CFHW[:, : count * config.frames].unflatten(1, (count, config.frames))
    return _File(used.permute(1, 2, 0, 3, 4).contiguous(), *_prompt(tensors))


def _unpack_latents(tensors: dict[str, Tensor], notes: dict[str, str]) -> Tensor:
    """`latents` as float32 [C, F, H, W]."""
    latents = tensors["latents"].float()
    if latents.dim() == 4:
        return latents
    if latents.dim() != 2:
        raise _UnusableError(f"has latents of shape {tuple(latents.shape)}; they are [C, F, H, W] or [F·H·W, C]")
    try:
        sizes = [
            int(tensors[name]) if name in tensors else int(notes[name]) for name in ("num_frames", "height", "width")
        ]
    except KeyError as missing:
        raise _UnusableError(f"has latents [F·H·W, C] and no {missing.args[0]} to unpack them by") from None
    except (ValueError, RuntimeError) as error:
        raise _UnusableError(f"has a num_frames, height or width that is no number ({error})") from error
    if min(sizes) < 1 or math.prod(sizes) != len(latents):
        raise _UnusableError(f"has {len(latents)} latents, which are not {' × '.join(map(str, sizes))}")
    return latents.T.unflatten(1, sizes)


def _normalize_by_stored(latents_CFHW: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    channels = len(latents_CFHW)
    for name in ("latents_mean", "latents_std"):
        if name not in tensors or tensors[name].numel() != channels:
            raise _UnusableError(f"has no {name} of {channels} numbers, which normalisation = 'stored' takes")
    mean, std = (tensors[name].float().reshape(-1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    if not bool((std > 0).all()):
        raise _UnusableError("has a latents_std that is not above 0")
    return (latents_CFHW - mean) / std


def _prompt(tensors: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    if "prompt_embeds" not in tensors:
        return None, None
    states_LE = tensors["prompt_embeds"].float()
    mask_L = tensors.get("prompt_attention_mask", torch.ones(len(states_LE))).to(torch.int64).flatten()
    if states_LE.dim() != 2 or len(mask_L) != len(states_LE) or not len(states_LE):
        raise _UnusableError(f"has prompt_embeds of shape {tuple(states_LE.shape)} with a mask of {len(mask_L)}")
    return states_LE, mask_L


def _check_same(file: _File, others: list[_File]) -> None:
    """Refuse a file whose latents or prompt have another shape than those of the first file that has them."""
    own = tuple(file.clips_NFCHW.shape[2:])
    if others and own != tuple(others[0].clips_NFCHW.shape[2:]):
        its = tuple(others[0].clips_NFCHW.shape[2:])
        raise _UnusableError(f"has latents of C, H, W = {own}, and the first file has {its}")
    width = next((other.states_LE.shape[1] for other in others if other.states_LE is not None), None)
    if file.states_LE is not None and width not in (None, file.states_LE.shape[1]):
        raise _UnusableError(f"has prompt_embeds of width {file.states_LE.shape[1]}, and the first prompt has {width}")


def _texts(files: list[_File]) -> TextStates | None:
    """Prompts of all files; a file without one gets a single token of zeros."""
    prompts = [file.states_LE for file in files if file.states_LE is not None]
    if not prompts:
        return None
    length, width = max(len(states) for states in prompts), prompts[0].shape[1]
    states_BLE = torch.zeros(len(files), length, width)
    mask_BL = torch.zeros(len(files), length, dtype=torch.int64)
    for row, file in enumerate(files):
        if file.states_LE is None or file.mask_L is None:
            mask_BL[row, 0] = 1
        else:
            states_BLE[row, : len(file.states_LE)] = file.states_LE
            mask_BL[row, : len(file.mask_L)] = file.mask_L
    return TextStates(states_BLE, mask_BL)
