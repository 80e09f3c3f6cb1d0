"""Series of the residual stream behind each layer, of the logits, and of the loss by position and frequency."""

from __future__ import annotations

from qcore.probes.catalog.declare import Declared, group, pattern, series
from qcore.probes.catalog.units import TOKEN_NATS

LAYERS = group("layers", "layers")
OUTPUT = group("output", "outputs")
LOSS = group("loss", "where the loss lies")

LAYERS_RMS = series(
    "layers/rms",
    "size of the residual stream",
    "root mean square",
    "Root mean square of the states behind a layer; of the layer where it is largest.",
    needs="hidden",
)
LAYERS_LARGEST = series(
    "layers/largest",
    "largest value of the residual stream",
    "magnitude",
    "Largest magnitude among the states behind a layer; of the layer where it is largest.",
    needs="hidden",
)
LAYERS_KURTOSIS = series(
    "layers/kurtosis",
    "kurtosis of the residual stream",
    "3 for normal values",
    "How much few numbers dwarf the others behind a layer; of the layer where it is largest.",
    needs="hidden",
)
OUTPUT_RMS = series(
    "output/rms",
    "spread of the logits",
    "root mean square",
    "Root mean square of the logits of a position about their mean.",
    needs="text",
)
OUTPUT_NORMALISER = series(
    "output/normaliser",
    "normaliser of the logits",
    "nats",
    "Mean size of log Σ exp of the logits: it says nothing of the prediction, and rounding suffers where it is large.",
    needs="text",
)
LOSS_COMMON = series(
    "loss/common",
    "cross-entropy of common tokens",
    TOKEN_NATS,
    "Cross-entropy of the targets that are among the most frequent tokens, which make up half of the training data.",
    needs="text",
)
LOSS_RARE = series(
    "loss/rare",
    "cross-entropy of rare tokens",
    TOKEN_NATS,
    "Cross-entropy of the targets that are among the rarer tokens, which make up the other half of the training data.",
    needs="text",
)


def loss_at_part(part: int) -> str:
    """Cross-entropy in one of the four quarters of a window, from 1: `loss/quarter_<n>`."""
    return f"loss/quarter_{part}"


pattern(
    r"loss/quarter_(\d)",
    lambda part: Declared(
        "",
        f"cross-entropy, quarter {part} of the window",
        TOKEN_NATS,
        "Cross-entropy of the targets in this quarter of a window; later ones have more context to go by.",
        needs="text",
    ),
    "loss/quarter_1",
)
