"""Rules about the path that draws clips, held against the path that is trained."""

from __future__ import annotations

from qcore.detect import clip_sampler
from qcore.detect.finding import CLIP_FAMILY
from qcore.detect.rule import Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.probes import catalog

_TIMES = (catalog.SAMPLER_TIME_FIRST, catalog.SAMPLER_TIME_LAST, catalog.SAMPLER_TIME_LOW, catalog.SAMPLER_TIME_HIGH)
_STD_RATIO = catalog.frames("generated", "std_ratio")

RULES: tuple[Rule, ...] = (
    Rule(
        "sampler_velocity",
        ("W1", "W2", "W3"),
        "The sampler does not follow the model that is trained",
        "From one step of the sampler to the next, clips move by another velocity than the trained model has there. "
        "However small the loss, samples are those of something else.",
        {
            "velocity": clip_sampler.VELOCITY,
            "units": clip_sampler.UNITS,
            "outside": clip_sampler.OUTSIDE,
            "opposite": 0.9,
        },
        "0 by construction: measured at most 2e-4 where the limit is 5e-3, for every path and solver",
        (catalog.SAMPLER_VELOCITY_ERROR,),
        clip_sampler.sampler_velocity,
        shows=(
            catalog.SAMPLER_VELOCITY_COSINE,
            catalog.SAMPLER_VELOCITY_MIRRORED,
            catalog.SAMPLER_ROUNDING,
            catalog.EVAL_FLOW,
            _STD_RATIO,
        ),
        families=CLIP_FAMILY,
        past="The sampler did not follow the model that is trained",
    ),
    Rule(
        "sampler_times",
        ("W4",),
        "The sampler uses other times than training",
        "Clips begin elsewhere than at noise, end before the data, or are moved at times that the model was never "
        "trained on. Its velocity there means nothing.",
        {"outside": clip_sampler.OUTSIDE, "end": 0.05, "start": 0.25},
        "0 by construction: a solver goes from 1 to 0",
        (catalog.SAMPLER_TIME_OUTSIDE,),
        clip_sampler.sampler_times,
        shows=_TIMES,
        families=CLIP_FAMILY,
        past="The sampler used other times than training",
    ),
    Rule(
        "lagging_average",
        ("W5",),
        "Clips are drawn from an average that lags",
        "Samples come from averaged weights, and those are worse than the weights in training: the average remembers "
        "too much for the steps made so far, or is not updated. Clips show what the model was, not what it is.",
        {"ratio": clip_sampler.LAG},
        "0 of 5 healthy exam-sized runs of video, at most 1.02",
        (catalog.AVERAGE_LOSS_RATIO,),
        clip_sampler.lagging_average,
        shows=(catalog.AVERAGE_DISTANCE,),
        families=CLIP_FAMILY,
        past="Clips were drawn from an average that lagged",
        grade="weak",
    ),
    Rule(
        "sample_spread",
        (),
        "Samples spread otherwise than the data",
        "The pixels of generated clips are spread far less, or far more, than the data's, in samples that follow one "
        "another. It shows that something between noise and picture is of the wrong size, and not what.",
        {"low": clip_sampler.LOW, "low_release": 0.6, "high": clip_sampler.HIGH, "high_release": 1.8, "steps": 8},
        "0 of 5 exam-sized runs of video, all between .75 and 1.3",
        (_STD_RATIO,),
        clip_sampler.sample_spread,
        shows=(
            catalog.SAMPLER_STEPS,
            catalog.frames("generated", "divergence"),
            catalog.frames("held_out", "divergence"),
            catalog.frames("held_out", "std"),
            catalog.FLOW_VELOCITY_ERROR,
        ),
        families=CLIP_FAMILY,
        past="Samples spread otherwise than the data",
        role="symptom",
        explained_by=EXPLAINED_BY["sample_spread"],
    ),
)
