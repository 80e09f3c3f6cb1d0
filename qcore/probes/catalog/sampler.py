"""Series of the path that generates, held against the path that is trained: text and clips."""

from __future__ import annotations

from qcore.probes.catalog.declare import group, series
from qcore.probes.catalog.units import NATS, RATIO, SHARE

SAMPLER = group("sampler", "sampling against training")
REPEAT = group("repeat", "repeated calls")
ROUND_TRIP = group("round_trip", "text and ids")
HEAD = group("head", "output layer")
AVERAGE = group("average", "averaged weights")

_SPREAD = "÷ spread of the logits"
_TIME = "time t"

REPEAT_DIFFERENCE = series(
    "repeat/difference",
    "difference of two equal calls in evaluation",
    _SPREAD,
    "How far the outputs of two equal calls in evaluation are apart: exactly 0 unless dropout or other chance is on.",
)
HEAD_PROBABILITY_SHARE = series(
    "head/probability_share",
    "outputs that are probabilities already",
    SHARE,
    "Share of the positions whose outputs are none below 0 and sum to 1: the loss takes their softmax again.",
    form=".0%",
    needs="text",
)
SAMPLER_CACHE_ERROR = series(
    "sampler/cache_error",
    "difference of the cached step from the whole pass",
    _SPREAD,
    "How far the logits of the step that generates are from those of the whole pass on the same ids: only rounding "
    "may differ.",
    needs="text",
)
SAMPLER_CACHE_FIRST = series(
    "sampler/cache_first",
    "first token at which the cached step differs",
    "token",
    "Counted from 0; only there where it differs by more than rounding.",
    form=".0f",
    needs="text",
)
SAMPLER_CACHE_NONFINITE = series(
    "sampler/cache_nonfinite",
    "logits of the cached step that are not finite",
    SHARE,
    "Share of the logits that are not finite in the step that generates and are in the whole pass.",
    form=".1%",
    needs="text",
)
SAMPLER_ROUNDING = series(
    "sampler/rounding",
    "rounding of the model's numbers",
    "relative",
    "Unit of rounding of the coarsest number type among the weights; differences are counted in it.",
)
SAMPLER_SCORE_ERROR = series(
    "sampler/score_error",
    "difference of samples from the trained model",
    _SPREAD,
    "What the sampler noted of each token it drew, against the teacher-forced model on the same text: only rounding "
    "may differ.",
    short="Sampler − model",
    needs="text",
)
SAMPLER_SCORE_FIRST = series(
    "sampler/score_first",
    "first generated token that differs",
    "token",
    "Counted from 0; only there where a sample differs from the trained model by more than rounding.",
    form=".0f",
    needs="text",
)
SAMPLER_SCORE_WITHOUT_PROMPT = series(
    "sampler/score_without_prompt",
    "difference of samples from the model without their prompt",
    _SPREAD,
    "The same against the model that is not given the prompt: near 0, the sampler leaves the prompt out.",
    needs="text",
)
SAMPLER_DRAW_ERROR = series(
    "sampler/draw_error",
    "difference of the drawing probabilities from the settings",
    NATS,
    "ln of the probability that each token was drawn with, against what temperature and filters make of the trained "
    "model's logits.",
    needs="text",
)
SAMPLER_DRAW_TEMPERATURE = series(
    "sampler/draw_temperature",
    "temperature that was really used",
    "temperature",
    "Without any filter it gives the probabilities that were drawn with; only where they are not those asked for.",
    form=".2f",
    needs="text",
)
SAMPLER_DRAW_EVIDENCE = series(
    "sampler/draw_evidence",
    "evidence for another way of drawing",
    NATS,
    "ln of how much likelier another way of drawing makes the samples than the one asked for; above x by chance with a "
    "probability below e^−x.",
    form=".1f",
    needs="text",
)
SAMPLER_DRAW_IMPOSSIBLE = series(
    "sampler/draw_impossible",
    "tokens that could not be drawn",
    SHARE,
    "Share of the tokens to which temperature and filters give no probability at all.",
    form=".1%",
    needs="text",
)
SAMPLER_DRAW_LOG_PROBABILITY = series(
    "sampler/draw_log_probability",
    "log-probability of what was drawn",
    NATS,
    "Mean ln of the probability that the settings give to the tokens that were drawn.",
    form=".2f",
    needs="text",
)
SAMPLER_DRAW_EXPECTED = series(
    "sampler/draw_expected",
    "log-probability expected of what is drawn",
    NATS,
    "Minus the entropy of the distributions that were to be drawn from, mean over the tokens.",
    form=".2f",
    needs="text",
)
SAMPLER_DRAW_AGREEMENT = series(
    "sampler/draw_agreement",
    "drawn tokens that are the likeliest",
    SHARE,
    "How often the sampler took the trained model's likeliest token; all of them at temperature 0.",
    form=".0%",
    needs="text",
)
SAMPLER_PROMPT_RESPONSE = series(
    "sampler/prompt_response",
    "response of samples to their prompt",
    "probability",
    "Largest difference between the first predictions after different prompts: exactly 0 where the prompt is not read.",
    needs="text",
)
SAMPLER_ENDED_SHARE = series(
    "sampler/ended_share",
    "samples that end by themselves",
    SHARE,
    "Share of the samples that end with the end of the text.",
    form=".0%",
    needs="text",
)
SAMPLER_END_PROBABILITY = series(
    "sampler/end_probability",
    "ends that the model allows a sample",
    "ends a sample",
    "Sum over a sample's tokens of the probability of ending there, mean over the samples.",
    form=".3f",
    needs="text",
)
SAMPLER_END_EXPECTED = series(
    "sampler/end_expected",
    "texts of the data that would have ended",
    SHARE,
    "Share of the data's texts, of those as long as the prompt, that end within a sample's length.",
    form=".0%",
    needs="text",
)
SAMPLER_FAILED_SHARE = series(
    "sampler/failed_share",
    "samples that failed",
    SHARE,
    "Share of the samples of the fixed prompts or seeds that ended with an error.",
    form=".0%",
)
SAMPLER_EMPTY_SHARE = series(
    "sampler/empty_share",
    "samples that are empty",
    SHARE,
    "Share of the samples that end before they have begun.",
    form=".0%",
)
ROUND_TRIP_LOSS = series(
    "round_trip/loss",
    "ids that do not come back through text",
    SHARE,
    "Share of the data's ids that are other ones after they were turned into text and back: exactly 0 for a tokenizer "
    "that fits the data.",
    form=".1%",
    needs="text",
)
SAMPLER_VELOCITY_ERROR = series(
    "sampler/velocity_error",
    "difference of the sampler's velocity from the model's",
    "relative",
    "How far the sampler really moved the clips, a step, against the trained model's velocity at the same point and "
    "time: only rounding may differ.",
    short="Sampler − model",
    needs="frames",
)
SAMPLER_VELOCITY_COSINE = series(
    "sampler/velocity_cosine",
    "direction of the sampler's velocity against the model's",
    "cosine",
    "1: the same direction; −1: the sampler goes the other way.",
    form=".2f",
    needs="frames",
)
SAMPLER_VELOCITY_MIRRORED = series(
    "sampler/velocity_mirrored",
    "difference from the model's velocity at 1 − t",
    "relative",
    "The same at the mirrored time: near 0, the sampler tells the model 1 − t.",
    needs="frames",
)
SAMPLER_TIME_FIRST = series(
    "sampler/time_first",
    "first time of the sampler",
    _TIME,
    "Where clips begin: 1, all noise.",
    form=".3f",
    needs="frames",
)
SAMPLER_TIME_LAST = series(
    "sampler/time_last",
    "last time of the sampler",
    _TIME,
    "Where clips end: 0, all data.",
    form=".3f",
    needs="frames",
)
SAMPLER_TIME_OUTSIDE = series(
    "sampler/time_outside",
    "sampler's times outside those trained on",
    SHARE,
    "Share of the times at which the sampler asks the model that lie outside the range it was trained on.",
    form=".0%",
    needs="frames",
)
SAMPLER_TIME_LOW = series(
    "sampler/time_low",
    "lowest time trained on",
    _TIME,
    "Of the times drawn for several updates.",
    form=".3f",
    needs="frames",
)
SAMPLER_TIME_HIGH = series(
    "sampler/time_high",
    "highest time trained on",
    _TIME,
    "Of the times drawn for several updates.",
    form=".3f",
    needs="frames",
)
SAMPLER_STEPS = series(
    "sampler/steps",
    "steps of the sampler",
    "steps",
    "From noise to data, as the solver told them.",
    form=".0f",
    needs="frames",
)
AVERAGE_LOSS_RATIO = series(
    "average/loss_ratio",
    "loss of the averaged weights ÷ the live ones'",
    RATIO,
    "Held-out flow loss of the average that samples are drawn from, over that of the weights in training: above 1, the "
    "average lags behind.",
    form=".2f",
    needs="frames",
)
AVERAGE_DISTANCE = series(
    "average/distance",
    "distance of the averaged weights from the live ones",
    "relative",
    "‖average − live‖ ÷ ‖live‖ over all weights.",
    form=".3f",
    needs="frames",
)
