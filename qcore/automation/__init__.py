"""Who turns the knobs of a run beside its person: the control board, schedules, rules and the autopilot, and their dry
run.
"""
