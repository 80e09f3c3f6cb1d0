"""qcore: trains generative models that may collapse, and measures why. See docs/architecture.md for the rooms."""

__version__ = "0.1.0"
