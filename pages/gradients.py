"""Gradients: which term pulls how hard and against whom, which weights are dead, and how far every module moves."""

from pages import _gradientviews, _parts

lab = _parts.lab()
info = _parts.open_run(lab, "Gradients")
if info is not None:
    _gradientviews.page(lab, info)
