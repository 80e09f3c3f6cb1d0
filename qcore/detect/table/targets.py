"""Rules about what a language model is trained on."""

from __future__ import annotations

from qcore.detect import targets
from qcore.detect.rule import Rule
from qcore.detect.targets import IDENTITY
from qcore.probes import catalog

_EXACT = "none can be: in a healthy run the measure is exactly 0"
_WRONG = (catalog.LABELS_WRONG,)
_HOW = (catalog.LABELS_LAG, catalog.LABELS_LAG_SHARE, catalog.LABELS_SHOWN, catalog.LABELS_OTHER_ROW)

RULES: tuple[Rule, ...] = (
    Rule(
        "label_lag",
        ("D1",),
        "Targets are not the next token",
        "The targets stand in the input at another distance than one place, as when labels are shifted twice. "
        "The loss falls, but what the model learns to say is not what comes next.",
        IDENTITY,
        _EXACT,
        _WRONG,
        targets.label_lag,
        shows=_HOW,
        past="Targets were not the next token",
    ),
    Rule(
        "answers_in_inputs",
        ("D2",),
        "Answers stand in the input",
        "Some inputs are the very token that the model is asked for at their position. It learns to read them off, and "
        "has nothing to read off when it writes.",
        IDENTITY,
        _EXACT,
        _WRONG,
        targets.answers_in_inputs,
        shows=_HOW,
        past="Answers stood in the input",
    ),
    Rule(
        "foreign_targets",
        ("D3",),
        "Targets do not belong to their inputs",
        "The targets are not found in their own row at any distance: they are another row's, or of other data. "
        "Nothing but token frequencies can be learned from such pairs.",
        {**IDENTITY, "rows": 0.5},
        _EXACT,
        _WRONG,
        targets.foreign_targets,
        shows=_HOW,
        past="Targets did not belong to their inputs",
    ),
    Rule(
        "few_targets",
        ("D4",),
        "Few tokens are targets",
        "Most real tokens, or whole stretches of a row, never count in the loss. What is not a target is not learned, "
        "and the positions that do count may not be those at which the model will write.",
        {"trained": 0.3, "covered": 0.75, "unread": 0.4, **IDENTITY},
        "none can be where all tokens are targets; answers of a chat alone may be wanted",
        (catalog.LABELS_TRAINED, catalog.LABELS_WITHOUT_GRADIENT),
        targets.few_targets,
        shows=(catalog.LABELS_COVERED, catalog.LABELS_FIRST, catalog.LABELS_LAST, catalog.LABELS_WRONG),
        past="Few tokens were targets",
        grade="weak",
    ),
    Rule(
        "end_never_target",
        ("D5",),
        "The end of a text is never a target",
        "Texts end within the rows, but the end is not among the targets, as when padding is the end token and is left "
        "out of the loss. The model never learns to stop.",
        {"ends": 8, "share": 0.1, **IDENTITY},
        _EXACT,
        (catalog.LABELS_END_TARGETS,),
        targets.end_never_target,
        shows=(catalog.LABELS_ENDS, catalog.LABELS_TRAINED, catalog.LABELS_WRONG),
        past="The end of a text was never a target",
        grade="weak",
    ),
    Rule(
        "repeated_batches",
        ("D6",),
        "The same rows come again and again",
        "Steps get the same few rows although the text has many others. They are memorised while the held-out loss "
        "rises, and the rest of the text is not seen.",
        {"share": 0.5, "possible": 8},
        "rows drawn with replacement repeat less than half as much; a short text is held to its own size",
        (catalog.BATCHES_DISTINCT,),
        targets.repeated_batches,
        shows=(catalog.BATCHES_ROWS, catalog.BATCHES_POSSIBLE, catalog.BATCHES_DISTINCT_IN_UPDATE),
        past="The same rows came again and again",
    ),
    Rule(
        "neighbouring_batches",
        ("D7",),
        "The rows of a step are neighbours",
        "The text is not shuffled: the rows of a step follow each other in it. Gradients of such a step agree with "
        "each other and not with the next one's, so the loss swings and learning is slower.",
        {"spread": 0.25, "continued": 0.5, "possible": 16, "repeated": 0.5},
        "rows drawn at random have a spread of 1.0 ± 0.15",
        (catalog.BATCHES_SPREAD, catalog.BATCHES_CONTINUED),
        targets.neighbouring_batches,
        shows=(catalog.BATCHES_POSSIBLE, catalog.BATCHES_DISTINCT),
        past="The rows of a step were neighbours",
        grade="weak",
    ),
)
"""In the order in which a pair of input and target can go wrong, then which rows a step gets."""
