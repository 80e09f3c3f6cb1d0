"""Interference: who reads whom, head by head, with the text on both axes, and whether anything sees the future."""

from pages.session import family_words
from pages.session.lab import open_lab
from pages.views import interference
from pages.widgets import run_heading

lab = open_lab()
info = run_heading.open_run(lab, "Interference")
if info is not None and family_words.has_text(info, "tokens that read each other"):
    interference.page(lab, info)
