"""Gradients: which term pulls how hard and against whom, which weights are dead, and how far every module moves."""

from pages.session.lab import open_lab
from pages.views import gradients
from pages.widgets import run_heading

lab = open_lab()
info = run_heading.open_run(lab, "Gradients")
if info is not None:
    gradients.page(lab, info)
