"""Series of runs on tokens: what is predicted, exact checks of the model, data and samples."""

from __future__ import annotations

from qcore.base.words import name_words
from qcore.probes.catalog.declare import Declared, group, pattern, series
from qcore.probes.catalog.units import LARGEST, NATS, PER_TOKEN, POSITIONS, RATIO, SHARE, TOKEN_NATS

TOKENS = group("tokens", "tokens")
STRICT = group("strict", "strict evaluation")
PERPLEXITY = group("perplexity", "perplexity")
CAUSALITY = group("causality", "causality")
BATCH = group("batch", "batches")
DATA = group("data", "data")
SHIFT = group("shift", "labels")
GENERATION = group("generation", "samples")

TOKENS_TOP1_SHARE = series(
    "tokens/top1_share",
    "largest share of one predicted token",
    SHARE,
    "Share of the positions at which the most predicted token is the likeliest: one token taking over is a collapse.",
    short="Top token",
    form=".1%",
    needs="text",
)
TOKENS_TARGET_TOP1_SHARE = series(
    "tokens/target_top1_share",
    "largest share of one target token",
    SHARE,
    "Share of the commonest target in the batch: the fair comparison for the most predicted one.",
    short="Top target",
    form=".1%",
    needs="text",
)
TOKENS_TOP1_TOKEN = series(
    "tokens/top1_token",
    "most predicted token",
    "id",
    "Id of the token that is the likeliest at most positions.",
    form=".0f",
    needs="text",
)
TOKENS_COVERAGE = series(
    "tokens/coverage",
    "distinct predictions ÷ distinct targets",
    RATIO,
    "Distinct tokens among the predictions, over distinct tokens among the targets of the same batch.",
    short="Coverage",
    form=".2f",
    needs="text",
)
TOKENS_MEAN_ENTROPY = series(
    "tokens/mean_entropy",
    "entropy of one prediction",
    NATS,
    "Entropy of the prediction at one position, mean over the positions.",
    form=".2f",
    needs="text",
)
TOKENS_MARGINAL_ENTROPY = series(
    "tokens/marginal_entropy",
    "entropy of the average prediction",
    NATS,
    "Entropy of the mean of all predictions: how many tokens the model uses at all.",
    form=".2f",
    needs="text",
)
TOKENS_MUTUAL_INFORMATION = series(
    "tokens/mutual_information",
    "information that the context carries",
    NATS,
    "What the context tells the model: the gap between the entropy of the average prediction and of "
    "one; 0: it ignores the context.",
    short="Information",
    form=".2f",
    needs="text",
)
TOKENS_KL_TARGET = series(
    "tokens/kl_target",
    "divergence of the average prediction from the data",
    NATS,
    "KL(average prediction ‖ token frequencies of the batch).",
    short="KL",
    form=".3f",
    needs="text",
)
TOKENS_ACCURACY = series(
    "tokens/accuracy",
    "accuracy of the likeliest token",
    POSITIONS,
    "How often the likeliest token is the right one, teacher-forced.",
    short="Accuracy",
    form=".1%",
    needs="text",
)
TOKENS_ROW_VARIANCE = series(
    "tokens/row_variance",
    "variance of predictions along a row",
    "variance",
    "How much predictions differ along a text: exactly 0 when every position predicts the same.",
    needs="text",
)
TOKENS_EOS_PROBABILITY = series(
    "tokens/eos_probability",
    "mean probability of the end of the text",
    "probability",
    "Probability that the model gives to the end of the text, mean over the positions.",
    form=".3f",
    needs="text",
)
TOKENS_PADDING_SHARE = series(
    "tokens/padding_share",
    "share of padding in the batch",
    SHARE,
    "Share of the positions that only pad rows.",
    form=".1%",
    needs="text",
)
STRICT_CE = series(
    "strict/ce",
    "cross-entropy from the prefix alone",
    TOKEN_NATS,
    "Cross-entropy where the model is given nothing but the tokens before: what it would have when it generates.",
    form=".3f",
    needs="text",
)
STRICT_TEACHER_FORCED = series(
    "strict/teacher_forced",
    "cross-entropy of the same rows, teacher-forced",
    TOKEN_NATS,
    "The same positions inside the whole window, as in training.",
    form=".3f",
    needs="text",
)
STRICT_GAP = series(
    "strict/gap",
    "gain from seeing the whole row",
    TOKEN_NATS,
    "Strict less teacher-forced: 0 but for rounding unless the future helps.",
    form=".3f",
    needs="text",
)
PERPLEXITY_TEACHER_FORCED = series(
    "perplexity/teacher_forced",
    "perplexity, teacher-forced",
    PER_TOKEN,
    "e to the cross-entropy as it is in training.",
    form=".1f",
    needs="text",
)
PERPLEXITY_STRICT = series(
    "perplexity/strict",
    "perplexity, strict",
    PER_TOKEN,
    "e to the cross-entropy from the prefix alone.",
    form=".1f",
    needs="text",
)
PERPLEXITY_COHERENT = series(
    "perplexity/coherent",
    "perplexity, coherent third",
    PER_TOKEN,
    "Perplexity of the third of the positions whose phases agree most.",
    form=".1f",
    needs="text",
)
PERPLEXITY_MIDDLE = series(
    "perplexity/middle",
    "perplexity, middle third",
    PER_TOKEN,
    "Perplexity of the third of the positions whose phases agree as most do.",
    form=".1f",
    needs="text",
)
PERPLEXITY_INCOHERENT = series(
    "perplexity/incoherent",
    "perplexity, incoherent third",
    PER_TOKEN,
    "Perplexity of the third of the positions whose phases agree least.",
    form=".1f",
    needs="text",
)
PERPLEXITY_COHERENCE_WEIGHTED = series(
    "perplexity/coherence_weighted",
    "perplexity, weighted by coherence",
    PER_TOKEN,
    "Below the teacher-forced one when coherent tokens are predicted better.",
    form=".1f",
    needs="text",
)
CAUSALITY_LEAK = series(
    "causality/leak",
    "change of earlier outputs",
    LARGEST,
    "How much outputs before a cut change when the tokens after it do, relative to those after it: "
    "exactly 0 for a causal model.",
    needs="text",
)
CAUSALITY_RESPONSE = series(
    "causality/response",
    "change of all outputs",
    LARGEST,
    "How much outputs after a cut change when their tokens do, relative to the spread of the logits.",
    needs="text",
)
CAUSALITY_CONTEXT_RESPONSE = series(
    "causality/context_response",
    "change of later outputs",
    LARGEST,
    "How much an output changes when its own token stays and all before it are replaced: exactly 0 "
    "for a model that ignores its context.",
    needs="text",
)
BATCH_DEPENDENCE = series(
    "batch/dependence",
    "change with other rows in the batch",
    LARGEST,
    "How much the outputs of a row change when the other rows are replaced: exactly 0 when rows are independent.",
    needs="text",
)
DATA_PAD_IS_TARGET = series(
    "data/pad_is_target",
    "targets that are padding",
    SHARE,
    "Share of the targets that are padding: the model learns to write it.",
    form=".1%",
    needs="text",
)
DATA_TARGET_TOP1_SHARE = series(
    "data/target_top1_share",
    "largest share of one token among the targets",
    SHARE,
    "Share of the commonest token in what is trained on, over the first batches.",
    form=".1%",
    needs="text",
)
SHIFT_TARGETS_ARE_INPUTS = series(
    "shift/targets_are_inputs",
    "targets equal to their inputs",
    SHARE,
    "Share of the targets that equal the token at their own position: 1 for labels that were not shifted.",
    form=".1%",
    needs="text",
)
SHIFT_COPY_RATE = series(
    "shift/copy_rate",
    "predictions that copy their input",
    SHARE,
    "Share of the positions whose likeliest token is the one that was just read.",
    form=".1%",
    needs="text",
)
SHIFT_CE_HERE = series(
    "shift/ce_here",
    "cross-entropy against the token itself",
    TOKEN_NATS,
    "Near 0 for a model that has learned to copy.",
    form=".3f",
    needs="text",
)
SHIFT_CE_NEXT = series(
    "shift/ce_next",
    "cross-entropy against the next token",
    TOKEN_NATS,
    "What a language model is for, whatever its labels say.",
    form=".3f",
    needs="text",
)
GENERATION_REPETITION = series(
    "generation/repetition",
    "repetition in samples",
    SHARE,
    "Share of the sampled text that repeats earlier text.",
    short="Repetition",
    form=".0%",
    needs="text",
)
GENERATION_DISTINCT_2 = series(
    "generation/distinct_2",
    "distinct word pairs in samples",
    SHARE,
    "Distinct pairs of tokens in the samples, over all pairs.",
    short="Distinct-2",
    form=".0%",
    needs="text",
)
GENERATION_DISTINCT_1 = series(
    "generation/distinct_1",
    "distinct words in samples",
    SHARE,
    "Distinct tokens in the samples, over all tokens.",
    short="Distinct-1",
    form=".0%",
    needs="text",
)
GENERATION_DISTINCT_3 = series(
    "generation/distinct_3",
    "distinct word triples in a sample",
    SHARE,
    "Distinct triples of tokens in one sample, over all triples; kept with each sample.",
    short="Distinct-3",
    form=".0%",
    needs="text",
)
GENERATION_MEAN_LOGPROB = series(
    "generation/mean_logprob",
    "mean log-probability of a sample's tokens",
    TOKEN_NATS,
    "What the model itself gives to the tokens of one sample, at temperature 1; kept with each sample.",
    short="Log-probability",
    form=".2f",
    needs="text",
)
GENERATION_MEAN_ENTROPY = series(
    "generation/mean_entropy",
    "mean entropy of a sample's choices",
    NATS,
    "Entropy of the distribution that each token of one sample was drawn from, mean; kept with each sample.",
    short="Mean entropy",
    form=".2f",
    needs="text",
)

_TOKENS = {"eos": "the end of the text", "pad": "padding", "bos": "the start of the text", "unk": "unknown words"}


def predicted_share(token: str) -> str:
    """Share of a special token (`eos`, `pad`, `bos`, `unk`) among the predictions: `tokens/predicted_<token>`."""
    return f"tokens/predicted_{token}"


def target_share(token: str) -> str:
    """Share of a special token among the targets: `tokens/target_<token>`."""
    return f"tokens/target_{token}"


def _special(side: str, token: str) -> Declared:
    meaning = {"predicted": "Share of the positions where it is the likeliest.", "target": "Share of the targets."}
    title = f"{side} share of {_TOKENS.get(token, name_words(token))}"
    return Declared("", title, SHARE, meaning[side], form=".1%", needs="text")


pattern(
    r"tokens/(predicted|target)_(eos|pad|bos|unk)",
    _special,
    *(f"tokens/{side}_{token}" for side in ("predicted", "target") for token in _TOKENS),
)
GENERATION_COPIED = series(
    "generation/copied",
    "longest stretch copied from training",
    "tokens",
    "Most tokens in a row of a sample that stand just so in the training text, of a part of it that is searched.",
    short="Copied",
    form=",.0f",
    needs="text",
)
GENERATION_COPIED_HELD_OUT = series(
    "generation/copied_held_out",
    "the same of held-out text",
    "tokens",
    "Most tokens in a row of held-out text, as much of it as a sample has, that stand just so in the training text.",
    short="Copied, held out",
    form=",.0f",
    needs="text",
)
