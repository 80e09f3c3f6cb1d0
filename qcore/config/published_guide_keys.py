"""The published "quantum collapse" configuration file: its sections and keys, their ranges, and what they become.

Declarations only; `guide.py` reads a file by them. A key has the range of our value when it becomes one unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qcore.config.controls import Control, Kind
from qcore.config.ltx import LTXVideoConfig
from qcore.config.sections import OptimConfig, Section
from qcore.config.video import ClipSamplingConfig, ClipsConfig, FlowConfig, VideoObjectiveConfig, VideoProbesConfig

METHODS = {
    **dict.fromkeys(("quantum_fm", "quantum"), "quantum"),
    **dict.fromkeys(("rab_fm", "rab", "afm"), "rab"),
    **dict.fromkeys(("ring_fm", "ring"), "ring"),
    **dict.fromkeys(("standard_fm", "standard", "plain"), "plain"),
    **dict.fromkeys(("spherical_fm", "spherical"), "spherical"),
}
WITH_ANCHOR = ("quantum", "rab", "ring")


def _same_control(section: type[Section], name: str) -> Control:
    return section.control(name)


def _guide_control(
    kind: Kind, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Control:
    return Control("", "", kind, None, "", low=low, high=high, choices=choices)


_FLAG, _TEXT, _EVERY = _guide_control("bool"), _guide_control("text"), _guide_control("int", 1, 1_000_000)
_METHOD = _guide_control("choice", choices=tuple(METHODS))
PAIRS = ("quantum.anchor_entropy_range", "data.resolution", "optimizer.betas")
KEYS: dict[str, dict[str, Control]] = {
    "model": {"id": _TEXT, "variant": _guide_control("choice", choices=("2b", "13b")), "cache_dir": _TEXT},
    "flow_matching": {"method": _METHOD, "t_star": _same_control(FlowConfig, "t_star"), "use_anchor_net": _FLAG},
    "training": {
        "strategy": _METHOD,
        "temporal_embedding_amplification": _same_control(FlowConfig, "frame_amplification"),
        "orthogonality_loss_weight": _same_control(VideoObjectiveConfig, "orthogonality_weight"),
        "quantum_metrics_log_interval": _same_control(VideoProbesConfig, "frames_every"),
    },
    "quantum": {
        "quantum_superposition_factor": _same_control(FlowConfig, "superposition"),
        "high_freq_jitter": _same_control(FlowConfig, "anchor_jitter"),
        "anchor_entropy_range": _guide_control("float", -20, 20),
        "collapse_threshold": _same_control(FlowConfig, "t_star"),
        "frame_repulsion_strength": _same_control(FlowConfig, "repulsion"),
        # ours reads 0 as "the path's own", so 0 is refused here
        "quantum_decay_rate": replace(_same_control(FlowConfig, "anchor_decay"), low=0.01),
        "cosine_similarity_penalty": _FLAG,
        "orthogonal_projection": _FLAG,
        "use_anchor_net": _FLAG,
    },
    "training_config": {
        "learning_rate": _same_control(OptimConfig, "learning_rate"),
        "batch_size": _same_control(OptimConfig, "batch_size"),
        "max_steps": _same_control(OptimConfig, "steps"),
        "gradient_clip_norm": _same_control(OptimConfig, "clip_norm"),
        "mixed_precision": _guide_control("choice", choices=("bf16", "fp16", "fp32", "no")),
        "gradient_accumulation_steps": _same_control(OptimConfig, "accumulation"),
        "validation_steps": _EVERY,
        "num_validation_videos": _same_control(ClipSamplingConfig, "sampled_clips"),
        "validation_guidance_scale": _guide_control("float", 0, 100),
    },
    "data": {
        "dataset_path": _TEXT,
        "resolution": _guide_control("int", 4, 8192),
        "num_frames": _same_control(ClipsConfig, "frames"),
        "frame_stride": _same_control(ClipsConfig, "frame_stride"),
        "normalize_frames": _FLAG,
        "temporal_consistency_check": _FLAG,
    },
    "optimizer": {
        "name": _guide_control("choice", choices=("adamw",)),
        "betas": _same_control(OptimConfig, "beta1"),
        "weight_decay": _same_control(OptimConfig, "weight_decay"),
        "eps": _guide_control("float", 1e-12, 1e-2),
    },
    "lr_scheduler": {
        "type": _guide_control("choice", choices=("cosine_annealing", "cosine", "constant", "constant_with_warmup")),
        "warmup_steps": _same_control(OptimConfig, "warmup_steps"),
        "min_lr": _guide_control("float", 0, 1),
    },
    "lora": {
        "enabled": _FLAG,
        "rank": _same_control(LTXVideoConfig, "lora_rank"),
        "alpha": _same_control(LTXVideoConfig, "lora_alpha"),
        "dropout": _same_control(LTXVideoConfig, "lora_dropout"),
        "target_modules": _same_control(LTXVideoConfig, "lora_targets"),
    },
    "output": {
        "save_dir": _TEXT,
        "checkpoint_steps": _same_control(VideoProbesConfig, "checkpoint_every"),
        **dict.fromkeys(("save_full_model", "save_quantum_metrics", "export_quantum_analysis"), _FLAG),
    },
    "logging": {
        "use_wandb": _FLAG,
        **dict.fromkeys(("project_name", "run_name"), _TEXT),
        **dict.fromkeys(
            ("log_quantum_metrics", "log_frame_divergence", "log_state_collapse_energy", "log_orthogonality_scores"),
            _FLAG,
        ),
        **dict.fromkeys(("loss_log_steps", "metric_log_steps", "sample_log_steps"), _EVERY),
    },
    "debug": dict.fromkeys(
        ("enabled", "save_intermediate_states", "visualize_state_collapse", "track_frame_similarity"), _FLAG
    ),
}

STRAIGHT = {
    "training.temporal_embedding_amplification": "frame_amplification",
    "training_config.learning_rate": "learning_rate",
    "training_config.batch_size": "batch_size",
    "training_config.max_steps": "steps",
    "training_config.gradient_clip_norm": "clip_norm",
    "training_config.gradient_accumulation_steps": "accumulation",
    "training_config.validation_steps": "eval_every",
    "training_config.num_validation_videos": "sampled_clips",
    "quantum.orthogonal_projection": "orthogonal_projection",
    "optimizer.weight_decay": "weight_decay",
    "lr_scheduler.warmup_steps": "warmup_steps",
    "output.checkpoint_steps": "checkpoint_every",
    "logging.sample_log_steps": "sample_every",
}
"""Keys that become one of our values unchanged."""

_ALWAYS_SHOWN = "it is measured and shown in every run"
NO_EFFECT = {
    "training_config.validation_guidance_scale": "clips are drawn without guidance by a text",
    "data.temporal_consistency_check": "every file is checked on opening, and a broken one is skipped and named",
    "optimizer.name": "AdamW is the only optimizer",
    "optimizer.eps": "AdamW's ε is 1e-8",
    "output.save_dir": "a run lives in the runs folder under its own name",
    "output.save_full_model": "a checkpoint holds what trains: the small backbone whole, of LTX-Video the LoRA",
    "output.save_quantum_metrics": "every measurement is kept in the run's database",
    "output.export_quantum_analysis": "the pages draw it from the run's database, during the run and after it",
    "logging.use_wandb": "a run logs to its own database and to nothing else",
    "logging.project_name": "there are no projects",
    "logging.run_name": "the run's name is chosen when it is started",
    "logging.loss_log_steps": "the loss of every step is recorded",
    **{f"logging.{name}": _ALWAYS_SHOWN for name in KEYS["logging"] if name.startswith("log_")},
    "debug.enabled": "there is no separate debugging mode",
    "debug.save_intermediate_states": "noised, denoised and generated clips are kept in every run",
    "debug.visualize_state_collapse": "the video page draws the path and the frames' spectrum over t in every run",
    "debug.track_frame_similarity": _ALWAYS_SHOWN,
}

PUBLISHED: dict[str, Any] = {
    "flow_matching.t_star": 0.2,
    "flow_matching.use_anchor_net": True,
    "training.temporal_embedding_amplification": 5.0,
    "training.orthogonality_loss_weight": 0.1,
    "quantum.quantum_superposition_factor": 3.0,
    "quantum.high_freq_jitter": 0.1,
    "quantum.anchor_entropy_range": [-8.0, 8.0],
    "quantum.frame_repulsion_strength": 5.0,
    "quantum.quantum_decay_rate": 25.0,
}
"""The published recipe of the quantum path: what a file with this path, or without one, leaves out."""
