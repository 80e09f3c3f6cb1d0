"""Rules about the learning rate. They are asked after those whose findings they explain."""

from __future__ import annotations

from qcore.detect import raised_rate
from qcore.detect.rule import Rule
from qcore.probes import catalog

RULES: tuple[Rule, ...] = (
    Rule(
        "raised_rate",
        ("T2b",),
        "The learning rate was raised too far",
        "The learning rate was raised by a multiple, and within a few steps the loss left the range that the run had "
        "reached. What was learned is lost while the rate stays there, and it seldom comes back by itself.",
        {"times": 3.0, "release": 1.5, "steps": 60},
        "it needs a raise by hand, schedule or rule, and a loss that left its range",
        (catalog.TERM_CE,),
        raised_rate.raised_rate,
        shows=(catalog.TRAIN_LR,),
        past="The learning rate was raised too far",
    ),
)
