"""What the curves of a run say that another program wrote, and in which no detector has run: read, judged, not stored.

Only series whose names say what they are count, by the names that common programs give them. What else is known comes
from the run's own words: references and the size of the vocabulary among its meta values, the planned steps in its
status row. A finding that its program has stored stands; then nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.config import ExternalConfig
from qcore.detect import Facts, judge_curves
from qcore.probes import catalog
from qcore.store import Finding, RunReader

_TEXT_HELD_OUT = (
    catalog.EVAL_CE, "eval/loss", "eval_loss", "val/loss", "val_loss", "valid/loss", "valid_loss", "validation/loss",
    "validation_loss",
)  # fmt: skip
NAMES: Mapping[str, tuple[str, ...]] = {
    catalog.TERM_CE: (catalog.TERM_CE,),
    catalog.TERM_FLOW: (catalog.TERM_FLOW,),
    catalog.TRAIN_LOSS: (catalog.TRAIN_LOSS, "loss", "train_loss", "training_loss"),
    catalog.TRAIN_LR: (catalog.TRAIN_LR, "lr", "learning_rate", "train/learning_rate"),
    catalog.TRAIN_GRAD_NORM: (catalog.TRAIN_GRAD_NORM, "grad_norm", "gradient_norm", "train/gradient_norm"),
    catalog.EVAL_CE: _TEXT_HELD_OUT,
    catalog.EVAL_FLOW: (catalog.EVAL_FLOW,),
}
"""Names that a series may have, the first that a run has counts."""
_REFERENCES = ("unigram", "bigram", "trigram", "generator")


def judged_findings(reader: RunReader, config: ExternalConfig) -> list[Finding]:
    """Findings of the run's curves, as they would be stored; none for a run without a loss."""
    with reader.moment():
        there = set(reader.names())
        chosen = {name: next((one for one in known if one in there), "") for name, known in NAMES.items()}
        wanted = {name: own for name, own in chosen.items() if own}
        if not wanted.keys() & {catalog.TERM_CE, catalog.TERM_FLOW, catalog.TRAIN_LOSS}:
            return []
        found = reader.scalars_of(sorted(set(wanted.values())))
        meta, status, events = reader.meta(), reader.status(), reader.events()
    is_video = config.domain == "video" or not wanted.keys().isdisjoint({catalog.EVAL_FLOW, catalog.TERM_FLOW})
    if is_video and catalog.EVAL_CE in wanted:
        wanted.setdefault(catalog.EVAL_FLOW, wanted.pop(catalog.EVAL_CE))
    series = {name: (found[own].steps.tolist(), found[own].values.tolist()) for name, own in wanted.items()}
    facts = _facts(meta, "video" if is_video else "text", status.total_steps if status else 0)
    told = judge_curves(series, facts, [(event.step, event.kind, event.payload) for event in events])
    return [Finding(**vars(verdict)) for verdict in told]


def _facts(meta: Mapping[str, Any], family: Any, total_steps: int) -> Facts:
    references = meta.get("references") or {}
    unigram, bigram, trigram, generator = (_number(references.get(name)) for name in _REFERENCES)
    return Facts(
        kind="external",
        family=family,
        vocab_size=int(_number(meta.get("vocab_size")) or 0),
        accumulation=int(_number(meta.get("accumulation")) or 1),
        steps_per_pass=_number(meta.get("steps_per_pass")) or 0.0,
        controls={"steps": total_steps} if total_steps else {},
        unigram=unigram,
        bigram=bigram,
        trigram=trigram,
        generator=generator,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
