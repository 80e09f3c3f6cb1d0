"""A language run's workload: its facts and files, and text as records: a prompt, the text that grows from it, and what
the model thought of every token.

The same function serves the live model between two steps, a paused one, and a checkpoint opened in another process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qcore.base import plain_file
from qcore.config import ConfigError, SamplingConfig, Section, TextRunConfig
from qcore.data import Batch, Tokenizer, open_dataset, skipped_facts, tokenizer_from_json, translation_pairs
from qcore.detect import Facts
from qcore.diagnostics import generation_statistics
from qcore.models import Internals, LanguageModel, ModelOutput, build_model, parameter_count
from qcore.models.phase.concepts import ConceptLayer
from qcore.objectives import Derived, Term, term_weights
from qcore.probes import ProbeInput, catalog
from qcore.probes import text as text_probes
from qcore.probes.protocol import Keep, TextInput
from qcore.probes.runner import Runner
from qcore.runs.layout import CACHE_FOLDER, LABELS_FILE, TOKENIZER_FILE, write_text
from qcore.sampling import SampledToken, check_phases, generate
from qcore.store import Generation, RunWriter
from qcore.train.checkpoint import checkpoint_errors, load_checkpoint, restore_model, restore_optimizer
from qcore.train.growth import config_with_section, grow, grown_section, resize
from qcore.train.text_engine import MEASURED_ROWS, Engine, TextResult
from qcore.train.workload import EngineStep, Sampler, Workload

UPDATE_SECONDS = 0.1
FIRST_BATCHES = 4
_HEARD = ("repetition", "distinct_2")
_LONGEST = 10_000
_TABLES = {"encoding.semantic.weight", "token.weight", "angle.weight", "radius.weight"}
"""Tables of which a batch uses the rows of its own tokens only; a tied embedding is used whole by the head."""


class TextSampler(Sampler):
    """A language model and its tokenizer."""

    def __init__(self, config: TextRunConfig, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.config: TextRunConfig = config
        self._model = model
        self._tokenizer = tokenizer

    def sample(
        self,
        draft: Generation,
        settings: SamplingConfig,
        controls: Mapping[str, Any],
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Generation]:
        del controls
        self._check_sampling(settings)
        return sample_text(self._model, self._tokenizer, draft, settings, stop)

    def settings(self, changes: Mapping[str, Any]) -> Section:
        """As of every family; also refused: a coherence-aware rule for a model without phases."""
        settings = super().settings(changes)
        assert isinstance(settings, SamplingConfig)
        self._check_sampling(settings)
        return settings

    def _check_sampling(self, settings: SamplingConfig) -> None:
        try:
            check_phases(self._model, settings)
        except ValueError as error:
            raise ConfigError(str(error)) from error


class TextWorkload(TextSampler, Workload):
    """One language run's engine and all that depends on its being one."""

    engine: Engine

    def __init__(self, config: TextRunConfig, cache: Path, tokenizer: Path | None = None) -> None:
        self.engine = build_engine(config, cache, tokenizer)
        self.fingerprint = self.engine.dataset.fingerprint
        super().__init__(config, self.engine.model, self.engine.dataset.tokenizer)
        self._check_sampling(config.sampling)

    def section_after_growth(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return grown_section(self.engine.config, changes)

    def grow(self, section: Mapping[str, Any]) -> None:
        grow(self.engine, section)
        self._take_model()

    def resize(self, section: Mapping[str, Any]) -> None:
        resize(self.engine, section)
        self._take_model()

    def _take_model(self) -> None:
        self.config, self._model = self.engine.config, self.engine.model

    def runner(self, writer: RunWriter) -> Runner:
        return Runner(TextProbed(self.engine), writer, probe_version=self.config.probes.probe_version)

    def facts(self, controls: Mapping[str, Any], planned_lr_sum: float) -> Facts:
        engine, model = self.engine, self.config.model
        references = engine.dataset.references
        return Facts(
            kind=model.kind,
            vocab_size=engine.dataset.tokenizer.vocab_size,
            width=model.width,
            blocks=model.layers,
            unigram=references.unigram,
            bigram=references.bigram,
            trigram=references.trigram,
            generator=references.generator,
            planned_lr_sum=planned_lr_sum,
            term_ranges={term.name: (term.low, term.high) for term in engine.terms},
            hinges=frozenset(term.name for term in engine.terms if term.hinge),
            accumulation=engine.config.optim.accumulation,
            fault=engine.config.fault,
            controls=dict(controls),
            skipped=tuple((skipped.path, skipped.reason) for skipped in engine.dataset.report.skipped),
            data=engine.dataset.report.facts(),
            starts_level=getattr(model, "start", "level") == "level",  # one whose head has its own table always does
        )

    def term_weights(self, step: int, controls: Mapping[str, Any]) -> Mapping[str, float]:
        del step
        return term_weights(controls)

    def data_measurements(self, controls: Mapping[str, Any]) -> dict[str, float]:
        tokenizer = self._tokenizer
        return target_statistics(self.engine.first_batches(FIRST_BATCHES, controls), tokenizer.pad_id, tokenizer.eos_id)

    def describe(self, run_dir: Path) -> dict[str, Any]:
        tokenizer, dataset, optim = self._tokenizer, self.engine.dataset, self.config.optim
        path = run_dir / TOKENIZER_FILE
        if not path.exists():
            labels = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
            write_text(run_dir / LABELS_FILE, json.dumps(labels, ensure_ascii=False))
            write_text(path, tokenizer.to_json())  # last: it says that both are there
        return {
            "family": "text",
            "parameters": parameter_count(self.engine.model),
            "vocab_size": tokenizer.vocab_size,
            "bytes_per_token": dataset.bytes_per_token,
            "tokens_per_step": optim.batch_size * optim.accumulation * self.config.model.context,
            "references": vars(dataset.references),
            "corpus": dataset.name,
            "data_report": dataset.report.sentences(),
            "data_warnings": dataset.report.warnings(),
            **skipped_facts(dataset.report.skipped),
            "special_tokens": {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")},
        }

    def timeline(self, controls: Mapping[str, Any]) -> list[tuple[str, Any]]:
        length = min(int(controls["sample_length"]), _LONGEST)
        settings = self.config.sampling.model_copy(update={"max_tokens": length})
        return [(prompt, settings) for prompt in self.config.probes.prompts]

    def heard(self, stats: Mapping[str, Any]) -> dict[str, float]:
        return {
            catalog.member(catalog.GENERATION, name): float(stats[name])
            for name in _HEARD
            if isinstance(stats.get(name), int | float)
        }


class TextProbed:
    """A language run for its probes: what the step had, and what the engine provides."""

    probes = text_probes.PROBES

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        tokenizer = engine.dataset.tokenizer
        self._special_ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos", "unk")}
        self._pairs = translation_pairs(tokenizer) if engine.config.data.source == "bilingual" else ()

    @property
    def capabilities(self) -> frozenset[str]:
        model = self._engine.model
        model.eval()
        with torch.no_grad():
            output = model(self._engine.probe_row(1), with_phases=True)
        return frozenset({"text", "terms", "weights", "hidden"} | ({"phases"} if output.phases else set()))

    @property
    def term_names(self) -> list[str]:
        return [term.name for term in self._engine.terms]

    def parameter_names(self) -> Iterator[str]:
        return (name for name, _ in self._engine.model.named_parameters())

    def probe_input(self, step: int, result: TextResult, controls: Mapping[str, Any], keep: Keep) -> ProbeInput:
        output, batch, tokenizer = result.output, result.batch, self._engine.dataset.tokenizer
        named = {"last": output.hidden_BTD, "state": output.state_BTP, "concepts": output.concepts_BTK}
        access = TextStep(self._engine, step, result, controls)
        return ProbeInput(
            step=step,
            controls=controls,
            terms=result.terms,
            weights=term_weights(controls),
            outputs=output.logits_BTV,
            targets=batch.targets_BT,
            mask=batch.mask_BT,
            hidden={name: value for name, value in named.items() if value is not None},
            rows=slice(0, MEASURED_ROWS),
            engine=access,
            keep=keep,
            text=TextInput(
                inputs_BT=batch.inputs_BT,
                phases=output.phases,
                state_BTP=output.state_BTP,
                vocab_size=self._engine.model.vocab_size,
                eos_id=tokenizer.eos_id,
                special_ids=self._special_ids,
                heads=self._engine.config.model.heads,
                token_counts=self._engine.dataset.token_counts,
                pairs=self._pairs,
                engine=access,
            ),
        )


class TextStep(EngineStep):
    """What the engine of a language run provides about one step."""

    _engine: Engine
    _result: TextResult

    def lookup_tables(self) -> dict[str, Tensor]:
        names = [name for name, _ in self._engine.model.named_parameters() if name in _TABLES]
        return dict.fromkeys(names, self._result.batch.inputs_BT)

    def parts(self, *, tokens: int | None = None) -> dict[str, Tensor]:
        """As of every engine's step; rows are text here."""
        rows = self._result.rows
        if tokens is not None:
            rows = Batch(*(value[:, :tokens] for value in vars(rows).values()))
        return self._engine.graph_of(rows, self._controls).parts

    def logits(self, tokens_BT: Tensor) -> Tensor:
        return self._engine.logits(tokens_BT)

    def internals(self, tokens_BT: Tensor) -> Internals:
        self._engine.model.eval()
        with torch.no_grad():
            return self._engine.model.internals(tokens_BT)

    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        self._engine.model.eval()  # dropout would draw from a stream that no replay can repeat
        return self._engine.model.mixing(tokens_BT)

    def same_row(self, tokens: int) -> Tensor:
        return self._engine.probe_row(tokens)

    def parts_at(self, hidden_BTD: Tensor) -> dict[str, Tensor]:
        weights = term_weights(self._controls)
        active = [term for term in self._engine.terms if weights[term.name] != 0 and not term.needs]
        if not active:
            return {}
        output = ModelOutput(self._engine.model.read_out(hidden_BTD), hidden_BTD)
        derived = Derived(self._engine.term_inputs(output, self._result.rows))
        return {term.name: term.fn(derived, self._controls) for term in active}

    def phase_terms(self, *, weighted: bool) -> dict[str, Callable[[tuple[Tensor, ...]], Tensor]]:
        weights = term_weights(self._controls)
        inputs = self._engine.term_inputs(self._result.row_output, self._result.rows)

        def of_phases(term: Term) -> Callable[[tuple[Tensor, ...]], Tensor]:
            return lambda phases: term.fn(Derived(replace(inputs, phases=phases)), self._controls)

        terms = [term for term in self._engine.terms if term.needs_phases and (weights[term.name] or not weighted)]
        return {term.name: of_phases(term) for term in terms}

    def seen_phases(self) -> tuple[Tensor, ...] | None:
        return self._engine.term_inputs(self._result.row_output, self._result.rows).phases

    def concept_shares(self) -> Tensor | None:
        layer = next((part for part in self._engine.model.modules() if isinstance(part, ConceptLayer)), None)
        if layer is None:
            return None
        every_V = torch.arange(self._engine.model.vocab_size, device=self._engine.device)
        with torch.no_grad():
            return layer.shares(every_V[None])[0]

    def accumulation_error(self) -> float:
        return self._engine.accumulation_error(self._step + 1, self._controls)


def build_engine(config: TextRunConfig, cache: Path | None, tokenizer: Path | None = None) -> Engine:
    """The engine of a run, with its fault planted if it asks for one.

    Args:
        tokenizer: file of a tokenizer to keep.
    """
    kept = read_tokenizer(tokenizer) if tokenizer is not None and tokenizer.exists() else None
    engine = Engine(config, open_dataset(config.data, config.model.context, cache, tokenizer=kept))
    if config.fault:
        from qcore.faults import plant  # a resource of demonstrations and tests: healthy runs never load it

        plant(config.fault, engine)
    return engine


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a run keeps in its folder."""
    with open(path, encoding="utf-8", opener=plain_file) as file:
        return tokenizer_from_json(file.read())


def load_text(config: TextRunConfig, run_dir: Path, folder: Path) -> tuple[Sampler, Mapping[str, Any]]:
    """Model on the CPU with a checkpoint's weights, and the run's tokenizer. Raises `CheckpointError` for a bad
    folder.
    """
    tokenizer = read_tokenizer(run_dir / TOKENIZER_FILE)
    checkpoint = load_checkpoint(folder)
    with checkpoint_errors(folder, "model"):
        sized = config_with_section(config, checkpoint.state.model)
    assert isinstance(sized, TextRunConfig)
    config = sized
    if config.fault:
        # A planted fault belongs to the whole engine, data and optimizer included, so all of it is built.
        on_cpu = config.with_values({"device": "cpu"})
        assert isinstance(on_cpu, TextRunConfig)
        engine = build_engine(on_cpu, run_dir.parent / CACHE_FOLDER, run_dir / TOKENIZER_FILE)
        restore_model(engine.model, checkpoint)
        restore_optimizer(engine.model, engine.optimizer, checkpoint)
        model = engine.model
    else:
        model = build_model(config.model, tokenizer.vocab_size, None, seed=config.seed)
        restore_model(model, checkpoint)
    return TextSampler(config, model.eval(), tokenizer), checkpoint.state.controls


def target_statistics(batches: Iterable[Batch], pad_id: int, eos_id: int) -> dict[str, float]:
    """`data/target_top1_share`: largest share of one token among the unmasked targets; `data/pad_is_target`: share of
    them that are padding, whether written as pad or as an end of sequence after another.
    """
    targets: list[Tensor] = []
    padding = 0
    for batch in batches:
        real_N, inputs_N = batch.targets_BT[batch.mask_BT], batch.inputs_BT[batch.mask_BT]
        after_end_N = (inputs_N == eos_id) | (inputs_N == pad_id)
        padding += int(((real_N == pad_id) | ((real_N == eos_id) & after_end_N)).sum())
        targets.append(real_N)
    every_N = torch.cat(targets)
    if not len(every_N):
        return {}
    return {
        catalog.DATA_TARGET_TOP1_SHARE: float(every_N.bincount().max()) / len(every_N),
        catalog.DATA_PAD_IS_TARGET: padding / len(every_N),
    }


def sample_text(
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

    def partial(status: str, stats: dict[str, object]) -> Generation:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        return replace(draft, text=text, tokens=list(rows), stats=stats, status=status)

    try:
        for token in generate(model, prompt_ids, settings, eos_id=tokenizer.eos_id, forbidden=forbidden, stop=stop):
            ids.append(token.id)
            sampled.append(token)
            rows.append(_token_row(token, tokenizer))
            if time.monotonic() - shown >= UPDATE_SECONDS:
                shown = time.monotonic()
                yield partial("running", {"unknown_prompt_tokens": unknown})
    except FloatingPointError as error:
        status, reason = "failed", str(error)
    stats: dict[str, object] = {
        name.partition("/")[2]: value
        for name, value in generation_statistics(
            ids, logprobs=[token.logprob for token in sampled], entropies=[token.entropy for token in sampled]
        )
        .scalars()
        .items()
    }
    stats |= {"unknown_prompt_tokens": unknown, "seconds": time.monotonic() - started}
    yield partial(status, stats | ({"error": reason} if reason else {}))


def _token_row(token: SampledToken, tokenizer: Tokenizer) -> dict[str, object]:
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
