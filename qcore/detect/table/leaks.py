"""Rules about what an output depends on: the future, other rows, its own target, nothing."""

from __future__ import annotations

from qcore.detect import leaks
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.measured import ZOO
from qcore.detect.targets import IDENTITY
from qcore.probes import catalog

RULES: tuple[Rule, ...] = (
    Rule(
        "future_leak",
        ("L1", "L2", "L3", "L3b"),
        "The future leaks into the past",
        "Outputs depend on tokens that come after them, so the model is asked for a token that it can see. "
        "Its loss then says nothing about prediction, and generation, which has no future to look at, breaks down.",
        {"leak": 1e-6, "gap": 0.05, "undercut": 0.3, "mates": 1e-4, "easier": 0.05, "copies": 0.5, "wrong": 0.002},
        ZOO,
        (catalog.CAUSALITY_LEAK, catalog.STRICT_GAP, catalog.EVAL_CE),
        leaks.future_leak,
        shows=(
            catalog.STRICT_CE,
            catalog.STRICT_TEACHER_FORCED,
            catalog.BATCH_DEPENDENCE,
            catalog.DATA_PAD_IS_TARGET,
            catalog.SHIFT_TARGETS_ARE_INPUTS,
            catalog.LABELS_WRONG,
        ),
        past="The future leaked into the past",
        clear=(Clear(catalog.CAUSALITY_LEAK, high="leak"),),
    ),
    Rule(
        "context_ignored",
        ("T3",),
        "The context is ignored",
        "What came before a token has no influence on what is predicted after it. "
        "Such a model can learn token frequencies at best, and no amount of training brings it below them.",
        {"response": 1e-5, "row_variance": 1e-9, "room": 0.2},
        "1 of 120 healthy runs of the zoo: random letters at their optimum, which it is silent on since",
        (catalog.CAUSALITY_CONTEXT_RESPONSE, catalog.TOKENS_ROW_VARIANCE),
        leaks.context_ignored,
        shows=(catalog.TOKENS_MUTUAL_INFORMATION, catalog.EVAL_CE),
        past="The context was ignored",
        clear=(
            Clear(catalog.CAUSALITY_CONTEXT_RESPONSE, low="response"),
            Clear(catalog.TOKENS_ROW_VARIANCE, low="row_variance"),
        ),
    ),
    Rule(
        "batch_dependence",
        ("B1",),
        "Rows depend on their batch mates",
        "A row's output changes when the other rows of its batch are replaced. "
        "Evaluation then depends on which rows share a batch, and generation, one row alone, meets a model never "
        "trained.",
        {"change": 1e-4},
        ZOO,
        (catalog.BATCH_DEPENDENCE,),
        leaks.batch_dependence,
        past="Rows depended on their batch mates",
        clear=(Clear(catalog.BATCH_DEPENDENCE, high="change"),),
    ),
    Rule(
        "unshifted_labels",
        ("B2",),
        "The labels are not shifted",
        "The model is asked for the token that it has just been given. "
        "A perfect loss is reached by copying, and nothing about language is learned.",
        {"same": 0.9, "copied": 0.9, "gap": 1.0, "follows": 0.25, "padding": 0.4, **IDENTITY},
        ZOO,
        (catalog.SHIFT_TARGETS_ARE_INPUTS, catalog.SHIFT_COPY_RATE, catalog.LABELS_WRONG),
        leaks.unshifted_labels,
        shows=(
            catalog.SHIFT_CE_HERE,
            catalog.SHIFT_CE_NEXT,
            catalog.TERM_CE,
            catalog.DATA_TARGET_TOP1_SHARE,
            catalog.LABELS_LAG,
            catalog.LABELS_LAG_SHARE,
            catalog.LABELS_SHOWN,
        ),
        past="The labels were not shifted",
        clear=(Clear(catalog.SHIFT_TARGETS_ARE_INPUTS, high="same"),),
    ),
)
