"""Rules about the data, before the first step."""

from __future__ import annotations

from qcore.detect import data
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Clear, Rule
from qcore.probes import catalog

_DOCUMENTS = {"share": 0.1, "documents": 12, "nearly_all": 0.9}
_SPACELESS = {"spaceless": 0.3, "unknown": 0.1}
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
        _DOCUMENTS,
        f"{_COUNTED}, on a sample of 300 documents",
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.held_out_in_training,
        past="Held-out documents stood in training, too",
        grade="weak",
    ),
    Rule(
        "held_out_contained",
        (),
        "Held-out text stands in training piece by piece",
        "Runs of about 13 words of the held-out text stand in training, although no document does: documents overlap, "
        "or are put together from the same pieces. The held-out loss then says how well they are memorised.",
        {"contained": 0.4, "runs": 100, **_DOCUMENTS},
        "of 13 data sets (stories, prose, code, logs, CSV, DNA) none has more than 0.15",
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.held_out_contained,
        past="Held-out text stood in training piece by piece",
    ),
    Rule(
        "language_without_spaces",
        (),
        "The language has no spaces between words",
        "The vocabulary is one of words, and the text is of a language that writes no spaces between them. Whole "
        "sentences are taken for words, and those that are new become the unknown token.",
        _SPACELESS,
        _COUNTED,
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.language_without_spaces,
        past="The language had no spaces between words",
    ),
    Rule(
        "not_prose",
        (),
        "The text is wrapped in something else",
        "Much of the text is tags, JSON around each text, base64 or no text at all. The model learns these as it "
        "learns words, which may not be what you wanted.",
        {"tags": 0.2, "json": 0.5, "base64": 0.3, "binary": 0.02},
        "code, logs, tables and DNA are not meant, and have 0.00 to 0.02",
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.not_prose,
        past="The text was wrapped in something else",
        grade="note",
    ),
    Rule(
        "unknown_tokens",
        (),
        "The vocabulary does not fit the text",
        "Much of the text is the unknown token: words that the vocabulary does not hold, or sentences taken for words "
        "where no spaces stand between them. The model learns that token, and writes none of the text.",
        {"share": 0.3, **_SPACELESS},
        _COUNTED,
        (catalog.OPTIM_PLANNED_LR_SUM,),
        data.unknown_tokens,
        past="Much of the text was unknown to the tokenizer",
        clear=(Clear(fact="held_out_unknown_share", high="share"),),
    ),
)
