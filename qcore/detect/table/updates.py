"""Rules about what the optimizer did to the weights, and what became of the gradients of micro-batches."""

from __future__ import annotations

from qcore.detect import optimizer
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Rule
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

_ACCUMULATED = (
    catalog.ACCUMULATION_ERROR,
    catalog.ACCUMULATION_SMALLEST,
    catalog.ACCUMULATION_LARGEST,
    catalog.ACCUMULATION_UNEVENNESS,
    catalog.ACCUMULATION_RESIDUAL,
)

RULES: tuple[Rule, ...] = (
    Rule(
        "weights_without_optimizer",
        ("O1", "O2"),
        "Weights that the optimizer does not know",
        "The output depends on weights that are in no parameter group, or on a matrix that is no parameter at all. "
        "They stay as they were made, however long the run trains, and the rest learns around them.",
        {"share": 0.0, "fixed": 0.01},
        ZOO,
        (catalog.WEIGHTS_WITHOUT_OPTIMIZER, catalog.WEIGHTS_FIXED_SHARE),
        optimizer.weights_without_optimizer,
        shows=(catalog.UPDATE_STILL_MODULES,),
        families=ANY_FAMILY,
        past="Weights were unknown to the optimizer",
    ),
    Rule(
        "frozen_weights",
        ("O3",),
        "Weights that are switched off for training",
        "These parameters need no gradient, so they keep the values that they started with. "
        "That is right where pretrained weights are adapted, and wrong where they are random.",
        {"share": 0.1, "blocks": 0.5},
        ZOO,
        (catalog.WEIGHTS_UNTRAINED_SHARE, catalog.WEIGHTS_UNTRAINED_BLOCKS),
        optimizer.frozen_weights,
        shows=(catalog.WEIGHTS_BLOCKS,),
        families=ANY_FAMILY,
        past="Weights were switched off for training",
        grade="weak",
    ),
    Rule(
        "still_weights",
        ("O4",),
        "Weights with gradient that do not move",
        "A gradient reaches these modules, the optimizer has a rate for them, and after its step they are the same to "
        "the last bit. Something puts them back, or what is moved is a copy of them.",
        {"modules": 0.5},
        ZOO,
        (catalog.UPDATE_STILL_MODULES,),
        optimizer.still_weights,
        shows=(catalog.UPDATE_STILL_SHARE, catalog.UPDATE_LOST_SHARE, catalog.UPDATE_RATE_USED),
        families=ANY_FAMILY,
        past="Weights with gradient did not move",
    ),
    Rule(
        "lost_to_rounding",
        ("O5",),
        "Updates that rounding swallows",
        "The weights are kept in so few digits that most updates are smaller than half of the last one. "
        "Such a weight stays where it is at every step, and the run stops learning early.",
        {"lost": 0.2, "coarse": 0.5},
        ZOO,
        (catalog.UPDATE_LOST_SHARE, catalog.UPDATE_COARSE_SHARE),
        optimizer.lost_to_rounding,
        shows=(catalog.UPDATE_RATE_MOVED,),
        families=ANY_FAMILY,
        past="Updates were lost to rounding",
        grade="weak",
    ),
    Rule(
        "stale_gradient",
        ("O6",),
        "Gradients of an earlier step",
        "When the first backward pass of a step begins, the gradient of an earlier step is still there. "
        "Each update is then made with a sum over many steps, most of it from weights that no longer exist.",
        {"share": 0.0},
        ZOO,
        (catalog.UPDATE_LEFTOVER,),
        optimizer.stale_gradient,
        shows=(catalog.TRAIN_GRAD_NORM,),
        families=ANY_FAMILY,
        past="Gradients of earlier steps were left over",
    ),
    Rule(
        "gradient_below_eps",
        ("O7",),
        "Gradients below the optimizer's epsilon",
        "Adam divides by the size of the gradient plus epsilon, and here epsilon is the larger one. "
        "An update is then no longer of the size of the learning rate, and shrinks with the gradient.",
        {"ratio": 1.0},
        ZOO,
        (catalog.UPDATE_EPS_RATIO,),
        optimizer.gradient_below_eps,
        shows=(catalog.TRAIN_GRAD_NORM, catalog.UPDATE_RATIO),
        families=ANY_FAMILY,
        past="Gradients were below the optimizer's epsilon",
        grade="weak",
    ),
    Rule(
        "wrong_rate",
        ("O8",),
        "Another learning rate than the scheduled one",
        "The rate in the optimizer's groups, or the one that the weights really followed, is not the rate that the "
        "schedule gives and the charts show. The run learns as fast as the former.",
        {"factor": 2.0, "lost": 0.05},
        ZOO,
        (catalog.UPDATE_RATE_USED, catalog.UPDATE_RATE_LOWEST, catalog.UPDATE_RATE_MOVED),
        optimizer.wrong_rate,
        shows=(catalog.TRAIN_LR, catalog.UPDATE_LOST_SHARE, catalog.UPDATE_STILL_MODULES),
        families=ANY_FAMILY,
        past="The learning rate was not the scheduled one",
    ),
    Rule(
        "accumulation_lost",
        ("G6",),
        "Micro-batches are lost",
        "The accumulated gradient holds nothing of at least one micro-batch. "
        "The batch is smaller than it is said to be, and the data of that micro-batch are wasted.",
        {"error": 0.05, "smallest": 0.2, "largest": 0.5},
        ZOO,
        _ACCUMULATED,
        optimizer.accumulation_lost,
        past="Micro-batches were lost",
    ),
    Rule(
        "accumulation_undivided",
        ("O9",),
        "Micro-batches are added up and not divided",
        "Every micro-batch is in the accumulated gradient with more than its share, as when their losses are summed. "
        "The gradient is larger than that of the same rows as one batch, and clipping or the rate no longer fit.",
        {"error": 0.05, "smallest": 1.5},
        ZOO,
        _ACCUMULATED,
        optimizer.accumulation_undivided,
        past="Micro-batches were added up and not divided",
    ),
    Rule(
        "accumulation_uneven",
        ("O10",),
        "Micro-batches of unlike size weigh alike",
        "Each micro-batch counts the same, however many targets it holds, so a token of a short one counts more. "
        "The gradient is not that of the same rows as one batch.",
        {"error": 0.05, "unevenness": 0.05, "spread": 1.1},
        ZOO,
        _ACCUMULATED,
        optimizer.accumulation_uneven,
        past="Micro-batches of unlike size weighed alike",
        grade="weak",
    ),
)
