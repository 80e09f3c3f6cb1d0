"""Stored series in words: a title and a unit for every name, for titles, legends, tables and reports.

Names are declared one by one, or by pattern where a part of the name is a term, a layer or a module. A name that nobody
has declared, of a run that another version wrote, is put into words by its own parts: no page shows a raw name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qcore.base.words import name_words

SHARE, NATS, TOKEN_NATS, RATIO, POSITIONS = "share", "nats", "nats per token", "ratio", "share of positions"
_PIXELS = "standardised pixels"
MEAN_SQUARE = "mean squared error"
_TERMS = {
    "ce": ("cross-entropy, training", TOKEN_NATS),
    "flow": ("flow loss, training", MEAN_SQUARE),
    "z_loss": ("z loss, unweighted", "squared nats"),
}
_NAMES: dict[str, tuple[str, str]] = {
    "train/loss": ("total loss", "weighted sum of the terms"),
    "train/lr": ("learning rate", "a step"),
    "train/grad_norm": ("gradient norm before clipping", "L2"),
    "train/step_ms": ("step time", "ms"),
    "train/tokens_per_second": ("speed", "tokens a second"),
    "train/frames_per_second": ("speed", "frames a second"),
    "train/memory_mb": ("memory of the trainer", "MB"),
    "eval/ce": ("cross-entropy, held out", TOKEN_NATS),
    "eval/flow": ("flow loss, held out", MEAN_SQUARE),
    "strict/ce": ("cross-entropy from the prefix alone", TOKEN_NATS),
    "strict/teacher_forced": ("cross-entropy of the same rows, teacher-forced", TOKEN_NATS),
    "strict/gap": ("gain from seeing the whole row", TOKEN_NATS),
    "perplexity/teacher_forced": ("perplexity, teacher-forced", "per token"),
    "perplexity/strict": ("perplexity, strict", "per token"),
    "perplexity/coherent": ("perplexity, coherent third", "per token"),
    "perplexity/middle": ("perplexity, middle third", "per token"),
    "perplexity/incoherent": ("perplexity, incoherent third", "per token"),
    "perplexity/coherence_weighted": ("perplexity, weighted by coherence", "per token"),
    "tokens/top1_share": ("largest share of one predicted token", SHARE),
    "tokens/target_top1_share": ("largest share of one target token", SHARE),
    "tokens/top1_token": ("most predicted token", "id"),
    "tokens/coverage": ("distinct predictions ÷ distinct targets", RATIO),
    "tokens/mean_entropy": ("entropy of one prediction", NATS),
    "tokens/marginal_entropy": ("entropy of the average prediction", NATS),
    "tokens/mutual_information": ("information that the context carries", NATS),
    "tokens/kl_target": ("divergence of the average prediction from the data", NATS),
    "tokens/accuracy": ("accuracy of the likeliest token", POSITIONS),
    "tokens/row_variance": ("variance of predictions along a row", "variance"),
    "tokens/mean_probability": ("mean probability of the right token", "probability"),
    "tokens/eos_probability": ("mean probability of the end of the text", "probability"),
    "tokens/padding_share": ("share of padding in the batch", SHARE),
    "phase/R": ("order parameter R of the phases", "0 to 1"),
    "phase/coverage": ("share of the phase circle in use", SHARE),
    "phase/im_re_ratio": ("imaginary ÷ real variance", RATIO),
    "phase/dimension_variance": ("least circular variance of the phases", "0 to 1"),
    "phase/semantic_coherence": ("phase agreement of similar tokens", "−1 to 1"),
    "phase/real_axis_share": ("share of the phases on the real axis", SHARE),
    "geometry/mean_cosine": ("mean cosine of the hidden states", "cosine"),
    "geometry/effective_rank": ("effective rank of the hidden states", "share of the width"),
    "weights/dead_share": ("weights without gradient", SHARE),
    "weights/frozen_blocks": ("blocks without gradient", "blocks"),
    "weights/blocks": ("blocks", "blocks"),
    "weights/update_ratio": ("size of an update ÷ size of the weights", RATIO),
    "causality/leak": ("change of earlier outputs", "largest difference"),
    "causality/response": ("change of all outputs", "largest difference"),
    "causality/context_response": ("change of later outputs", "largest difference"),
    "batch/dependence": ("change with other rows in the batch", "largest difference"),
    "data/pad_is_target": ("targets that are padding", SHARE),
    "data/target_top1_share": ("largest share of one token among the targets", SHARE),
    "shift/targets_are_inputs": ("targets equal to their inputs", SHARE),
    "shift/copy_rate": ("predictions that copy their input", SHARE),
    "shift/ce_here": ("cross-entropy against the token itself", TOKEN_NATS),
    "shift/ce_next": ("cross-entropy against the next token", TOKEN_NATS),
    "accumulation/error": ("error of the accumulated gradient", "relative"),
    "optim/lr_sum": ("sum of the learning rates so far", "steps × rate"),
    "optim/planned_lr_sum": ("sum of the planned learning rates", "steps × rate"),
    "generation/repetition": ("repetition in samples", SHARE),
    "generation/distinct_2": ("distinct word pairs in samples", SHARE),
    "generation/distinct_1": ("distinct words in samples", SHARE),
    "flow/noise_correlation": ("noise that frames share in training", SHARE),
    "flow/sample_noise_correlation": ("noise that frames share when sampling", SHARE),
    "flow/t_star": ("collapse time t*", "time"),
    "flow/velocity_error": ("error of the target velocity", "relative"),
    "flow/position_response": ("response to the order of frames", "relative"),
    "anchor/entropy": ("entropy of the anchor", "nats a value"),
    "anchor/mean": ("mean of the anchor", _PIXELS),
    "anchor/spread": ("spread of the anchor", _PIXELS),
    "interference/constructive": ("constructive share of the weights", SHARE),
    "interference/destructive": ("destructive share of the weights", SHARE),
    "interference/participation": ("share of the past that is read", SHARE),
    "interference/entropy": ("entropy of the weights ÷ its largest value", RATIO),
    "pam/decay_low": ("fastest decay γ", "0 to 1"),
    "pam/decay_mean": ("mean decay γ", "0 to 1"),
    "pam/decay_high": ("slowest decay γ", "0 to 1"),
    "pam/memory": ("mean memory", "tokens"),
    "pam/state_rank": ("directions of the state in use", SHARE),
    "pam/im_re_ratio": ("imaginary ÷ real variance of the reads", RATIO),
    "flux/threshold_mean": ("mean threshold", "0 to 1"),
    "flux/strength": ("strength of the connections", "mean weight"),
    "flux/skip": ("skip around the flow, mean", "0 to 1"),
    "flux/radius_mean": ("mean radius of the states", "0 to 1"),
    "flux/kept_share": ("share of the past that is kept", SHARE),
    "flux/dt_mean": ("mean step of the flow", "time"),
    "width/share_1": ("share of width D", SHARE),
    "width/share_1_5": ("share of width 1.5 D", SHARE),
    "width/share_2_25": ("share of width 2.25 D", SHARE),
    "width/mean": ("mean width", "× D"),
    "width/mflop": ("operations of the chosen widths", "10⁶ a token"),
    "language/certainty": ("certainty of the language", "largest share"),
    "concept/alignment": ("translations that share a concept", "share of pairs"),
    "concept/alignment_chance": ("translations that share a concept by chance", "share of pairs"),
    "concept/alignment_error": ("standard error of sharing by chance", "share of pairs"),
    "concept/alignment_z": ("sharing of concepts above chance", "standard errors"),
    "concept/cosine": ("likeness of translations", "cosine"),
    "concept/cosine_chance": ("likeness of any two words", "cosine"),
    "concept/sharpness": ("sharpness of the concepts", "0 to 1"),
    "concept/usage": ("concepts in use", SHARE),
    "moe/load_max": ("largest load of an expert", "÷ even load"),
    "moe/entropy": ("evenness of the experts' load", "entropy ÷ ln E"),
    "cost/total_percent": ("planned cost of all measurements", "% of training time"),
    "cost/spent_percent": ("cost of all measurements", "% of training time"),
    "cost/eval_ms": ("cost of the evaluation", "ms"),
    "cost/probes_run": ("measurements taken", "count"),
    "cost/before_training_ms": ("cost of the checks before training", "ms"),
}
_MEASURES = {
    "divergence": ("distance between frames", f"RMS, {_PIXELS}"),
    "cosine": ("mean cosine of frames", "cosine"),
    "orthogonality": ("orthogonality of frames", "1 − mean |cosine|"),
    "coherence": ("coherence of motion", "cosine"),
    "energy": ("collapse energy of frames", f"RMS, {_PIXELS}"),
    "entanglement": ("entanglement of frames", "mutual information, nats"),
    "std": ("spread of the pixels", _PIXELS),
    "std_ratio": ("spread ÷ the data's", RATIO),
    "lag_change": ("change from frame to frame", f"RMS, {_PIXELS}"),
    "lag_ratio": ("change from frame to frame ÷ the data's", RATIO),
    "motion_variance": ("variance of the motion", "variance"),
    "motion_ratio": ("variance of the motion ÷ the data's", RATIO),
}
_SOURCES = {"generated": "generated", "denoised": "denoised", "data": "data", "held_out": "held-out data"}
_OF_A_TERM = {
    "norm": ("gradient norm of {0}", "L2, unweighted"),
    "ratio": ("pull of {0} ÷ the main loss", RATIO),
    "cos": ("direction of {0} against the main loss", "cosine"),
    "value": ("{0} where its gradient was measured", "unweighted"),
}


def _term(name: str) -> tuple[str, str]:
    return _TERMS.get(name, (f"{name_words(name)}, unweighted", "value of the term"))


def _frames(source: str, measure: str) -> tuple[str, str]:
    title, unit = _MEASURES.get(measure, (name_words(measure), ""))
    return f"{title}, {_SOURCES.get(source, name_words(source))}", unit


def _pull(place: str, kind: str, term: str) -> tuple[str, str]:
    title, unit = _OF_A_TERM[kind]
    where = " at the last hidden state" if place == "hidden" else ""
    return title.format({"ce": "cross-entropy", "flow": "flow loss"}.get(term, name_words(term))) + where, unit


_FLUX = {"kept": "share of the past that is kept", "radius": "mean radius", "dt": "step of the flow"}
_TOKENS = {"eos": "the end of the text", "pad": "padding", "bos": "the start of the text", "unk": "unknown words"}
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[..., tuple[str, str]]], ...] = (
    (re.compile(r"term/(.+)"), _term),
    (re.compile(r"frames/([^/]+)/(.+)"), _frames),
    (re.compile(r"(grad|hidden)/(norm|ratio|cos|value)/(.+)"), _pull),
    (re.compile(r"energy/sign/(.+)"), lambda term: (f"effect of {name_words(term)} on its coherence", "sign, −1 to 1")),
    (
        re.compile(r"tokens/predicted_(.+)"),
        lambda token: (f"predicted share of {_TOKENS.get(token, name_words(token))}", SHARE),
    ),
    (
        re.compile(r"tokens/target_(.+)"),
        lambda token: (f"target share of {_TOKENS.get(token, name_words(token))}", SHARE),
    ),
    (re.compile(r"phase/R_layer(\d+)"), lambda layer: (f"order parameter R, {_layer(layer)}", "0 to 1")),
    (re.compile(r"phase/window_(\d+)"), lambda width: (f"coherence R inside {width} tokens", "0 to 1")),
    (
        re.compile(r"flux/(\w+)_layer(\d+)"),
        lambda part, layer: (f"{_FLUX.get(part, name_words(part))}, {_layer(layer)}", ""),
    ),
    (re.compile(r"control/(.+)"), lambda name: (f"{name_words(name)}, as set", "value of the control")),
    (re.compile(r"cost/(.+)_ms"), lambda probe: (f"cost of measuring {name_words(probe)}", "ms")),
    (re.compile(r"cost/(.+)_every"), lambda probe: (f"steps between measurements of {name_words(probe)}", "steps")),
    (re.compile(r"weights/update_ratio/(.+)"), lambda module: (f"update ÷ weights of {module}", RATIO)),
)
_GROUPS = {
    "term": "terms of the loss",
    "train": "training",
    "eval": "held-out data",
    "tokens": "tokens",
    "phase": "phases",
    "grad": "gradients of the terms",
    "hidden": "gradients at the last hidden state",
    "geometry": "hidden states",
    "weights": "weights",
    "cost": "cost of the measurements",
    "frames": "frames",
    "flow": "flow",
    "strict": "strict evaluation",
    "perplexity": "perplexity",
    "generation": "samples",
    "causality": "causality",
    "batch": "batches",
    "data": "data",
    "shift": "labels",
    "optim": "learning rates",
    "interference": "interference",
    "pam": "phase-associative memory",
    "flux": "flux",
    "width": "widths",
    "language": "languages",
    "concept": "concepts",
    "moe": "experts",
    "anchor": "anchor",
    "energy": "energies",
    "control": "controls",
    "accumulation": "accumulation",
}


def _layer(number: str) -> str:
    return f"layer {number}" if number != "0" else "encoding"


@dataclass(frozen=True)
class SeriesWords:
    """A series for a person. title: small letters · unit: empty when it has none."""

    title: str
    unit: str

    @property
    def text(self) -> str:
        """Title and unit: `cross-entropy, held out, nats per token`."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def heading(self) -> str:
        """The title with a capital letter, for a chart that names its unit beside it."""
        return self.title[:1].upper() + self.title[1:]


def is_declared(name: str) -> bool:
    """Whether the series has words of its own."""
    return name in _NAMES or any(pattern.fullmatch(name) for pattern, _ in _PATTERNS)


def series_words(name: str) -> SeriesWords:
    """Title and unit of a stored series."""
    if name in _NAMES:
        return SeriesWords(*_NAMES[name])
    for pattern, words in _PATTERNS:
        if found := pattern.fullmatch(name):
            return SeriesWords(*words(*found.groups()))
    group, _, rest = name.partition("/")
    return SeriesWords(f"{name_words(rest.replace('/', ' '))} ({group_words(group)})" if rest else name_words(name), "")


def least_height(unit: str) -> float:
    """Height that a chart of this unit has at least: of shares and ratios, less is noise."""
    return 0.2 if unit in (SHARE, RATIO, POSITIONS) else 0.0


def group_words(group: str) -> str:
    """What the first part of a series' name stands for: `tokens/…` are `tokens`."""
    return _GROUPS.get(group, name_words(group))


def distinct_words(names: Iterable[str]) -> dict[str, str]:
    """Names in words that differ from one another, for a list to choose from."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        words = series_words(name).text
        while words in taken:
            words = f"{words} ({name_words(name.replace('/', ' '))})"
        taken.add(words)
        found[name] = words
    return found


def declared_series() -> list[tuple[str, SeriesWords]]:
    """Every declared name with its words, for documentation. Where a part of the name is free, NAME stands for a word,
    N for a number and SOURCE for whose frames they are.
    """
    found = [(name, SeriesWords(*words)) for name, words in _NAMES.items()]
    for measure in _MEASURES:
        found.append((f"frames/SOURCE/{measure}", SeriesWords(*_frames("SOURCE", measure))))
    for pattern, words in _PATTERNS:
        if pattern.pattern.startswith("frames/"):
            continue
        places = re.findall(r"\(([^()]*)\)", pattern.pattern)
        outline = re.sub(r"\([^()]*\)", "{}", pattern.pattern)
        for parts in itertools.product(*(_stand_ins(place) for place in places)):
            found.append((outline.format(*parts), SeriesWords(*words(*parts))))
    return found


def _stand_ins(place: str) -> tuple[str, ...]:
    """What documentation writes for a free part of a name: its choices, or what it stands for."""
    return tuple(place.split("|")) if "|" in place else ("N",) if place == r"\d+" else ("NAME",)
