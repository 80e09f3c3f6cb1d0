"""Rules about gradients and what becomes of them."""

from __future__ import annotations

from qcore.detect import gradients, tokens
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

_ACCUMULATED = "0 of 10 healthy exam runs that accumulate"

RULES: tuple[Rule, ...] = (
    Rule(
        "lost_accumulation",
        (),
        "Accumulated gradients are not those of one batch",
        "The gradient that the micro-batches leave behind is not that of the same rows as one batch. "
        "No weighting of the micro-batches by their targets explains it.",
        {"error": 0.05, "mean_term_error": 0.5, "largest": 0.75},
        _ACCUMULATED,
        (catalog.ACCUMULATION_ERROR,),
        gradients.lost_accumulation,
        shows=(catalog.ACCUMULATION_RESIDUAL, catalog.ACCUMULATION_LARGEST),
        families=ANY_FAMILY,
        past="Accumulated gradients were not those of one batch",
        clear=(Clear(catalog.ACCUMULATION_ERROR, high="error"),),
    ),
    Rule(
        "frozen_blocks",
        ("G7",),
        "Blocks without gradient",
        "No parameter of these blocks gets a gradient, as when a detach stands between the blocks. "
        "They keep their random weights forever, and the run is only fast because most of the model does not learn.",
        {"blocks": 0.5},
        ZOO,
        (catalog.WEIGHTS_FROZEN_BLOCKS,),
        gradients.frozen_blocks,
        shows=(catalog.WEIGHTS_BLOCKS, catalog.WEIGHTS_DEAD_SHARE, catalog.WEIGHTS_UNTRAINED_BLOCKS),
        families=ANY_FAMILY,
        past="Blocks had no gradient",
        clear=(Clear(catalog.WEIGHTS_FROZEN_BLOCKS, high="blocks"),),
    ),
    Rule(
        "unused_weights",
        ("G8",),
        "Weights that nothing reads",
        "A large share of the parameters gets no gradient, so the output does not depend on them. "
        "The model is smaller and simpler than its size says, often no better than a table of word pairs.",
        {"share": 0.2, "room": 0.2},
        ZOO,
        (catalog.WEIGHTS_DEAD_SHARE,),
        gradients.unused_weights,
        shows=(
            catalog.WEIGHTS_FROZEN_BLOCKS,
            catalog.WEIGHTS_UNTRAINED_SHARE,
            catalog.WEIGHTS_FIXED_SHARE,
            catalog.GEOMETRY_EFFECTIVE_RANK,
            catalog.EVAL_CE,
        ),
        families=ANY_FAMILY,
        past="Weights were read by nothing",
        grade="weak",
        explained_by=EXPLAINED_BY["unused_weights"],
        clear=(Clear(catalog.WEIGHTS_DEAD_SHARE, high="share"),),
    ),
    Rule(
        "nonfinite",
        ("N1",),
        "A number is not finite",
        "A term of the loss or a gradient became NaN or infinite, and the run stopped before the optimizer stepped. "
        "One such step would have made every weight NaN, so the weights are still the last good ones.",
        {"steps": 10},
        ZOO,
        (catalog.TRAIN_LOSS,),
        tokens.nonfinite,
        shows=(catalog.TRAIN_GRAD_NORM, catalog.TRAIN_LR),
        families=ANY_FAMILY,
        past="A number was not finite",
    ),
)
