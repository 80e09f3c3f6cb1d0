"""The error of the façade."""


class LabError(ValueError):
    """A request that the lab refuses; the message names the value and the remedy."""
