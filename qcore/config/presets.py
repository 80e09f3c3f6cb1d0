"""Presets: named starting points, each a handful of changes to the default configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qcore.config.controls import ConfigError, nearest_hint
from qcore.config.fault_bank import FAULTS
from qcore.config.run import RunConfig, default_run
from qcore.config.schedule_text import CURRICULA


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        title: for a menu.
        about: one sentence on what to expect.
    """

    name: str
    title: str
    about: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The full, validated configuration."""
        return default_run().with_values(self.changes)


def _published_size(width: int, layers: int, heads: int, phases: int, context: int, **more: Any) -> dict[str, Any]:
    size = {"width": width, "layers": layers, "heads": heads, "phases": phases, "context": context}
    return {**size, "source": "pydoc", "tokenizer": "bpe", "vocab_size": 8192, "steps": 2000, **more}


_VIDEO = {"kind": "video_flow"}
_LONG_VIDEO = {**_VIDEO, "steps": 4000, "lr_policy": "constant", "learning_rate": 2e-3}


def _uncapitalize(title: str) -> str:
    """A title inside a sentence: `Padding …` → `padding …`, while names such as `NaN` and `EOS` stay as they are."""
    first = title.partition(" ")[0]
    is_word = first[:1].isupper() and (first[1:].islower() or len(first) == 1)
    return title[0].lower() + title[1:] if is_word else title


_ALL = (
    Preset(
        "tiny",
        "Tiny phase model on stories",
        "Learns to write readable stories within a minute on two cores.",
    ),
    Preset(
        "tiny-transformer",
        "Tiny transformer on stories",
        "The reference of the same size on the same stories.",
        {"kind": "transformer", "ffn_width": 280},
    ),
    Preset(
        "pam",
        "Tiny phase-associative memory on stories",
        "Complex associations that decay, in constant memory a token: readable stories within a minute on two cores.",
        {"kind": "pam"},
    ),
    Preset(
        "pam-real",
        "Tiny associative memory, the real-valued ablation",
        "The same memory without an imaginary part, at the same number of parameters.",
        {"kind": "pam", "complex_state": False},
    ),
    Preset(
        "flux",
        "Flux on stories",
        "Tokens on discs that flow towards those they resemble: readable stories in about a minute on two cores.",
        {"kind": "flux_lm", "learning_rate": 6e-3},
    ),
    Preset(
        "flux-published",
        "Flux as published, made causal",
        "One plane, a hard gate, sampled steps, a linear read-out: what the published form is worth.",
        {
            "kind": "flux_lm",
            "planes": 1,
            "heads": 1,
            "values": 0,
            "read_out": "linear",
            "query_turn": False,
            "gate": "hard",
            "threshold_scale": 0.5,
            "step_size": "sampled",
            "radius_min": 0.3,
            "learning_rate": 1e-2,
        },
    ),
    Preset(
        "tiny-concepts",
        "Tiny phase model, two languages, shared concepts",
        "Words that mean the same come to share a concept, far above chance, without any parallel text.",
        {"source": "bilingual", "concepts": 64, "concept_weight": 1.0},
    ),
    Preset(
        "tiny-languages",
        "Tiny phase model, a phase map for each language",
        "A gate finds the two languages by itself and turns the phases.",
        {"source": "bilingual", "language_phases": True},
    ),
    Preset(
        "tiny-widths",
        "Tiny phase model, a width for each token",
        "Tokens in varied surroundings choose wider layers.",
        {"dynamic_width": True},
    ),
    Preset(
        "tiny-experts",
        "Tiny phase model with four experts",
        "Each token goes to two of them; their load stays even.",
        {"experts": 4, "balance_weight": 0.05},
    ),
    Preset(
        "tiny-phase-bias",
        "Tiny phase model, softmax with phases",
        "Attention that prefers tokens in phase; time grows with T².",
        {"attention": "phase_bias"},
    ),
    Preset(
        "tiny-interference-gate",
        "Tiny phase model, softmax gated by interference",
        "Attention whose destructive pairs are shut; time grows with T².",
        {"attention": "interference_gate"},
    ),
    Preset(
        "tiny-bytes",
        "Tiny phase model on stories, byte by byte",
        "The same stories spelled in bytes: slower to read well, no vocabulary to learn.",
        {"tokenizer": "byte", "context": 256, "batch_size": 8, "steps": 1500, "sample_length": 200},
    ),
    Preset(
        "tiny-padded",
        "Tiny phase model, one story a row",
        "Padded rows with a correct mask: real and padding positions are counted apart.",
        {"packing": "padded"},
    ),
    Preset(
        "pydoc",
        "Small phase model on Python's documentation",
        "Real text that every machine has; several minutes on two cores.",
        {
            "source": "pydoc",
            "tokenizer": "bpe",
            "width": 128,
            "layers": 4,
            "steps": 1500,
            "prompts": ["The ", "A class"],
        },
    ),
    Preset(
        "curriculum-published",
        "Tiny phase model, the published four stages",
        "Phase alignment, local and global interference, concepts: a schedule that can be edited while it runs.",
        {"schedule": CURRICULA["published"]},
    ),
    Preset(
        "curriculum-language-first",
        "Tiny phase model, language first",
        "Cross-entropy alone for half of the run, then the phase terms with small weights.",
        {"schedule": CURRICULA["language-first"]},
    ),
    Preset(
        "published-small",
        "Published size 1: D 256, L 4, H 4, P 32, T 256",
        "The smallest published phase model.",
        _published_size(256, 4, 4, 32, 256, batch_size=8, learning_rate=3e-4),
    ),
    Preset(
        "published-medium",
        "Published size 2: D 512, L 8, H 8, P 64, T 512",
        "The middle published phase model; needs a GPU or patience.",
        _published_size(512, 8, 8, 64, 512, batch_size=4, learning_rate=3e-4),
    ),
    Preset(
        "published-large",
        "Published size 3: D 768, L 12, H 12, P 128, T 1024",
        "The largest published phase model; needs a GPU.",
        _published_size(768, 12, 12, 128, 1024, batch_size=32, accumulation=4, learning_rate=2e-4),
    ),
    Preset(
        "video-averaging",
        "Video: averaging collapse, as published",
        "Noise shared by all frames: ghosts within a minute. Then set the noise correlation to 0, live.",
        {**_LONG_VIDEO, "flow_path": "quantum", "noise_correlation": 1.0},
    ),
    Preset(
        "video-tiny",
        "Video: drifting digits, independent noise",
        "The straight path with independent noise: digits that move after half a minute on two cores.",
        _VIDEO,
    ),
    Preset(
        "video-anchored",
        "Video: bridge through an anchor, as published",
        "The anchored bridge with shared noise: the same ghosts, because no path weight selects a motion.",
        {**_LONG_VIDEO, "flow_path": "rab", "noise_correlation": 1.0},
    ),
    Preset(
        "video-orthogonal",
        "Video: frames pushed apart",
        "The guide's remedy, ten times as strong: orthogonality passes the data's own, and frames change too much.",
        {**_LONG_VIDEO, "orthogonality_weight": 1.0, "orthogonality_warmup": 200},
    ),
    Preset(
        "video-image-to-video",
        "Video: clips from a given picture",
        "An anchor network sees the clip in training; samples start from anchors of held-out clips.",
        {**_VIDEO, "anchor": "network", "anchor_input": True, "anchor_kl_weight": 0.001, "anchor_source": "data"},
    ),
    Preset(
        "video-latents",
        "Video: in the latents of a small autoencoder",
        "16 × 16 px digits, squeezed into 8 × 8 latents before the flow sees them.",
        {**_VIDEO, "canvas": 16, "digit_size": 8, "latents": "autoencoder", "speed_high": 1.5},
    ),
    Preset(
        "video-ltx-tiny",
        "Video: LTX-Video's transformer with LoRA, tiny",
        "The adapter on random weights and made-up latents: what it measures; needs `make ltx` once.",
        {
            "kind": "ltx_video",
            "steps": 300,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "frame_amplification": 1.0,
            "measured_clips": 16,
        },
    ),
    *(
        Preset(
            f"fault-{case.code.lower()}",
            f"Fault {case.code}: {_uncapitalize(case.title)}",
            f"Its authors saw: {case.seen}. How to recognise it: {case.tell}.",
            case.preset_changes,
        )
        for case in FAULTS.values()
    ),
)
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}


def preset(name: str) -> Preset:
    """The preset of that name, or `ConfigError` with the nearest one.

    Example:
        >>> preset("tiny").config.kind
        'phase_lm'
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest_hint(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
