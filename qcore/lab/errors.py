"""The error of the façade, which the store shares: what it says of one run's data is read at the same doors."""

from qcore.base import LabError

__all__ = ["LabError"]
