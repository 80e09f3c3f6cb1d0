"""Rules about models of clips."""

from __future__ import annotations

from qcore.detect import video
from qcore.detect.finding import CLIP_FAMILY
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.detect.table.measured import ZOO_CLIPS
from qcore.probes import catalog

_FLICKER = f"{ZOO_CLIPS}; not counted: half of the noise in common, where clips flicker for 500 steps and then move"
_SHARED, _NOISE, _MISMATCH, _VELOCITY = 0.99, 0.2, 0.05, 0.02
"""Common noise from which on frames have nothing of their own; how near to noise clips are noise; a difference of
common noise that counts; an error of the velocity that does."""

MOTIONS = {"one": 0.05, "few": 0.5}
"""Distinct motions ÷ samples of the exact flow up to which the noise chose nothing, and below which too little."""

RULES: tuple[Rule, ...] = (
    Rule(
        "averaging_collapse",
        ("V1",),
        "Frames average into one",
        "Frames of generated clips are far nearer to each other than the data's, so nothing moves and edges blur. "
        "Where all frames share their noise, nothing random is left to select the motion, whatever the path's weights.",
        {
            "divergence": 0.5,
            "release": 0.65,
            "overshoot": 1.5,
            "backwards": -0.1,
            "likeness": 0.5,
            "motion": 0.5,
            "shared": _SHARED,
            "noise": _NOISE,
            "mismatch": _MISMATCH,
            "error": _VELOCITY,
        },
        ZOO_CLIPS,
        (catalog.frames("generated", "divergence"),),
        video.averaging_collapse,
        shows=(
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "*"),
            catalog.frames("denoised", "*"),
            catalog.FLOW_NOISE_CORRELATION,
            catalog.FLOW_SAMPLE_NOISE_CORRELATION,
            catalog.FLOW_VELOCITY_ERROR,
            catalog.EVAL_FLOW,
        ),
        families=CLIP_FAMILY,
        past="Frames averaged into one",
        role="symptom",
        explained_by=EXPLAINED_BY["averaging_collapse"],
    ),
    Rule(
        "data_not_model",
        ("V2",),
        "The data are measured in place of the model",
        "What is said of the model's clips is bit for bit what the data measure, or never changes. "
        "A curve that no training can move looks perfect from the first step, and says nothing about the model.",
        {"measures": 3},
        ZOO_CLIPS,
        (catalog.frames("denoised", "divergence"), catalog.frames("generated", "divergence")),
        video.data_not_model,
        shows=(catalog.frames("denoised", "*"), catalog.frames("data", "*"), catalog.frames("generated", "*")),
        families=CLIP_FAMILY,
        past="The data were measured in place of the model",
    ),
    Rule(
        "wrong_velocity",
        ("V3",),
        "The velocity is not that of the path",
        "The model is trained on a velocity that is not the derivative of its path, as when weights are normalised and "
        "their derivatives are not. Samples then miss the data, with an amplitude that looks like diversity.",
        {"error": _VELOCITY},
        ZOO_CLIPS,
        (catalog.FLOW_VELOCITY_ERROR,),
        video.wrong_velocity,
        shows=(catalog.frames("generated", "std_ratio"), catalog.EVAL_FLOW),
        families=CLIP_FAMILY,
        past="The velocity was not that of the path",
        clear=(Clear(catalog.FLOW_VELOCITY_ERROR, high="error"),),
    ),
    Rule(
        "flicker",
        ("V4",),
        "Clips flicker instead of moving",
        "A movement in generated clips does not continue from one frame to the next, and more changes than in the "
        "data. "
        "Pushing frames apart raises every distance between them, without creating motion.",
        {
            "coherence": -0.1,
            "data": 0.2,
            "change": 1.2,
            "still": 0.5,
            "falls": 0.85,
            "rises": 0.1,
            "noise": _NOISE,
            "mismatch": _MISMATCH,
            "error": _VELOCITY,
        },
        _FLICKER,
        (catalog.frames("generated", "coherence"),),
        video.flicker,
        shows=(
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "*"),
            catalog.FLOW_NOISE_CORRELATION,
            catalog.FLOW_SAMPLE_NOISE_CORRELATION,
            catalog.FLOW_VELOCITY_ERROR,
        ),
        families=CLIP_FAMILY,
        past="Clips flickered instead of moving",
        role="symptom",
        grade="weak",
        explained_by=EXPLAINED_BY["flicker"],
    ),
    Rule(
        "frames_unordered",
        ("V5",),
        "The model does not know the order of frames",
        "Shuffling the frames of a clip shuffles the velocity and changes nothing else, or next to nothing. "
        "Without an embedding of their place frames cannot follow one another; with shared noise they are identical.",
        {"response": 0.003},
        ZOO_CLIPS,
        (catalog.FLOW_POSITION_RESPONSE,),
        video.frames_unordered,
        shows=(catalog.frames("generated", "coherence"),),
        families=CLIP_FAMILY,
        past="The model did not know the order of frames",
        clear=(Clear(catalog.FLOW_POSITION_RESPONSE, low="response"),),
    ),
    Rule(
        "noise_mismatch",
        ("V6",),
        "Sampled with other noise than trained with",
        "Frames share another part of their noise when clips are drawn than when the model is trained. "
        "The model meets noise that it has never seen: with less in common clips blow up, with more they freeze.",
        {"mismatch": _MISMATCH},
        ZOO_CLIPS,
        (catalog.FLOW_SAMPLE_NOISE_CORRELATION,),
        video.noise_mismatch,
        shows=(
            catalog.FLOW_NOISE_CORRELATION,
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "divergence"),
        ),
        families=CLIP_FAMILY,
        past="Clips were sampled with other noise than trained with",
    ),
)
