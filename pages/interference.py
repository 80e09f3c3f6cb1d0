"""Interference: who reads whom, head by head, with the text on both axes, and whether anything sees the future."""

from pages import _families, _interferenceviews, _parts

lab = _parts.lab()
info = _parts.open_run(lab, "Interference")
if info is not None and _families.has_text(info, "tokens that read each other"):
    _interferenceviews.page(lab, info)
