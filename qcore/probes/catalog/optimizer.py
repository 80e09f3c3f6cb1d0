"""Series of what the optimizer did, measured on the weights before and after it, and of what accumulation kept."""

from __future__ import annotations

from qcore.probes.catalog.declare import group, series
from qcore.probes.catalog.training import ACCUMULATION, WEIGHTS
from qcore.probes.catalog.units import RATIO, SHARE

UPDATE = group("update", "updates, as measured")
assert (WEIGHTS, ACCUMULATION) == ("weights", "accumulation")

UPDATE_RATIO = series(
    "update/ratio",
    "measured size of an update ÷ size of the weights",
    RATIO,
    "How far the last update really moved the weights of a module, relative to their size; the median over the "
    "modules, from sampled weights before and after the optimizer's step.",
    short="Update ÷ weights",
    needs="weights",
)
UPDATE_RMS = series(
    "update/rms",
    "measured size of an update",
    "root mean square",
    "Root mean square of the change of all weights in the last update, from sampled weights before and after it.",
    needs="weights",
)
UPDATE_WEIGHT_RMS = series(
    "update/weight_rms",
    "size of the weights",
    "root mean square",
    "Root mean square of all weights before the last update, from sampled ones.",
    needs="weights",
)
UPDATE_GRADIENT_RMS = series(
    "update/gradient_rms",
    "size of the gradients",
    "root mean square",
    "Root mean square of the gradients as the optimizer was given them, after clipping, from sampled ones.",
    needs="weights",
)
UPDATE_STILL_SHARE = series(
    "update/still_share",
    "weights with gradient that did not move",
    SHARE,
    "Share of the sampled weights that had a gradient and a learning rate, and are the same to the last bit after the "
    "update.",
    form=".1%",
    needs="weights",
)
UPDATE_STILL_MODULES = series(
    "update/still_modules",
    "modules with gradient that did not move",
    "modules",
    "Modules with a gradient of which no weight moved, although their update was large enough to move it.",
    form=",.0f",
    needs="weights",
)
UPDATE_LOST_SHARE = series(
    "update/lost_share",
    "updates lost to rounding",
    SHARE,
    "Share of the sampled weights whose update was smaller than half of the last digit that the weight is kept with, "
    "so that it changed nothing.",
    form=".1%",
    needs="weights",
)
UPDATE_COARSE_SHARE = series(
    "update/coarse_share",
    "weights kept in fewer digits than float32",
    SHARE,
    "Share of the weights whose values hold fewer digits than those of float32, by their type or because they were "
    "rounded.",
    form=".0%",
    needs="weights",
)
UPDATE_RATE_USED = series(
    "update/rate_used",
    "learning rate in the optimizer",
    "a step",
    "Learning rate of the optimizer's parameter groups after the update, mean over their weights.",
    needs="weights",
)
UPDATE_RATE_LOWEST = series(
    "update/rate_lowest",
    "lowest learning rate in the optimizer",
    "a step",
    "Lowest learning rate of any of the optimizer's parameter groups after the update.",
    needs="weights",
)
UPDATE_RATE_MOVED = series(
    "update/rate_moved",
    "learning rate that the weights followed",
    "a step",
    "Learning rate at which AdamW's moments give the change that was measured; equal to the scheduled rate but for "
    "rounding where nothing else moves the weights.",
    needs="weights",
)
UPDATE_EPS_RATIO = series(
    "update/eps_ratio",
    "size of the gradients ÷ epsilon of the optimizer",
    RATIO,
    "Root of Adam's running mean of the squared gradient relative to its epsilon, median over the tensors; below 1 "
    "the epsilon decides the size of an update, and it shrinks.",
    needs="weights",
)
UPDATE_LEFTOVER = series(
    "update/leftover",
    "steps that began with an earlier gradient",
    "share of steps",
    "Share of the steps since the last measurement whose first backward pass found the gradient of an earlier step.",
    form=".0%",
    needs="weights",
)
WEIGHTS_WITHOUT_OPTIMIZER = series(
    "weights/without_optimizer",
    "trainable weights in no parameter group",
    SHARE,
    "Share of the weights that need a gradient and that the optimizer does not know.",
    form=".1%",
    needs="weights",
)
WEIGHTS_UNTRAINED_SHARE = series(
    "weights/untrained_share",
    "weights that need no gradient",
    SHARE,
    "Share of the weights that are switched off for training; weights that the family freezes on purpose do not count.",
    form=".1%",
    needs="weights",
)
WEIGHTS_UNTRAINED_BLOCKS = series(
    "weights/untrained_blocks",
    "blocks that need no gradient",
    "blocks",
    "Layers of which every weight is switched off for training.",
    form=",.0f",
    needs="weights",
)
WEIGHTS_FIXED_SHARE = series(
    "weights/fixed_share",
    "matrices that are no parameters",
    "relative to all weights",
    "Numbers of matrices that the output depends on and that are neither parameters nor buffers, relative to the "
    "number of weights: nothing can train them.",
    form=".1%",
    needs="weights",
)
ACCUMULATION_SMALLEST = series(
    "accumulation/smallest",
    "smallest weight of a micro-batch",
    "share ÷ its share of the targets",
    "Weight of the gradient of each micro-batch in the accumulated one, relative to the share of the targets that it "
    "holds: 1 for each when nothing is lost. The smallest of them.",
    needs="text",
)
ACCUMULATION_LARGEST = series(
    "accumulation/largest",
    "largest weight of a micro-batch",
    "share ÷ its share of the targets",
    "Weight of the gradient of each micro-batch in the accumulated one, relative to the share of the targets that it "
    "holds: 1 for each when nothing is lost. The largest of them.",
    needs="text",
)
ACCUMULATION_UNEVENNESS = series(
    "accumulation/unevenness",
    "spread of the weights of the micro-batches",
    "relative",
    "Largest difference of a micro-batch's weight in the accumulated gradient from their mean, relative to the mean: 0 "
    "when all count alike, however many targets they hold.",
    needs="text",
)
ACCUMULATION_RESIDUAL = series(
    "accumulation/residual",
    "accumulated gradient that no micro-batch explains",
    "relative",
    "Part of the accumulated gradient that is no sum of the gradients of the micro-batches, relative to its length.",
    needs="text",
)
