"""Rules about the data, before the first step."""

from __future__ import annotations

from qcore.detect import data
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Clear, Rule
from qcore.probes import catalog

_COUNTED = "0 of the 12 data sets of the presets; it counts"

RULES: tuple[Rule, ...] = (
    Rule(
        "skipped_files",
        (),
        "Files of the data were left out",
        "Some files of the folder could not be read as what the run learns from, and were skipped. "
        "The run continues with what is left, which may not be what you wanted it to learn.",
        {"files": 0, "share": 0.05},
        "it only counts what was skipped",
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.skipped_files,
        families=ANY_FAMILY,
        past="Files of the data were left out",
        grade="note",
        clear=(Clear(fact="skipped_share", high="share"),),
    ),
    Rule(
        "repeated_documents",
        (),
        "Documents come many times",
        "Many documents are exact copies of others. Each copy is learned again, so that the loss falls through "
        "memorisation; all copies of a document are kept on one side, training where they are many.",
        {"share": 0.1, "documents": 12},
        _COUNTED,
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.repeated_documents,
        past="The same documents stood in the data many times",
        grade="weak",
    ),
    Rule(
        "held_out_in_training",
        (),
        "Held-out text is also in training",
        "Held-out documents are also in the training set, whole or with a few words changed. The held-out loss, and "
        "the "
        "references beside it, then say how well the text is memorised, not how well new text would be predicted.",
        {"share": 0.1, "documents": 12, "nearly_all": 0.9},
        f"{_COUNTED}, on a sample of 300 documents",
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.held_out_in_training,
        past="Held-out documents stood in training, too",
        grade="weak",
    ),
    Rule(
        "unknown_tokens",
        (),
        "The vocabulary does not fit the text",
        "Much of the text is the unknown token: words that the vocabulary does not hold, or sentences taken for words "
        "where no spaces stand between them. The model learns that token, and writes none of the text.",
        {"share": 0.3},
        _COUNTED,
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.unknown_tokens,
        past="Much of the text was unknown to the tokenizer",
        clear=(Clear(fact="held_out_unknown_share", high="share"),),
    ),
)
