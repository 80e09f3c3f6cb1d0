"""Rules about what a flow is trained on."""

from __future__ import annotations

from qcore.detect import clips
from qcore.detect.finding import CLIP_FAMILY
from qcore.detect.rule import Rule
from qcore.probes import catalog

_EXACT = "none can be: in a healthy run the measure is never 0"

RULES: tuple[Rule, ...] = (
    Rule(
        "latent_spread",
        ("X1",),
        "What the flow acts on is not scaled",
        "The pixels or latents are much larger, much smaller or off centre beside the noise that they are mixed with. "
        "At nearly every time the model then sees only the one or only the other, and samples miss the data.",
        {"low": 0.33, "high": 3.0, "mean": 1.5},
        "latents of the codecs have a spread of 0.9 to 1.1 and a mean within 0.1 of 0",
        (catalog.CLIPS_STD,),
        clips.latent_spread,
        shows=(catalog.CLIPS_MEAN,),
        families=CLIP_FAMILY,
        past="What the flow acted on was not scaled",
    ),
    Rule(
        "time_distribution",
        ("X2",),
        "Times are not drawn as asked for",
        "The times at which the model is trained are not distributed as time_sampling says: a constant, both ends, "
        "or half of the range. A sampler passes through all of it.",
        {"distance": 0.15, "values": 0.5},
        "once in thirty million looks, by the law of Kolmogorov and Smirnov",
        (catalog.CLIPS_TIME_DISTANCE,),
        clips.time_distribution,
        shows=(
            catalog.CLIPS_TIME_LIMIT,
            catalog.CLIPS_TIME_LOW,
            catalog.CLIPS_TIME_HIGH,
            catalog.CLIPS_TIME_VALUES,
        ),
        families=CLIP_FAMILY,
        past="Times were not drawn as asked for",
    ),
    Rule(
        "untrained_frames",
        ("X3",),
        "The loss does not read all frames",
        "At some frames the gradient of the loss is exactly 0, so that no step teaches the model anything about them. "
        "They keep the velocity of the start, and samples flicker or stay noise there.",
        {"share": 0.0},
        "none can be: in a healthy run every frame has a gradient",
        (catalog.CLIPS_UNTRAINED_FRAMES,),
        clips.untrained_frames,
        families=CLIP_FAMILY,
        past="The loss did not read all frames",
    ),
    Rule(
        "time_ignored",
        ("X4",),
        "The time does not reach the model",
        "The velocity is the same whatever time the model is told, so that it cannot know how much of its input is "
        "noise. It learns one average velocity for all times.",
        {"response": 1e-5},
        _EXACT,
        (catalog.CLIPS_TIME_RESPONSE,),
        clips.time_ignored,
        families=CLIP_FAMILY,
        past="The time did not reach the model",
    ),
    Rule(
        "input_ignored",
        ("X5",),
        "The noisy clip does not reach the model",
        "The velocity is the same whatever clip the model is given, so that it can only learn the mean of the data. "
        "All samples then end at the same picture.",
        {"response": 1e-5},
        _EXACT,
        (catalog.CLIPS_INPUT_RESPONSE,),
        clips.input_ignored,
        families=CLIP_FAMILY,
        past="The noisy clip did not reach the model",
    ),
    Rule(
        "scrambled_pixels",
        ("X6",),
        "Frames are put together in another order",
        "The numbers of the clips make pictures that move only in another order of their axes. So it is when an array "
        "was reshaped where it had to be permuted, and rows of several frames interleave.",
        {"roughness": 1.3, "gap": 0.25, "near": 0.3, "bars": 0.95},
        "of moving digits of 6 sizes and of films, no other reading was smoother than 0.7 times",
        (catalog.CLIPS_ROUGHNESS, catalog.CLIPS_TIME_ALIKE),
        clips.scrambled_pixels,
        shows=(catalog.CLIPS_SPACE_ALIKE, catalog.CLIPS_TIME_NEAR),
        families=CLIP_FAMILY,
        past="Frames were put together in another order",
    ),
)
"""In the order of the way from clips to the loss."""
