"""Rules about what is predicted, and what a language model writes."""

from __future__ import annotations

from qcore.detect import collapse, leaks, tokens
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

RULES: tuple[Rule, ...] = (
    Rule(
        "padding_targets",
        ("T1",),
        "Padding counts as a target",
        "Most of what the model is asked to predict is padding or one single token. "
        "The easiest solution is that token everywhere, and a falling loss will reward nothing else.",
        {"top1": 0.4, "padding": 0.05, "filling": 0.002, "wrong": 0.002},
        ZOO,
        (catalog.DATA_TARGET_TOP1_SHARE, catalog.DATA_PAD_IS_TARGET, catalog.LABELS_PADDING),
        tokens.padding_targets,
        shows=(
            catalog.LABELS_WRONG,
            catalog.target_share("pad"),
            catalog.predicted_share("eos"),
            catalog.target_share("eos"),
        ),
        past="Padding counted as a target",
        clear=(
            Clear(catalog.DATA_TARGET_TOP1_SHARE, high="top1"),
            Clear(catalog.DATA_PAD_IS_TARGET, high="padding"),
        ),
    ),
    Rule(
        "eos_collapse",
        ("T1",),
        "Predictions collapse onto the end of the text",
        "The end of the sequence is predicted far more often than it comes. "
        "The model is learning to stop instead of to write, and its samples will be empty.",
        {"share": 0.3, "ratio": 3.0, "padding_share": 0.4, "headroom": 0.5},
        ZOO,
        (catalog.predicted_share("eos"), catalog.predicted_share("pad")),
        tokens.eos_collapse,
        shows=(
            catalog.target_share("eos"),
            catalog.target_share("pad"),
            catalog.TOKENS_EOS_PROBABILITY,
            catalog.DATA_PAD_IS_TARGET,
        ),
        past="Predictions collapsed onto the end of the text",
        role="symptom",
        explained_by=EXPLAINED_BY["eos_collapse"],
    ),
    Rule(
        "token_collapse",
        ("T2", "T2b"),
        "The model loses what it had learned",
        "Loss, gradients or predictions have left the range that this run itself had reached. "
        "Runs that end with one token everywhere begin like this, and they rarely recover by themselves.",
        {
            "ce": 0.3,
            "ce_jump": 1.0,
            "ce_worse": 0.1,
            "noise": 4.0,
            "norm_ratio": 1.8,
            "information": 0.7,
            "share": 0.3,
            "cosine": 0.15,
            "top1": 0.3,
            "top1_calm": 0.15,
            "wait": 30,
        },
        ZOO,
        (
            catalog.TERM_CE,
            catalog.TRAIN_GRAD_NORM,
            catalog.TOKENS_MUTUAL_INFORMATION,
            catalog.TOKENS_TOP1_SHARE,
            catalog.GEOMETRY_MEAN_COSINE,
        ),
        collapse.token_collapse,
        shows=(catalog.TOKENS_TARGET_TOP1_SHARE, catalog.TOKENS_COVERAGE, catalog.TRAIN_LR, catalog.grad("cos", "*")),
        past="The model lost what it had learned",
        role="symptom",
        explained_by=EXPLAINED_BY["token_collapse"],
    ),
    Rule(
        "repetition",
        ("T4",),
        "Samples repeat themselves while the loss falls",
        "Free-running samples loop although the teacher-forced loss keeps improving, and that loss is still worse than "
        "a table of token pairs. The model has learned which tokens are common, not how they follow one another.",
        {"repetition": 0.5, "margin": 0.02, "improved": 0.2, "lr_sum": 0.15},
        ZOO,
        (catalog.GENERATION_REPETITION, catalog.EVAL_CE),
        leaks.repetition,
        shows=(catalog.GENERATION_DISTINCT_2, catalog.OPTIM_LR_SUM),
        past="Samples repeated themselves while the loss fell",
        role="symptom",
        grade="weak",
        explained_by=EXPLAINED_BY["repetition"],
    ),
    Rule(
        "stuck",
        (),
        "The run stays on the plateau",
        "The learning rates of all steps together are less than what other runs needed to get beyond the frequencies "
        "of tokens, or have been enough without doing so. A loss that settles there is that of a model that does not "
        "use its context.",
        {
            "planned": 0.05,
            "spent": 0.2,
            "steps": 300.0,
            "plan_share": 0.75,
            "information": 0.3,
            "part": 0.25,
            "room": 0.2,
            "share": 0.3,
            "enough": 0.2,
            "good_rate": 3e-3,
        },
        ZOO,
        (catalog.OPTIM_PLANNED_LR_SUM, catalog.TOKENS_MUTUAL_INFORMATION),
        tokens.stuck,
        shows=(catalog.OPTIM_LR_SUM, catalog.TERM_CE, catalog.TRAIN_LR),
        past="The run stayed on the plateau",
        role="symptom",
        grade="weak",
        explained_by=EXPLAINED_BY["stuck"],
    ),
)
