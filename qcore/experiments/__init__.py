"""Questions that many runs answer: effect of a change, sweep, ablation, benchmark, exam, guide check. They take the
person's lab.
"""
