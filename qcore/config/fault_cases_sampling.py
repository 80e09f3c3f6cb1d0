"""Cases of the fault bank in which training is right and what generates is not: their words, and where each shows."""

from __future__ import annotations

from typing import Any

_TRANSFORMER = {"kind": "transformer"}


def _text(code: str, title: str, seen: str, tell: str, *findings: str, within: int, **changes: Any) -> dict[str, Any]:
    return {
        "code": code,
        "title": title,
        "seen": seen,
        "tell": tell,
        "findings": findings,
        "within": within,
        "changes": {**_TRANSFORMER, **changes},
    }


TEXT_CASES: tuple[dict[str, Any], ...] = (
    _text(
        "S1",
        "Dropout acts in evaluation",
        "samples that are worse than the loss",
        "two equal calls of the model differ",
        "random_evaluation",
        within=0,
        dropout=0.3,
    ),
    _text(
        "S2",
        "Softmax before the loss's own",
        "a loss that hardly falls",
        "the outputs sum to 1",
        "softmax_twice",
        within=0,
    ),
    _text(
        "S3",
        "Every generated token has position 0",
        "a fine loss and word salad",
        "the cached step gives other logits than the whole pass on the same ids",
        "cache_mismatch",
        within=0,
    ),
    _text(
        "S4",
        "The cached step overflows",
        "samples stay away",
        "logits that are finite in the whole pass and not in the cached step",
        "cache_mismatch",
        "failed_samples",
        within=0,
    ),
    _text(
        "S5",
        "The temperature multiplies",
        "samples that are wilder the lower the temperature",
        "the probabilities that tokens were drawn with are those of another temperature",
        "sampler_mismatch",
        within=50,
    ),
    _text(
        "S6",
        "The likeliest token is always taken",
        "samples that repeat themselves",
        "tokens are drawn with probability 1 where the settings give them less",
        "sampler_mismatch",
        within=50,
    ),
    _text(
        "S7",
        "The prompt has no start token",
        "the first words of a sample are odd",
        "what the sampler notes of its tokens is not what the model says of the same text",
        "sampler_mismatch",
        within=50,
    ),
    _text(
        "S8",
        "The prompt never reaches the model",
        "the same text after every prompt",
        "samples are those of the model without their prompt",
        "prompt_ignored",
        within=50,
    ),
    _text(
        "S9",
        "The table from ids to text is off by one",
        "a fine loss and word salad",
        "ids of the data are other ones after ids → text → ids",
        "round_trip",
        within=0,
    ),
)


def _clips(code: str, *story: str, finding: str, within: int = 25) -> dict[str, Any]:
    title, seen, tell = story
    return {"code": code, "title": title, "seen": seen, "tell": tell, "findings": (finding,), "within": within}


CLIP_CASES: tuple[dict[str, Any], ...] = (
    _clips(
        "W1",
        "The sampler adds the velocity",
        "noise that grows",
        "clips move against the model's velocity",
        finding="sampler_velocity",
    ),
    _clips(
        "W2",
        "The sampler tells the model 1 − t",
        "flicker",
        "clips move by the model's velocity at the mirrored time",
        finding="sampler_velocity",
    ),
    _clips(
        "W3",
        "The sampler transposes patches",
        "pictures in a jumble",
        "clips move by another velocity than the model's",
        finding="sampler_velocity",
    ),
    _clips(
        "W4",
        "The sampler counts time in thousandths",
        "blurred clips",
        "the model is asked at times that it was never trained on",
        finding="sampler_times",
    ),
    _clips(
        "W5",
        "The average remembers too much",
        "clips that stay noise while the loss falls",
        "the average's loss beside that of the weights in training",
        finding="lagging_average",
        within=100,
    ),
)
