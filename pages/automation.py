"""Automation: schedules, rules, limits and the autopilot of a run, what they would do, and what they did."""

from pages.session import family_words
from pages.session.lab import open_lab
from pages.views import automation
from pages.widgets import run_heading

lab = open_lab()
info = run_heading.open_run(lab, "Automation")
if info is not None and not family_words.has_trainer(info):
    family_words.elsewhere(info, "Schedules, rules and the autopilot act on runs that this lab trains.")
elif info is not None:
    automation.page(lab, info)
