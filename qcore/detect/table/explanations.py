"""Which causes explain which symptoms: names of rules, the likeliest cause first.

One place, because it is a table: a new cause is written into the rows of the symptoms that it makes. A name without a
rule (of another family, or of a detector that this version does not have) is passed over where the table is read.
"""

from __future__ import annotations

from collections.abc import Mapping

_RATE = ("raised_rate", "missing_warmup", "divergence", "loss_spike", "resume_jump", "loss_scale")
"""The learning rate, or what acts like one that is too high."""
_UPDATE = (
    "weights_without_optimizer",
    "still_weights",
    "frozen_weights",
    "frozen_blocks",
    "lost_to_rounding",
    "gradient_below_eps",
    "stale_gradient",
    "lost_accumulation",
    "accumulation_lost",
    "accumulation_undivided",
    "accumulation_uneven",
)
"""What the optimizer did is not what the gradient asked for."""
_TERMS = ("harmful_term", "unscaled_term", "wrong_sign")
_TARGETS = ("padding_targets", "unshifted_labels", "label_lag", "few_targets", "unknown_tokens")
_BATCHES = ("repeated_batches", "neighbouring_batches")
_SAMPLER = ("cache_mismatch", "sampler_mismatch", "round_trip")
_CLIPS = (
    "noise_mismatch",
    "wrong_velocity",
    "frames_unordered",
    "latent_spread",
    "sampler_velocity",
    "sampler_times",
    "lagging_average",
    "time_distribution",
    "time_ignored",
    "input_ignored",
    "untrained_frames",
    "scrambled_pixels",
)

EXPLAINED_BY: Mapping[str, tuple[str, ...]] = {
    "token_collapse": (*_RATE, *_TERMS, *_TARGETS, *_BATCHES, "stale_gradient", "accumulation_undivided", "overfit"),
    "eos_collapse": ("padding_targets", "few_targets", "label_lag", "raised_rate", *_TERMS, *_BATCHES, "softmax_twice"),
    "stuck": ("context_ignored", *_UPDATE, "rate_zero_early", "softmax_twice", *_TARGETS, *_TERMS, *_RATE),
    "repetition": (*_SAMPLER, "context_ignored", "unused_weights", *_UPDATE, *_TARGETS, *_TERMS, "overfit"),
    "rank_collapse": ("raised_rate", *_TARGETS, *_TERMS, "missing_warmup", "divergence", "loss_scale", *_UPDATE),
    "unused_weights": (*_RATE, "token_collapse", *_TERMS, "stale_gradient"),
    "averaging_collapse": (*_CLIPS, *_UPDATE, *_TERMS),
    "flicker": (*_CLIPS, "averaging_collapse", *_UPDATE, *_TERMS),
    "sample_spread": (*_CLIPS, *_UPDATE, *_TERMS, "raised_rate", "missing_warmup", "divergence"),
    "worse_than_unigram": (
        *_TARGETS,
        "context_ignored",
        *_UPDATE,
        "softmax_twice",
        *_TERMS,
        *_RATE,
        "overfit",
        "rank_collapse",
        "rate_zero_early",
        "stuck",
    ),
    "worse_than_uniform": (
        *_TARGETS,
        *_UPDATE,
        "softmax_twice",
        "first_loss",
        *_TERMS,
        *_RATE,
        "overfit",
        "random_evaluation",
        "repeated_batches",
        "below_entropy",
        "future_leak",
    ),
    "never_ends": ("end_never_target", "few_targets", *_SAMPLER, "label_lag", "unknown_tokens", *_UPDATE),
    "failed_samples": (*_SAMPLER, "nonfinite", "nonfinite_series", "raised_rate", "eos_collapse"),
    "loss_spike": ("raised_rate", "missing_warmup", "resume_jump", *_TERMS, "stale_gradient", "accumulation_undivided"),
    "gap_at_once": (
        "repeated_documents",
        "neighbouring_batches",
        "below_entropy",
        "repeated_batches",
        "label_lag",
        "unshifted_labels",
        "random_evaluation",
        "batch_dependence",
    ),
    "divergence": (
        "harmful_term",
        "unscaled_term",
        "accumulation_undivided",
        "stale_gradient",
    ),
}
"""Symptom → causes. Rows of rules that only some versions have do no harm."""
