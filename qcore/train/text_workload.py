"""A language run's workload: its facts and files, and text as records: a prompt, the text that grows from it, and what
the model thought of every token.

The same function serves the live model between two steps, a paused one, and a checkpoint opened in another process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qcore.base import plain_file
from qcore.config import SamplingConfig, TextRunConfig
from qcore.data import Batch, Tokenizer, open_dataset, skipped_facts, tokenizer_from_json, translation_pairs
from qcore.detect import Facts
from qcore.diagnostics import AccumulationWeights, SampleScore, TrainedRows, longest_copy
from qcore.models import Internals, ModelOutput, build_model, parameter_count
from qcore.models.phase.concepts import ConceptLayer
from qcore.objectives import Derived, Term, term_weights
from qcore.probes import ProbeInput, catalog
from qcore.probes import text as text_probes
from qcore.probes.protocol import Keep, TextInput
from qcore.probes.runner import Runner
from qcore.runs.layout import CACHE_FOLDER, LABELS_FILE, TOKENIZER_FILE, write_text
from qcore.store import Generation, RunWriter
from qcore.train.checkpoint import checkpoint_errors, load_checkpoint, restore_model, restore_optimizer
from qcore.train.growth import config_with_section, grow, grown_section, resize
from qcore.train.sampled.text import compare_texts, data_round_trip, score_generation
from qcore.train.sampled.text_sampler import TextSampler
from qcore.train.text_engine import MEASURED_ROWS, Engine, TextResult
from qcore.train.workload import EngineStep, Sampler, Workload, weight_versions

SURPRISED_UPDATES = 16
LOOKED_AT_TOKENS, LOOKED_AT_ROWS, LOOKED_AT_RANGE = 32_768, 64, 512
"""Of what updates are trained on: tokens, rows of a micro-batch, and how many updates back or ahead."""
FIRST_BATCHES = 4
_PROPOSED = ("packing", "tokenizer", "accumulation", "layers")
"""What only a new run can change, and remedies propose to."""
_HEARD = ("repetition", "distinct_2")
_LONGEST = 10_000
_SEARCHED, _MOST_COMPARED = 1 << 16, 128
"""Tokens of the training text, and of a sample, that are compared: about a hundredth of what drawing it takes."""
_TABLES = {"encoding.semantic.weight", "token.weight", "angle.weight", "radius.weight"}
"""Tables of which a batch uses the rows of its own tokens only; a tied embedding is used whole by the head."""


class TextWorkload(TextSampler, Workload):
    """One language run's engine and all that depends on its being one."""

    engine: Engine

    def __init__(self, config: TextRunConfig, cache: Path, tokenizer: Path | None = None) -> None:
        self.engine = build_engine(config, cache, tokenizer)
        self.fingerprint = self.engine.dataset.fingerprint
        super().__init__(config, self.engine.model, self.engine.dataset.tokenizer, self.engine.draw_text)
        self._check_sampling(config.sampling)
        self._scores: dict[str, SampleScore] = {}

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
            settings={name: self.config.value(name) for name in _PROPOSED if name not in controls},
            steps_per_pass=self._steps_per_pass(),
            starts_level=getattr(model, "start", "level") == "level",  # one whose head has its own table always does
        )

    def _steps_per_pass(self) -> float:
        """Updates in which as many targets come as the training text has."""
        optim, dataset = self.config.optim, self.engine.dataset
        rows = optim.batch_size * optim.accumulation
        if self.config.data.packing == "padded":  # a document a row, whatever its length
            return dataset.report.train_documents / rows
        return float(dataset.token_counts.sum()) / (rows * self.config.model.context)

    def term_weights(self, step: int, controls: Mapping[str, Any]) -> Mapping[str, float]:
        del step
        return term_weights(controls)

    def data_measurements(self, controls: Mapping[str, Any]) -> dict[str, float]:
        tokenizer = self._tokenizer
        targets = target_statistics(
            self.engine.first_batches(FIRST_BATCHES, controls), tokenizer.pad_id, tokenizer.eos_id
        )
        return targets | data_round_trip(self.engine.dataset)

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

    def copied(self, sample: Generation) -> dict[str, float]:
        """Longest stretch of the sample, and of as much held-out text, that stands in the first 65,536 tokens of the
        training text.
        """
        ids = np.array([row["id"] for row in sample.tokens][:_MOST_COMPARED], dtype=np.int64)
        if not len(ids):
            return {}
        train, held_out = self.engine.dataset.train.tokens_N, self.engine.dataset.validation.tokens_N
        searched_N = train[:_SEARCHED]
        return {
            catalog.GENERATION_COPIED: float(longest_copy(ids, searched_N)),
            catalog.GENERATION_COPIED_HELD_OUT: float(longest_copy(held_out[: len(ids)], searched_N)),
        }

    def sample(
        self,
        draft: Generation,
        settings: SamplingConfig,
        controls: Mapping[str, Any],
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[Generation]:
        """As of any sampler; a sample of the timeline is scored by the trained model."""
        versions = weight_versions(self.engine.model)
        for partial in super().sample(draft, settings, controls, stop):
            # a rewind may put other weights in while a sample is drawn: it is then of neither
            if partial.status == "done" and draft.kind == "timeline" and weight_versions(self.engine.model) == versions:
                self._scores[partial.id] = score_generation(self.engine, partial, settings)
            yield partial

    def compare_samples(self, samples: Sequence[Generation]) -> dict[str, float]:
        """What the samples' scores say together."""
        scores, self._scores = self._scores, {}
        return compare_texts(self.engine, samples, scores)

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

    def record_update(self) -> None:
        """Record the update that is about to be made."""
        self._engine.updates.arm()

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

    @cached_property
    def _surprise_V(self) -> Tensor:
        """−ln of each token's share of the training targets; half a count for every one: a target that the training
        text lacks is rare, not impossible.
        """
        counts_V = torch.as_tensor(self._engine.dataset.token_counts).float() + 0.5
        return (counts_V.sum() / counts_V).log()

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

    def logits_as_generated(self, tokens_BT: Tensor) -> Tensor:
        """As `TextAccess` says."""
        return self._engine.logits_as_generated(tokens_BT)

    def stepped_logits(self, tokens_BT: Tensor) -> Tensor:
        """As `TextAccess` says."""
        return self._engine.stepped_logits(tokens_BT)

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

    def check_accumulation(self) -> tuple[float, Callable[[], AccumulationWeights]]:
        """Error of the accumulated gradient of the next update, and what it is made of."""
        return self._engine.check_accumulation(self._step + 1, self._controls)

    def surprises(self) -> dict[int, float]:
        """By update, of the newest (before the first: of those to come), from their own targets."""
        first = max(1, self._step - SURPRISED_UPDATES + 1)
        found = {}
        for update in range(first, max(self._step, SURPRISED_UPDATES if self._step == 0 else 1) + 1):
            batches = self._engine._micro_batches(update, self._controls)
            nats_N = torch.cat([self._surprise_V[batch.targets_BT.cpu()][batch.mask_BT.cpu()] for batch in batches])
            if len(nats_N):
                found[update] = float(nats_N.mean())
        return found

    def trained_rows(self) -> TrainedRows:
        """Rows as the engine draws them, a function of the number of the update."""
        optim, stream = self._engine.config.optim, self._engine.dataset.train
        per_update = optim.batch_size * optim.accumulation * self._engine.config.model.context
        # thoroughly once; in training a quarter of it, since the budget is the run's
        tokens = LOOKED_AT_TOKENS if self._step == 0 else LOOKED_AT_TOKENS // 4
        updates = looked_at_updates(self._step, int(self._controls["steps"]), tokens // per_update)
        found: list[Batch] = []
        numbers: list[int] = []
        for update in updates:
            for batch in self._engine._micro_batches(update, self._controls):
                found.append(Batch(*(value[:LOOKED_AT_ROWS].cpu() for value in vars(batch).values())))
                numbers += [update] * len(found[-1].mask_BT)
        columns = zip(*(vars(batch).values() for batch in found), strict=True)
        inputs, targets, mask = (torch.cat(column).numpy() for column in columns)
        windows = np.arange(min(len(inputs), stream.fixed_windows))
        text = stream.fixed_batch(windows * stream.fixed_windows // len(windows)).inputs_BT
        context = self._engine.config.model.context
        packed = self._engine.config.data.packing == "packed"
        epoch = len(stream.tokens_N) // context if packed else stream.fixed_windows
        return TrainedRows(
            inputs_RT=inputs,
            targets_RT=targets,
            mask_RT=mask,
            update_R=np.array(numbers),
            text_WT=text.numpy(),
            windows=max(1, epoch),
            tokens_N=stream.tokens_N,
        )


def looked_at_updates(step: int, steps: int, count: int) -> list[int]:
    """Updates whose rows are compared: some in a row up to `step` (before the first: from it on), others evenly spread
    over the 512 before (after), 4 to 64 in all.
    """
    count = min(64, max(4, count))
    near = min(8, count // 2)
    if step > 0:
        first = max(1, step - LOOKED_AT_RANGE + 1)
        row, rest = range(max(first, step - near + 1), step + 1), range(first, max(first, step - near + 1))
    else:
        # a run of a few steps has the same loader as a long one
        last = min(max(64, steps), LOOKED_AT_RANGE)
        row, rest = range(1, min(near, last) + 1), range(near + 1, last + 1)
    wanted = min(count - len(row), len(rest))
    return sorted({*row, *(rest[at * len(rest) // wanted] for at in range(wanted))})


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
    config, draw_text = sized, None
    if config.fault:
        # A planted fault belongs to the whole engine, data and optimizer included, so all of it is built.
        on_cpu = config.with_values({"device": "cpu"})
        assert isinstance(on_cpu, TextRunConfig)
        engine = build_engine(on_cpu, run_dir.parent / CACHE_FOLDER, run_dir / TOKENIZER_FILE)
        restore_model(engine.model, checkpoint)
        restore_optimizer(engine.model, engine.optimizer, checkpoint)
        model, draw_text = engine.model, engine.draw_text
    else:
        model = build_model(config.model, tokenizer.vocab_size, None, seed=config.seed)
        restore_model(model, checkpoint)
    return TextSampler(config, model.eval(), tokenizer, draw_text), checkpoint.state.controls


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
