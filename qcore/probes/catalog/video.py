"""Series of runs on clips: frames beside the data's, the path of the flow, and the anchor."""

from __future__ import annotations

from dataclasses import replace

from qcore.base.words import name_words
from qcore.probes.catalog.declare import Declared, group, pattern, series
from qcore.probes.catalog.units import PIXELS, RATIO, SHARE

FRAMES = group("frames", "frames")
FLOW = group("flow", "flow")
ANCHOR = group("anchor", "anchor")

FLOW_NOISE_CORRELATION = series(
    "flow/noise_correlation",
    "noise that frames share in training",
    SHARE,
    "Share of the noise that is the same in all frames of a clip while training.",
    needs="frames",
)
FLOW_SAMPLE_NOISE_CORRELATION = series(
    "flow/sample_noise_correlation",
    "noise that frames share when sampling",
    SHARE,
    "Share of the noise that is the same in all frames of a generated clip; it must be that of training.",
    needs="frames",
)
FLOW_T_STAR = series(
    "flow/t_star",
    "collapse time t*",
    "time",
    "Time from which frames may separate; a learned t* changes during training.",
    needs="frames",
)
FLOW_VELOCITY_ERROR = series(
    "flow/velocity_error",
    "error of the target velocity",
    "relative",
    "The target against the actual change of z from one time to the next: far from 0, the model is taught a velocity "
    "that leads elsewhere.",
    needs="frames",
)
FLOW_POSITION_RESPONSE = series(
    "flow/position_response",
    "response to the order of frames",
    "relative",
    "How much the velocity changes when the frames' positions are shuffled and put back: at 0 the model does not know "
    "which frame is which.",
    needs="frames",
)
ANCHOR_ENTROPY = series(
    "anchor/entropy",
    "entropy of the anchor",
    "nats per value",
    "Entropy of the anchor's pixels; it falls when all clips come to share one anchor.",
    needs="frames",
)
ANCHOR_MEAN = series("anchor/mean", "mean of the anchor", PIXELS, "Mean of the anchor's pixels.", needs="frames")
ANCHOR_SPREAD = series(
    "anchor/spread", "spread of the anchor", PIXELS, "How far anchors lie from their mean.", needs="frames"
)

_MEASURES = {
    "divergence": (
        "distance between frames",
        f"RMS, {PIXELS}",
        "Mean distance of every pair of frames of a clip: 0 for a still.",
        "Divergence",
    ),
    "cosine": (
        "mean cosine of frames",
        "cosine",
        "1: all frames are the same picture up to brightness.",
        "Cosine",
    ),
    "orthogonality": (
        "orthogonality of frames",
        "1 − mean |cosine|",
        "Unrelated pictures have 1, and so has noise; frames of one scene are not unrelated.",
        "Orthogonality",
    ),
    "coherence": (
        "coherence of motion",
        "cosine",
        "Whether the next change continues in the direction of the last one: real motion is above 0; random jumps give "
        "about −0.5.",
        "Coherence",
    ),
    "energy": (
        "collapse energy of frames",
        f"RMS, {PIXELS}",
        "How far the frames of a clip are from their mean frame: it falls when frames collapse into one, and frames "
        "that jump about raise it as motion does.",
        "Energy",
    ),
    "entanglement": (
        "entanglement of frames",
        "mutual information, nats",
        "How much one frame tells of another, as if both were Gaussian: it grows without limit for ghosts and is near "
        "0 for noise; moving pictures lie between.",
        "Entanglement",
    ),
    "std": ("spread of the pixels", PIXELS, "Standard deviation of all pixels.", "Spread"),
    "std_ratio": ("spread ÷ the data's", RATIO, "Standard deviation of all pixels, relative to the data's.", ""),
    "lag_change": ("change from frame to frame", f"RMS, {PIXELS}", "How much changes from one frame to the next.", ""),
    "lag_ratio": (
        "change from frame to frame ÷ the data's",
        RATIO,
        "1: things move as far as in the data; below: a ghost that stands still; above: flicker.",
        "Change",
    ),
    "motion_variance": (
        "variance of the motion",
        "variance",
        "How differently the clips move; less than 0 is flicker.",
        "",
    ),
    "motion_ratio": (
        "variance of the motion ÷ the data's",
        RATIO,
        "1: clips move in as many different ways as the data do; near 0: all of them make the same movement.",
        "Variety",
    ),
}
FRAME_SOURCES = {"generated": "generated", "denoised": "denoised", "data": "data", "held_out": "held-out data"}
"""Whose clips are measured, with the words for them."""


def frames(source: str, measure: str) -> str:
    """A measure of the frames of generated, denoised, data or held-out clips: `frames/<source>/<measure>`."""
    return f"frames/{source}/{measure}"


def anchor(measure: str) -> str:
    """A measure of the anchor: `anchor/<measure>`."""
    return f"anchor/{measure}"


def frame_measure(measure: str) -> Declared:
    """A measure of frames in words, whosever they are."""
    title, unit, meaning, short = _MEASURES.get(measure, (name_words(measure), "", "", ""))
    return Declared(measure, title, unit, meaning, short, needs="frames")


def _frames(source: str, measure: str) -> Declared:
    words = frame_measure(measure)
    return replace(words, title=f"{words.title}, {FRAME_SOURCES.get(source, name_words(source))}", short="")


pattern(r"frames/([^/]+)/(.+)", _frames, *(f"frames/<clips>/{measure}" for measure in _MEASURES))
