"""LTX-Video's transformer as a video backbone: frozen weights with low-rank adapters (LoRA) that train.

It is called as `VideoFlow` is, so paths, terms, controls and measurements are the same. diffusers and peft are the
optional extra `ltx` and are imported when a model is built. The state of this module is what trains (LoRA, and the
anchor network and t* where there are) and a mark of the frozen weights that it belongs to: those come from the
configuration, and a checkpoint of another base is refused. Shapes: see video.py; L text tokens, E their width.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qcore.config import person_path
from qcore.config.ltx import LTX_SIZES, SPATIAL_RATIO, TEMPORAL_RATIO, LTXVideoConfig
from qcore.models.blocks import parameter_count
from qcore.models.video.anchor import AnchorNetwork
from qcore.models.video.backbone import TIME_SCALE, VideoOutput, pack, shifted_t_star, unpack
from qcore.models.video.codec import IdentityCodec

EXTRA = "run `make ltx` in the folder of Collapse Lab"
_CONFIG, _WEIGHTS, _SUBFOLDER = "config.json", ".safetensors", "transformer"
_MARKED_VALUES = 256


HUB_IDS = {"tiny": "", "2b": "Lightricks/LTX-Video", "13b": "Lightricks/LTX-Video-0.9.7-dev"}
"""Where the weights of each variant are published; empty: nowhere, they are random."""


class LTXVideo(nn.Module):
    """Velocity field of latent clips by LTX-Video's transformer; see `VideoFlow` for what the parts are for.

    The published "overdrive" multiplies the rotary positions along time; 1 is what the published weights were trained
    with, 0 hides the order of frames. A deep copy shares the frozen weights, so that an average of the model takes
    memory for what trains only.

    Attributes:
        transformer: diffusers' LTXVideoTransformer3DModel with LoRA, update x·A·B·alpha/r, B starting at 0: at first
            the velocity is the frozen model's.
        frozen_by_design: how the names begin of parameters that are rightly not trained.

    Raises:
        ValueError: for a missing extra, weights that cannot be loaded, or sizes that do not fit.
    """

    frozen_by_design = ("transformer.", "codec.")

    def __init__(self, config: LTXVideoConfig, data_shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.config = config
        self.latent_shape = data_shape
        self.codec = IdentityCodec()
        self.transformer = load_transformer(config)
        channels = self.transformer.config.in_channels
        if data_shape[1] != channels:
            raise ValueError(f"the latents have {data_shape[1]} channels and variant {config.variant} reads {channels}")
        self.transformer.requires_grad_(False)
        self.register_buffer(_weights_digest(self.transformer), torch.empty(0))
        _add_lora(self.transformer, config)
        if config.activation_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.anchor_network = AnchorNetwork(channels) if config.anchor == "network" else None
        self.t_star = nn.Parameter(torch.zeros(())) if config.learned_t_star else None
        self.register_buffer("text_LE", torch.zeros(1, self.text_width), persistent=False)
        self.register_buffer("text_mask_L", torch.ones(1, dtype=torch.int64), persistent=False)
        self.register_state_dict_post_hook(_leave_out_frozen)

    text_LE: Tensor
    text_mask_L: Tensor

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks."""
        blocks: nn.ModuleList = self.transformer.transformer_blocks
        return blocks

    @property
    def text_width(self) -> int:
        """Width E of the text states that the transformer reads."""
        return int(self.transformer.config.caption_channels)

    def use_text(self, text_LE: Tensor, mask_L: Tensor) -> None:
        """Text states (precomputed prompt embeddings) and their mask (1: a token, 0: padding) for every clip that is
        given none of its own. Before the first call it is a single token of zeros.

        Raises:
            ValueError: for another width.
        """
        self._check_text(text_LE[None], mask_L[None], 1)
        self.text_LE, self.text_mask_L = text_LE.to(self.text_LE), mask_L.to(self.text_mask_L)

    def forward(
        self,
        z_BFCHW: Tensor,
        t_B: Tensor,
        *,
        amplification: float = 5.0,
        anchor_BCHW: Tensor | None = None,
        positions_F: Tensor | None = None,
        text_BLE: Tensor | None = None,
        text_mask_BL: Tensor | None = None,
    ) -> VideoOutput:
        """Velocity of noised latents z at times t in [0, 1], the model's timestep being 1000·t.

        Rotary positions are (amplification · 8/frame_rate · f, 32·row, 32·column): seconds and pixels.

        Args:
            positions_F: the f of each frame (default 0 … F−1). anchor_BCHW is not read: the published weights have no
                place for it.
            text_BLE, text_mask_BL: as in `use_text`, for each clip.

        Raises:
            ValueError: for shapes that do not fit.
        """
        B, F, _, H, W = self._check(z_BFCHW, t_B)
        if text_BLE is None or text_mask_BL is None:
            text_BLE, text_mask_BL = self.text_LE.expand(B, -1, -1), self.text_mask_L.expand(B, -1)
        self._check_text(text_BLE, text_mask_BL, B)
        dtype = self.transformer.proj_in.weight.dtype
        read: list[Tensor] = []
        hook = self.transformer.proj_out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            (velocity_BNC,) = self.transformer(
                pack(z_BFCHW.transpose(1, 2)).to(dtype),
                encoder_hidden_states=text_BLE.to(dtype),
                timestep=TIME_SCALE * t_B,
                encoder_attention_mask=text_mask_BL,
                num_frames=F,
                height=H,
                width=W,
                video_coords=self._coordinates(positions_F, amplification, (B, F, H, W), z_BFCHW.device),
                return_dict=False,
            )
        finally:
            hook.remove()
        velocity_BFCHW = unpack(velocity_BNC, F, H, W).transpose(1, 2).to(z_BFCHW.dtype)
        return VideoOutput(velocity_BFCHW, read[0])

    def t_star_value(self, control: float) -> float | Tensor:
        """The collapse time: `control` itself, or with learned t* `shifted_t_star`, a 0-d tensor."""
        return control if self.t_star is None else shifted_t_star(self.t_star, control)

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """What trains, detached but not copied, and the mark of its base. LoRA has the names that diffusers'
        `load_lora_weights` reads (it takes alpha = rank unless told otherwise).
        """
        return {_public_name(name): value.detach() for name, value in self.state_dict().items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> LTXVideo:
        memo.update({id(value): value for value in self.parameters() if not value.requires_grad})
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _coordinates(
        self, positions_F: Tensor | None, amplification: float, shape: tuple[int, int, int, int], device: torch.device
    ) -> Tensor:
        """[B, 3, N]: where each token stands in time (seconds), and in height and width (pixels); float32."""
        B, F, H, W = shape
        frame_F = torch.arange(F, device=device) if positions_F is None else positions_F
        axes = (
            frame_F.float() * (amplification * TEMPORAL_RATIO / self.config.frame_rate),
            torch.arange(H, dtype=torch.float32, device=device) * SPATIAL_RATIO,
            torch.arange(W, dtype=torch.float32, device=device) * SPATIAL_RATIO,
        )
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).expand(B, -1, -1)

    def _check(self, z_BFCHW: Tensor, t_B: Tensor) -> torch.Size:
        channels = self.latent_shape[1]
        if z_BFCHW.dim() != 5 or 0 in z_BFCHW.shape or z_BFCHW.shape[2] != channels:
            raise ValueError(f"latents of shape {tuple(z_BFCHW.shape)}; this model takes [B, F, {channels}, H, W]")
        if t_B.shape != z_BFCHW.shape[:1]:
            raise ValueError(f"times of shape {tuple(t_B.shape)}; give one for each of {len(z_BFCHW)} clips")
        return z_BFCHW.shape

    def _check_text(self, text_BLE: Tensor, mask_BL: Tensor, clips: int) -> None:
        if text_BLE.dim() != 3 or text_BLE.shape != (clips, *mask_BL.shape[1:], self.text_width):
            raise ValueError(
                f"text states of shape {tuple(text_BLE.shape)} with a mask of {tuple(mask_BL.shape)}; this model takes "
                f"{clips} clips of tokens of width {self.text_width}, each with its place in the mask"
            )


def build_ltx(config: LTXVideoConfig, data_shape: tuple[int, int, int, int], *, seed: int = 0) -> LTXVideo:
    """The model of a configuration for latents of (F, C, H, W). Equal arguments give equal weights, bit for bit (random
    base and adapters; loaded ones do not depend on the seed); the global random state is kept.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return LTXVideo(config, data_shape)


def load_transformer(config: LTXVideoConfig) -> Any:
    """diffusers' LTXVideoTransformer3DModel of a configuration, in evaluation mode on the CPU.

    tiny without a model_id is drawn from the global random state; else weights come from model_id: a folder in
    diffusers' format (its own or with `transformer/`), one .safetensors file in diffusers' or the original names, or a
    name on the hub, which is downloaded unless offline. Nothing but safetensors is read. ValueError, naming the source
    and the remedy: no such source, no network, not enough memory, missing weights, the weights of another variant.
    """
    model_class = _libraries()[0]
    source = config.model_id or HUB_IDS[config.variant]
    whole = config.base_precision == "fp32" or (config.base_precision == "auto" and config.variant == "tiny")
    dtype = torch.float32 if whole else torch.bfloat16
    if not source:
        return nn.Module.to(model_class(**_sizes(config.variant)), dtype).eval()
    path = person_path(source, "model_id")
    if not os.path.exists(path) and (source[0] in "/.~" or source.endswith(_WEIGHTS) or source.count("/") > 1):
        raise ValueError(f"model_id = {source!r} does not exist: give a folder, a {_WEIGHTS} file or a name on the hub")
    if os.path.isfile(path):
        loaded = _from_file(path, config)
    else:
        loaded = _from_folder(str(path) if os.path.isdir(path) else source, config, dtype)
    return nn.Module.to(loaded, dtype).eval()


@contextlib.contextmanager
def _explain_load_errors(source: str, config: LTXVideoConfig) -> Iterator[None]:
    """Turn what diffusers raises while it reads weights into a ValueError that names the source and the remedy."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
        away = config.offline and not os.path.exists(source)
        remedy = "switch offline off" if away else "check the name, the variant and the network"
        raise ValueError(
            f"the weights of {source!r} cannot be loaded ({said}): {remedy}, or give a folder or file with them as "
            "model_id; variant = 'tiny' needs none"
        ) from error


def _libraries() -> tuple[Any, Any]:
    try:
        from diffusers import LTXVideoTransformer3DModel
        from peft import LoraConfig
    except ImportError as error:
        raise ValueError(f"LTX-Video needs diffusers and peft, the optional extra ltx ({error}): {EXTRA}") from error
    return LTXVideoTransformer3DModel, LoraConfig


def _from_folder(source: str, config: LTXVideoConfig, dtype: torch.dtype) -> Any:
    """Weights in diffusers' format, from a folder or the hub."""
    model_class = _libraries()[0]
    place = {"cache_dir": config.cache_dir or None, "local_files_only": config.offline}
    if not os.path.exists(os.path.join(source, _CONFIG)):
        place["subfolder"] = _SUBFOLDER
    with _explain_load_errors(source, config):
        sizes = model_class.load_config(source, **place)
    _check_sizes(source, sizes, config)
    _check_memory(source, _count(sizes), dtype)
    with _explain_load_errors(source, config):
        model, report = model_class.from_pretrained(
            source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **place
        )
    _check_whole(source, report["missing_keys"])
    return model


def _from_file(path: Path, config: LTXVideoConfig) -> Any:
    """Weights in one file, in its own precision; its sizes are the variant's, since the file does not say them."""
    from diffusers.loaders import single_file_utils

    if path.suffix != _WEIGHTS:
        raise ValueError(f"model_id = {str(path)!r} is refused: only {_WEIGHTS} files are read")
    model_class = _libraries()[0]
    sizes = _sizes(config.variant)
    _check_memory(str(path), _count(sizes), torch.bfloat16)
    with _explain_load_errors(str(path), config):
        weights = single_file_utils.load_single_file_checkpoint(str(path), local_files_only=True)
        found = single_file_utils.convert_ltx_transformer_checkpoint_to_diffusers(dict(weights))
    wanted = _empty(sizes).state_dict()
    _check_whole(str(path), [name for name in wanted if name not in found or found[name].shape != wanted[name].shape])
    with tempfile.TemporaryDirectory() as folder, _explain_load_errors(str(path), config):
        # with the sizes beside it, nothing has to be downloaded
        (Path(folder) / _CONFIG).write_text(json.dumps({**sizes, "_class_name": model_class.__name__}), "utf-8")
        return model_class.from_single_file(weights, config=folder, local_files_only=True)


def _sizes(variant: str) -> dict[str, Any]:
    """What diffusers builds a variant from."""
    sizes = LTX_SIZES[variant]
    return {
        "in_channels": sizes.channels,
        "out_channels": sizes.channels,
        "num_attention_heads": sizes.heads,
        "attention_head_dim": sizes.head_width,
        "cross_attention_dim": sizes.heads * sizes.head_width,
        "num_layers": sizes.layers,
        "caption_channels": sizes.text_width,
    }


def _empty(sizes: Mapping[str, Any]) -> Any:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return _libraries()[0].from_config(dict(sizes))


def _count(sizes: Mapping[str, Any]) -> int:
    return parameter_count(_empty(sizes))


def _check_sizes(source: str, sizes: Mapping[str, Any], config: LTXVideoConfig) -> None:
    for name in LTX_SIZES:
        if name != config.variant and all(sizes.get(key) == value for key, value in _sizes(name).items()):
            raise ValueError(
                f"{source!r} holds the weights of variant {name}, not of {config.variant}: set variant = {name!r}, or "
                "another model_id"
            )


def _check_memory(source: str, parameters: int, dtype: torch.dtype) -> None:
    needed, free = parameters * dtype.itemsize, _free_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"{source!r} needs {needed / 2**30:.1f} GiB of memory for {parameters / 1e9:.1f} thousand million weights, "
            f"and {free / 2**30:.1f} GiB are free: take a machine with more, base_precision = 'bf16', or a smaller "
            "variant"
        )


def _check_whole(source: str, missing: list[str]) -> None:
    if missing:
        raise ValueError(
            f"{source!r} lacks {len(missing)} weights of the model, {missing[0]!r} first: set the variant that it "
            "holds, or give the whole file"
        )


def _free_memory() -> int | None:
    """Bytes that a process can still take, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] * 1024 if found else None


def _add_lora(transformer: Any, config: LTXVideoConfig) -> None:
    names = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    for target in config.lora_targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            ends = sorted({name.rpartition("attn1.")[2] for name in names if "attn1." in name})
            raise ValueError(
                f"lora_targets has {target!r}, which no layer of LTX-Video ends with: take {', '.join(ends)}"
            )
    transformer.add_adapter(
        _libraries()[1](
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=list(config.lora_targets),
        )
    )
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # moments of a bfloat16 weight would lose small updates


def _weights_digest(transformer: nn.Module) -> str:
    """A name that stands for the frozen weights: a digest of names, shapes and evenly spaced values of each."""
    digest = hashlib.sha256()
    for name, value in transformer.named_parameters():
        flat = value.detach().flatten()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(flat[:: max(1, len(flat) // _MARKED_VALUES)].float().numpy().tobytes())
    return f"base_{digest.hexdigest()[:16]}"


def _leave_out_frozen(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}transformer.") and ".lora_" not in name]:
        del state[name]


def _public_name(name: str) -> str:
    return name.replace(".default.", ".")
