"""Rules about the path that generates, held against the path that is trained: text."""

from __future__ import annotations

from qcore.detect import sampler
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.probes import catalog

_EXACT = "0 by construction: measured at most 2e-6 where the limit is a thousandth, in every language family"
_ROUNDING = {"rounding": 1e-3, "units": 32.0}
_OF_SAMPLES = (
    catalog.SAMPLER_SCORE_FIRST,
    catalog.SAMPLER_SCORE_WITHOUT_PROMPT,
    catalog.SAMPLER_DRAW_ERROR,
    catalog.SAMPLER_DRAW_TEMPERATURE,
    catalog.SAMPLER_DRAW_EVIDENCE,
    catalog.SAMPLER_DRAW_IMPOSSIBLE,
    catalog.SAMPLER_DRAW_LOG_PROBABILITY,
    catalog.SAMPLER_DRAW_EXPECTED,
    catalog.SAMPLER_DRAW_AGREEMENT,
    catalog.SAMPLER_ROUNDING,
)

RULES: tuple[Rule, ...] = (
    Rule(
        "random_evaluation",
        ("S1",),
        "The model is random in evaluation",
        "Two equal calls in evaluation give different answers, as when dropout is left on. "
        "The held-out loss, every check and every sample then carry that noise, and checks that look for a change "
        "cannot tell it from one.",
        {"difference": sampler.RANDOM},
        "0 by construction: two equal calls are equal to the last bit",
        (catalog.REPEAT_DIFFERENCE,),
        sampler.random_evaluation,
        past="The model was random in evaluation",
    ),
    Rule(
        "softmax_twice",
        ("S2",),
        "Softmax is taken twice",
        "The output layer returns probabilities, and the loss takes their softmax again. "
        "Whatever the model does, its predictions then stay nearly even, and the loss hardly falls below guessing.",
        {"share": sampler.PROBABILITIES},
        "0 by construction: no row of logits is at every position without a negative one and sums to 1",
        (catalog.HEAD_PROBABILITY_SHARE,),
        sampler.softmax_twice,
        shows=(catalog.TERM_CE,),
        past="Softmax was taken twice",
    ),
    Rule(
        "cache_mismatch",
        ("S3", "S4"),
        "The cached step is not the model that is trained",
        "On the same ids, the step that generates token by token gives other logits than the whole forward pass. "
        "The loss is that of one model, the samples are another's: positions, masks or the cache differ.",
        _ROUNDING,
        _EXACT,
        (catalog.SAMPLER_CACHE_ERROR, catalog.SAMPLER_CACHE_NONFINITE, catalog.SAMPLER_SCORE_ERROR),
        sampler.cache_mismatch,
        shows=(catalog.SAMPLER_CACHE_FIRST, catalog.SAMPLER_ROUNDING, catalog.CAUSALITY_LEAK, catalog.STRICT_GAP),
        past="The cached step was not the model that is trained",
    ),
    Rule(
        "sampler_mismatch",
        ("S5", "S6", "S7"),
        "Samples are not drawn from the trained model as the settings say",
        "What the sampler notes of its tokens is not what the trained model says of the same text, or they are drawn "
        "with other probabilities than temperature and filters make of it. Samples then say nothing of training.",
        {**_ROUNDING, "draw": 0.01, "evidence": 14.0, "impossible": 0.05},
        f"{_EXACT}; the evidence exceeds its limit once in a million by its definition",
        (catalog.SAMPLER_SCORE_ERROR,),
        sampler.sampler_mismatch,
        shows=_OF_SAMPLES,
        past="Samples were not drawn from the trained model as the settings said",
    ),
    Rule(
        "prompt_ignored",
        ("S8",),
        "The prompt does not reach the model",
        "Samples are the same whatever the prompt is, although the model reads its context. "
        "The sampler drops the prompt, or replaces it, on the way to the model.",
        {**_ROUNDING, "response": 1e-9, "context": 1e-5},
        "0 by construction: without a prompt, samples of different prompts are equal to the last bit",
        (catalog.SAMPLER_SCORE_ERROR, catalog.SAMPLER_PROMPT_RESPONSE),
        sampler.prompt_ignored,
        shows=(catalog.SAMPLER_SCORE_WITHOUT_PROMPT, catalog.CAUSALITY_CONTEXT_RESPONSE),
        past="The prompt did not reach the model",
    ),
    Rule(
        "round_trip",
        ("S9",),
        "Text and ids do not fit",
        "Ids of the data, turned into text and back, are other ids. Prompts and samples pass the same two functions, "
        "so a model that predicts well writes garbage.",
        {"loss": 0.005},
        "0 by construction: bytes, words and BPE come back to the last id",
        (catalog.ROUND_TRIP_LOSS,),
        sampler.round_trip,
        past="Text and ids did not fit",
    ),
    Rule(
        "never_ends",
        (),
        "Samples never end",
        "Most texts of the data end within the length of a sample, and the model gives its samples next to no chance "
        "to end. It has not learned where a text is over, as when the end is never among the targets.",
        {"expected": 0.6, "share": 0.05, "temperature": 0.3},
        "0 of 13 healthy runs of 60 steps, where the model allowed at least .1 of the data's ends",
        (catalog.SAMPLER_END_EXPECTED,),
        sampler.never_ends,
        shows=(
            catalog.SAMPLER_END_PROBABILITY,
            catalog.SAMPLER_ENDED_SHARE,
            catalog.target_share("eos"),
            catalog.TOKENS_EOS_PROBABILITY,
        ),
        past="Samples never ended",
        role="symptom",
        grade="weak",
        explained_by=EXPLAINED_BY["never_ends"],
    ),
    Rule(
        "failed_samples",
        ("S4",),
        "Samples fail",
        "A sample of the fixed prompts or seeds ended with an error, or every sample is empty. Training goes on "
        "without it; what is wrong shows first where the model is asked to write.",
        {"share": 0.0, "empty": 1.0},
        "it only says what happened",
        (catalog.SAMPLER_FAILED_SHARE,),
        sampler.failed_samples,
        shows=(catalog.SAMPLER_EMPTY_SHARE, catalog.SAMPLER_CACHE_NONFINITE, catalog.TOKENS_EOS_PROBABILITY),
        families=ANY_FAMILY,
        past="Samples failed",
        role="symptom",
        explained_by=EXPLAINED_BY["failed_samples"],
    ),
)
