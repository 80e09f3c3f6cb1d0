"""The sections of a video run: backbone, clips, flow, objective, probes, sampling.

Convention: t = 1 is noise, t = 0 is data; z_i = α ε_i + β A + γ x_i for frame i, noise ε, anchor A. What bends a path
(`FlowConfig`) and what weighs the loss may change while training, since telling them apart is what the lab is for.
"""

from __future__ import annotations

from typing import Any, Literal

from qcore.config.controls import knob
from qcore.config.sections import CommonProbes, Section, data_version


class VideoFlowConfig(Section):
    """Factorised space-time transformer that predicts the velocity of every frame, and what stands around it."""

    section = "model"
    kind: Literal["video_flow"] = knob("video_flow", help="Model family.")
    width: int = knob(64, low=8, high=4096, unit="channels", scale="log", help="Hidden width D of every layer.")
    layers: int = knob(2, low=1, high=48, help="Number of layers: each looks across space, then across time.")
    heads: int = knob(4, low=1, high=64, help="Attention heads H; the width is divided evenly among them.")
    patch: int = knob(4, low=1, high=64, unit="px", help="Side of the square patch that becomes one token.")
    ffn_width: int = knob(0, low=0, high=32768, unit="channels", help="Feed-forward width; 0 chooses twice the width.")
    anchor: Literal["statistics", "network"] = knob(
        "statistics",
        help="statistics: the anchor is made from the clip by the path's own recipe · network: a network learns its "
        "mean and spread.",
    )
    anchor_input: bool = knob(
        False, help="Show the anchor to the backbone: what image-to-video needs, and what lets it ignore the noise."
    )
    learned_t_star: bool = knob(False, help="Learn the collapse time t*, starting from the control's value.")
    latents: Literal["pixels", "space_to_channel", "autoencoder"] = knob(
        "pixels",
        help="What the flow acts on: pixels · space_to_channel: patches moved into channels · autoencoder: small, "
        "trained on the clips before the run starts.",
    )
    latent_patch: int = knob(2, low=2, high=32, unit="px", help="Pixels per side that become one latent position.")
    latent_channels: int = knob(4, low=1, high=64, help="Channels of the autoencoder's latents.")
    ema_decay: float = knob(
        0.99, low=0, high=0.99999, help="Decay of the averaged weights that samples are drawn from; 0 switches it off."
    )
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")


class ClipsConfig(Section):
    """Where the clips come from."""

    section = "data"
    source: Literal["digits", "folder"] = knob(
        "digits", help="digits: handwritten digits that drift over a canvas · folder: your own videos."
    )
    path: str = knob("", help="Folder of video files, or one file (source: folder).")
    clips: int = knob(
        2048, low=16, high=1_000_000, scale="log", help="Maximum number of clips that are made, or cut from videos."
    )
    frames: int = knob(8, low=2, high=512, unit="frames", help="Frames F of a clip.")
    canvas: int = knob(8, low=4, high=1024, unit="px", help="Height and width of a frame.")
    colour: Literal["grey", "rgb"] = knob("grey", help="Channels of a frame (source: folder).")
    frame_stride: int = knob(1, low=1, high=64, unit="frames", help="Take every n-th frame of a video.")
    clip_stride: int = knob(
        0, low=0, high=10_000, unit="frames", help="Between starts of clips; 0: clips do not overlap."
    )
    digit_size: int = knob(5, low=3, high=32, unit="px", help="Side of a digit on the canvas (source: digits).")
    speed_low: float = knob(0.4, low=0, high=16, unit="px per frame", help="Slowest digit (source: digits).")
    speed_high: float = knob(0.9, low=0, high=16, unit="px per frame", help="Fastest digit (source: digits).")
    validation_fraction: float = knob(0.1, low=0.01, high=0.5, help="Share of the clips, or files, held out.")
    data_seed: int = knob(0, low=0, high=2**31 - 1, help="Seed of the trajectories and of the split.")
    data_version: int = data_version()


class FlowConfig(Section):
    """The path from noise to data, and the noise. All may change while training."""

    section = "flow"
    flow_path: Literal["plain", "rab", "quantum", "ring", "spherical"] = knob(
        "plain",
        live=True,
        risky=True,
        help="plain: straight line · rab: bridge through an anchor · quantum: anchor with a sharp collapse · "
        "ring: noise to anchor, anchor to data · spherical: along the sphere.",
    )
    noise_correlation: float = knob(
        0.0,
        low=0,
        high=1,
        live=True,
        risky=True,
        help="Share ρ of the noise that all frames of a clip have in common; the published method has 1.",
    )
    t_star: float = knob(0.2, low=0.02, high=0.95, live=True, risky=True, help="Time t* at which frames separate.")
    anchor_width: float = knob(
        0.0, low=0, high=1, live=True, help="Width w of the anchor's bump; 0: the path's own (rab 0.12, quantum 0.05)."
    )
    anchor_decay: float = knob(
        0.0, low=0, high=100, live=True, help="Decay k of the anchor below t*; 0: the path's own (rab 8, quantum 25)."
    )
    repulsion: float = knob(5.0, low=0, high=50, live=True, help="Repulsion of frames below t* (flow_path: quantum).")
    frame_amplification: float = knob(
        5.0, low=0, high=50, live=True, help="Factor on the frame-position embedding; 0 hides the order of frames."
    )
    superposition: float = knob(
        3.0, low=0, high=20, live=True, help="Factor on the anchor network's variance over frames."
    )
    anchor_jitter: float = knob(0.1, low=0, high=2, live=True, help="Noise added to what the anchor network reads.")
    log_variance_limit: float = knob(
        8.0, low=0.5, high=20, live=True, help="The anchor network's log-variance is kept within ± this."
    )
    time_sampling: Literal["uniform", "logit_normal"] = knob(
        "uniform", live=True, help="How training times t are drawn."
    )


def _weight(default: float, help: str) -> Any:
    return knob(default, low=0, high=10, scale="log", live=True, help=help)


class VideoObjectiveConfig(Section):
    """Weights and settings of the loss terms of a video run; 0 switches a term off."""

    section = "objective"
    flow_weight: float = _weight(1.0, "Mean squared error of the velocity.")
    orthogonality_weight: float = _weight(0.0, "Mean off-diagonal cosine of the predicted frames; the guide has 0.1.")
    orthogonality_warmup: int = knob(
        1000, low=0, high=1_000_000, unit="steps", live=True, help="Steps over which the orthogonality weight grows."
    )
    orthogonality_target: Literal["none", "data"] = knob(
        "none",
        live=True,
        help="none: push frames apart without limit · data: only as far as the data's own frames are apart.",
    )
    orthogonal_projection: bool = knob(
        False,
        live=True,
        help="Remove from predicted frames what they share with earlier ones before they are compared.",
    )
    decoherence_weight: float = _weight(0.0, "Similarity of predicted frames beyond the data's, below t* only.")
    temporal_weight: float = _weight(0.0, "Squared difference of predicted and real changes from frame to frame.")
    anchor_kl_weight: float = _weight(
        0.0, "KL from the anchor network's posterior to the standard normal, nats per value."
    )


class VideoProbesConfig(CommonProbes):
    """What is measured of a video model beside the loss, and how often."""

    frames_every: int = knob(
        20, low=1, high=1_000_000, unit="steps", live=True, help="Steps between measurements of predicted frames."
    )
    measured_clips: int = knob(32, low=4, high=1024, help="Clips drawn at each sample, from fixed seeds, and measured.")


class ClipSamplingConfig(Section):
    """How clips are drawn from the flow."""

    section = "sampling"
    solver: Literal["euler", "heun", "adaptive"] = knob(
        "euler", help="Method that follows the velocity from t=1 to t=0."
    )
    solver_steps: int = knob(20, low=1, high=1000, help="Steps of euler and heun; both also step exactly onto jumps.")
    tolerance: float = knob(1e-3, low=1e-8, high=0.1, scale="log", help="Error per step of the adaptive solver.")
    sample_noise_correlation: float = knob(
        -1.0, low=-1, high=1, live=True, help="Share of common noise when sampling; −1: as in training."
    )
    anchor_source: Literal["prior", "data"] = knob(
        "prior", help="prior: anchors drawn without any clip · data: from held-out clips (image-to-video)."
    )
    sampled_clips: int = knob(4, low=1, high=64, help="Clips of one generation.")
    averaged_weights: bool = knob(True, help="Draw from the averaged weights (EMA) instead of the live ones.")
    sample_seed: int = knob(0, low=0, high=2**31 - 1, help="Seed of the noise: same seed, same clips.")
