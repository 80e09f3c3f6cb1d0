"""Generations as records: a prompt, the text that grows from it, and what the model thought of every token.

The same function serves the live model between two steps, a paused one, and a checkpoint opened in another process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from qcore.config import RunConfig, SamplingConfig
from qcore.data import Tokenizer, open_dataset, tokenizer_from_json
from qcore.diagnostics import generation_statistics
from qcore.models import LanguageModel, build_model
from qcore.sampling import SampledToken, generate
from qcore.store import Generation
from qcore.train.checkpoint import Checkpoint, load_checkpoint, restore_model, restore_optimizer
from qcore.train.engine import build_engine
from qcore.train.files import TOKENIZER_FILE, read_config

UPDATE_SECONDS = 0.1


def speak(
    model: LanguageModel,
    tokenizer: Tokenizer,
    draft: Generation,
    settings: SamplingConfig,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Generation]:
    """Yield `draft` as it grows, at most every 0.1 s, and last with its statistics and status `done`.

    The prompt is preceded by the begin-of-sequence token, as every document is in training. A model that breaks
    while it speaks (NaN logits) ends with status `failed` and the reason in its statistics.
    """
    model.eval()  # training puts it back before its next step; done once here, it saves `generate` a walk a token
    started = shown = time.monotonic()
    prompt_ids = [tokenizer.bos_id, *tokenizer.encode(draft.prompt)]
    unknown = sum(token == tokenizer.unk_id for token in prompt_ids)
    ids: list[int] = []
    sampled: list[SampledToken] = []
    rows: list[dict[str, object]] = []
    forbidden = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id)
    status, reason = "done", None

    def grown(status: str, stats: dict[str, object]) -> Generation:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        return replace(draft, text=text, tokens=list(rows), stats=stats, status=status)

    try:
        for token in generate(model, prompt_ids, settings, eos_id=tokenizer.eos_id, forbidden=forbidden, stop=stop):
            ids.append(token.id)
            sampled.append(token)
            rows.append(_row(token, tokenizer))
            if time.monotonic() - shown >= UPDATE_SECONDS:
                shown = time.monotonic()
                yield grown("running", {"unknown_prompt_tokens": unknown})
    except FloatingPointError as error:
        status, reason = "failed", str(error)
    stats: dict[str, object] = {
        name.removeprefix("generation/"): value
        for name, value in generation_statistics(
            ids, logprobs=[token.logprob for token in sampled], entropies=[token.entropy for token in sampled]
        )
        .scalars()
        .items()
    }
    stats |= {"unknown_prompt_tokens": unknown, "seconds": time.monotonic() - started}
    yield grown(status, stats | ({"error": reason} if reason else {}))


def load_for_sampling(run_dir: Path, folder: Path) -> tuple[LanguageModel, Tokenizer]:
    """Model on the CPU with a checkpoint's weights, and the run's tokenizer. Raises `CheckpointError` for a bad
    folder.
    """
    config: RunConfig = read_config(run_dir)
    tokenizer = tokenizer_from_json((run_dir / TOKENIZER_FILE).read_text(encoding="utf-8"))
    checkpoint = load_checkpoint(folder)
    if config.fault:
        model = _planted(config, checkpoint, run_dir)
    else:
        model = build_model(config.model, tokenizer.vocab_size, None, seed=config.seed)
        restore_model(model, checkpoint)
    return model.eval(), tokenizer


def _planted(config: RunConfig, checkpoint: Checkpoint, run_dir: Path) -> LanguageModel:
    """A planted fault belongs to the whole engine, data and optimizer included, so all of it is built."""
    on_cpu = config.with_values({"device": "cpu"})
    engine = build_engine(on_cpu, open_dataset(config.data, config.model.context, run_dir.parent / ".cache"))
    restore_model(engine.model, checkpoint)
    restore_optimizer(engine.model, engine.optimizer, checkpoint)
    return engine.model


def _row(token: SampledToken, tokenizer: Tokenizer) -> dict[str, object]:
    top = zip(token.top_ids, token.top_probabilities, strict=True)
    return {
        "label": tokenizer.token_text(token.id),
        "id": token.id,
        "logprob": token.logprob,
        "probability": token.probability,
        "rank": token.rank,
        "entropy": token.entropy,
        "chosen_probability": token.chosen_probability,
        "top": [[tokenizer.token_text(other), probability] for other, probability in top],
    }
