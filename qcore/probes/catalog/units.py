"""Units that several series share."""

SHARE, NATS, TOKEN_NATS, RATIO, MS = "share", "nats", "nats per token", "ratio", "ms"
POSITIONS = "share of positions"
UNIT_INTERVAL, COSINE = "0 to 1", "cosine"
PER_TOKEN, LARGEST = "per token", "largest difference"
PIXELS = "standardised pixels"
MEAN_SQUARE = "mean squared error"
SUM_OF_RATES = "steps × rate"


def least_height(unit: str) -> float:
    """Height that a chart of this unit has at least: of shares and ratios, less is noise."""
    return 0.2 if unit in (SHARE, RATIO, POSITIONS) else 0.0
