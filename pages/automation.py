"""Automation: schedules, rules, limits and the autopilot of a run, what they would do, and what they did."""

from pages import _automationviews, _parts

lab = _parts.lab()
info = _parts.open_run(lab, "Automation")
if info is not None:
    _automationviews.page(lab, info)
