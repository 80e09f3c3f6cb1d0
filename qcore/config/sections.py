"""The sections of a run configuration: model, data, objective, optimisation, probes, sampling.

Each field is one control (`knob`): its declaration here is the only one. Names are unique over all sections (the two
model kinds share theirs), so that a person may write `learning_rate` instead of `optim.learning_rate`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from qcore.config.controls import Control, Kind, knob
from qcore.config.encodings import known_encoding
from qcore.config.names import normal_name


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused; every value is checked against its declaration."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    section: ClassVar[str]
    """Key of this section in a YAML file."""

    @field_validator("*", mode="before")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return cls.control(info.field_name).check(value)

    @classmethod
    def control(cls, name: str) -> Control:
        """The declaration of one field."""
        field = cls.model_fields[name]
        declared: Any = field.json_schema_extra
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        return Control(
            name=name,
            section=cls.section,
            kind="choice" if choices else _KINDS[field.annotation],
            default=field.get_default(call_default_factory=True),
            help=field.description or "",
            choices=tuple(choices),
            **declared,
        )

    @classmethod
    def named(cls, name: object) -> str | None:
        """The field that a name means, written as it is declared or as a page writes it; None for no field."""
        if not isinstance(name, str):
            return None
        plain = normal_name(name).removeprefix(f"{cls.section}.")
        if plain in cls.model_fields:
            return plain
        return next((control.name for control in cls.controls() if plain in control.written), None)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Declarations of all fields, in the order of the file."""
        return tuple(cls.control(name) for name in cls.model_fields)


def data_version() -> Any:
    """The field that says by which rules a run's data are read and split; see `qcore.data`."""
    return knob(
        2,
        low=1,
        high=2,
        help="Rules by which files are read and documents split; 1: those of runs from before there was a second.",
    )


Start = Literal["level", "tied"]


def start_form() -> Any:
    """The field that says how a table that is the head's, too, enters the stream; see `qcore.models.blocks.embed`."""
    return knob(
        "level",
        help="level: an untrained model prefers no token, its loss starts near ln V · tied: it repeats its input, as "
        "models did before there was a choice.",
    )


def probe_version() -> Any:
    """The field that says how thoroughly a run's probes ask between its first and its last step; see `qcore.probes`."""
    return knob(
        2,
        low=1,
        high=2,
        help="2: checks between the first and the last step are short, and all are made at the last; 1: neither.",
    )


class TransformerConfig(Section):
    """Strong reference transformer: RoPE, RMS norm, SwiGLU, fused causal attention."""

    section = "model"
    kind: Literal["transformer"] = knob("transformer", help="Model family.")
    width: int = knob(96, low=8, high=4096, unit="channels", scale="log", help="Hidden width D of every layer.")
    layers: int = knob(3, low=1, high=48, help="Number of layers L.")
    heads: int = knob(4, low=1, high=64, help="Attention heads H; the width is divided evenly among them.")
    context: int = knob(128, low=4, high=16384, unit="tokens", scale="log", help="Window length T in training.")
    ffn_width: int = knob(0, low=0, high=32768, unit="channels", help="Feed-forward width; 0 chooses 8/3 of the width.")
    dropout: float = knob(0.0, low=0, high=0.9, help="Share of residual activations set to zero in training.")
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")
    start: Start = start_form()


class DataConfig(Section):
    """Where the text comes from, how it becomes tokens, and how it is split."""

    section = "data"
    source: Literal["stories", "bilingual", "pydoc", "text", "huggingface"] = knob(
        "stories",
        help="stories: built-in grammar with known entropy · bilingual: the same in two languages · pydoc: Python's "
        "own documentation · text: your file or folder · huggingface: a data set by name.",
    )
    documents: int = knob(4000, low=20, high=1_000_000, scale="log", help="Stories that the built-in grammar writes.")
    path: str = knob("", help="File or folder of UTF-8 text (source: text).")
    validation_path: str = knob(
        "", help="Held-out file or folder (source: text); empty: a share of the documents of path is held out."
    )
    hub_name: str = knob("", help="Name of a Hugging Face data set, or a builder such as json (source: huggingface).")
    hub_config: str = knob("", help="Configuration of the data set, if it has several.")
    hub_split: str = knob("train", help="Split to read, as the datasets library writes it (train, train[:10%]).")
    validation_split: str = knob(
        "", help="Split to hold out (source: huggingface), such as validation; empty: a share of hub_split is held out."
    )
    data_files: str = knob(
        "",
        help="Local files for the builder json, csv, parquet, arrow or text: one, several between commas, or a/*.csv.",
    )
    text_column: str = knob(
        "text",
        help="Column that holds the text; a dotted name (data.text) reaches into it; a chat is written out as text.",
    )
    encoding: str = knob(
        "",
        help="Encoding of text and CSV files that are no UTF-8, such as cp1252 or shift_jis; empty: UTF-8. A mark at a "
        "file's beginning wins, and JSON is always UTF-8.",
    )
    tokenizer: Literal["byte", "word", "bpe"] = knob("word", help="Unit of prediction.")
    vocab_size: int = knob(2048, low=32, high=131072, scale="log", help="Largest vocabulary (word and bpe).")
    packing: Literal["packed", "padded"] = knob(
        "packed", help="packed: documents one after another · padded: one document a row, padding masked."
    )
    validation_fraction: float = knob(0.1, low=0.01, high=0.5, help="Share of the documents held out for validation.")
    mask_padding: bool = knob(
        True, live=True, help="Padding is not a target; off: the published mistake, padding counts as ends of sequence."
    )
    label_shift: int = knob(
        1,
        low=0,
        high=16,
        unit="tokens",
        live=True,
        help="How far ahead the target lies; 1: the next token, 0: the published mistake, the token that is read.",
    )
    data_seed: int = knob(0, low=0, high=2**31 - 1, help="Seed of the story grammar and of the split.")
    data_version: int = data_version()

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        return known_encoding(value)


def _weight(default: float, help: str, *, models: tuple[str, ...] = ()) -> Any:
    return knob(default, low=0, high=10, scale="log", live=True, help=help, models=models)


def _phase_weight(help: str) -> Any:
    return _weight(0.0, help, models=("phase_lm", "pam"))


class ObjectiveConfig(Section):
    """Weights and settings of the loss terms. All may change while training; 0 switches a term off."""

    section = "objective"
    ce_weight: float = _weight(1.0, "Cross-entropy of the next token (nats).")
    label_smoothing: float = knob(
        0.0, low=0, high=0.5, live=True, help="Share of the target mass spread evenly over the vocabulary."
    )
    diversity_weight: float = _weight(
        0.0, "KL(mean prediction ‖ target unigram), nats: pulls the average prediction to the data's."
    )
    dominance_weight: float = _weight(0.0, "Hinge on the largest mean probability above its threshold.")
    dominance_threshold: float = knob(
        0.3, low=0, high=1, live=True, help="Mean probability a single token may have before dominance counts."
    )
    entropy_floor_weight: float = _weight(0.0, "Shortfall of each prediction's entropy below the floor.")
    entropy_floor: float = knob(0.3, low=0, high=10, unit="nats", live=True, help="Entropy floor of one prediction.")
    eos_weight: float = _weight(0.0, "Mean probability of end-of-sequence where the target is another token.")
    unlikelihood_weight: float = _weight(0.0, "Unlikelihood of repeating recent tokens that are not the target.")
    unlikelihood_window: int = knob(
        16, low=1, high=256, unit="tokens", live=True, help="How far back a repetition counts."
    )
    z_loss_weight: float = _weight(0.0, "Squared log-partition of the logits: keeps them bounded.")
    local_energy_weight: float = _phase_weight(
        "−cos of successive phase differences; minimising it raises local coherence."
    )
    global_energy_weight: float = _phase_weight("−R² of each phase over the window: all-pairs coherence.")
    entanglement_weight: float = _phase_weight("−R² of phase differences at lags 8, 16, 32 …: long-range locking.")
    stability_weight: float = _phase_weight("Circular variance 1 − R of the phases.")
    coherence_weight: float = _phase_weight("1 − mean R over causal windows of 1 … 16 tokens.")
    concept_weight: float = _weight(
        0.0,
        "Surprise at the next token's concepts, less the number in use: words of like places share one.",
        models=("phase_lm",),
    )
    balance_weight: float = _weight(
        0.0, "Uneven load of the experts; 0 when all take the same share.", models=("phase_lm",)
    )


class OptimConfig(Section):
    """Optimiser, schedule, precision and device."""

    section = "optim"
    steps: int = knob(400, low=1, high=10_000_000, scale="log", live=True, help="Optimizer steps until the run ends.")
    batch_size: int = knob(8, low=1, high=4096, unit="rows", scale="log", help="Rows of one micro-batch.")
    accumulation: int = knob(
        1, low=1, high=256, unit="micro-batches", help="Micro-batches summed before one optimizer step."
    )
    learning_rate: float = knob(
        3e-3, low=1e-7, high=1.0, scale="log", live=True, risky=True, help="Peak learning rate of the schedule (AdamW)."
    )
    lr_policy: Literal["cosine", "constant", "manual"] = knob(
        "cosine",
        live=True,
        risky=True,
        help="cosine: warm-up, then cosine decay · constant: warm-up, then flat · manual: the manual learning rate.",
    )
    manual_learning_rate: float = knob(
        1e-3, low=1e-7, high=1.0, scale="log", live=True, risky=True, help="Learning rate while the policy is manual."
    )
    warmup_steps: int = knob(50, low=0, high=1_000_000, unit="steps", live=True, help="Steps of linear warm-up.")
    min_lr_ratio: float = knob(0.05, low=0, high=1, live=True, help="Share of the peak where the cosine ends.")
    schedule: list[str] = knob(
        [],
        live=True,
        help="Changes at given steps, one per line: `120: coherence_weight = 0.02`, `36%: …` of the run's steps, or "
        "a ramp: `100 .. 300: learning_rate = 0.003 -> 0.0003 log`.",
    )
    rules: list[str] = knob(
        [],
        live=True,
        help="Rules that act on findings and series, one per line: `when T1 is active: diversity_weight = 0.3`, "
        "`when train/grad_norm > 5 for 20 steps: learning_rate *= 0.5; every 100 steps`.",
    )
    limits: list[str] = knob(
        [],
        live=True,
        help="Bounds of automatic changes, one per line: `learning_rate: 1e-5 .. 0.01, change x2, every 50 steps`.",
    )
    autopilot: bool = knob(
        False,
        live=True,
        help="Apply the remedies of findings automatically; every action is an event and can be undone.",
    )
    autopilot_patience: int = knob(
        50, low=1, high=100_000, unit="steps", live=True, help="Steps that a remedy gets before the next one is tried."
    )
    weight_decay: float = knob(0.01, low=0, high=1, live=True, help="Decoupled weight decay of matrices.")
    beta1: float = knob(0.9, low=0, high=0.999, live=True, risky=True, help="AdamW: decay of the first moment.")
    beta2: float = knob(0.99, low=0, high=0.99999, live=True, risky=True, help="AdamW: decay of the second moment.")
    clip_norm: float = knob(
        1.0, low=0, high=1000, scale="log", live=True, help="Largest global gradient norm; 0 switches clipping off."
    )
    precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32",
        help="Autocast of the forward pass: bf16 on CPU and CUDA, fp16 on CUDA only (fp32 on CPU). Complex "
        "states stay in complex64, weights and moments in float32.",
    )
    compile: bool = knob(
        False, help="Compile the model's forward pass with torch.compile; needs a C++ compiler (CPU) or Triton (CUDA)."
    )
    device: Literal["auto", "cpu", "cuda"] = knob("auto", help="auto uses a CUDA device when there is one.")
    torch_threads: int = knob(
        1, low=1, high=256, live=True, help="CPU threads of the trainer; use cores − 1 while the dashboard is open."
    )


class CommonProbes(Section):
    """What every family measures beside the loss, and how often."""

    section = "probes"
    eval_every: int = knob(
        50, low=1, high=1_000_000, unit="steps", live=True, help="Steps between evaluations on the held-out set."
    )
    eval_batches: int = knob(4, low=1, high=1000, help="Fixed held-out batches of one evaluation.")
    gradients_every: int = knob(
        50, low=1, high=1_000_000, unit="steps", live=True, help="Steps between gradients of each term and each module."
    )
    checks_every: int = knob(
        100,
        low=1,
        high=1_000_000,
        unit="steps",
        live=True,
        help="Steps between the slow checks: leaks, batch dependence, signs, accumulation; video paths and positions.",
    )
    sample_every: int = knob(
        100,
        low=1,
        high=1_000_000,
        unit="steps",
        live=True,
        help="Steps between samples of the fixed prompts or seeds.",
    )
    checkpoint_every: int = knob(100, low=1, high=1_000_000, unit="steps", live=True, help="Steps between checkpoints.")
    keep_checkpoints: int = knob(
        5,
        low=1,
        high=1000,
        live=True,
        help="Interval checkpoints to keep; requested and risky-change checkpoints are always kept.",
    )
    budget_percent: float = knob(
        2.0,
        low=0,
        high=100,
        unit="% of step time",
        live=True,
        help="Time budget of all diagnostics together; 0: none, 100: all of them at their cadence, whatever they cost.",
    )
    probe_version: int = probe_version()


class ProbesConfig(CommonProbes):
    """What is measured of a language model beside the loss, and how often."""

    tokens_every: int = knob(
        10, low=1, high=1_000_000, unit="steps", live=True, help="Steps between token statistics, if the budget allows."
    )
    phase_every: int = knob(
        20, low=1, high=1_000_000, unit="steps", live=True, help="Steps between measurements of phases and rank."
    )
    kernels_every: int = knob(
        50,
        low=1,
        high=1_000_000,
        unit="steps",
        live=True,
        help="Steps between pictures of which token attends to which.",
    )
    sample_length: int = knob(60, low=1, high=2000, unit="tokens", live=True, help="Length of a timeline sample.")
    prompts: list[str] = knob(["Once a", "Anna was a"], help="Fixed prompts of the timeline, one per line.")


class SamplingConfig(Section):
    """How text is drawn from the model's distribution."""

    section = "sampling"
    temperature: float = knob(0.8, low=0, high=5, help="Divides the logits; 0 takes the most likely token.")
    top_k: int = knob(0, low=0, high=100_000, help="Keep the k most likely tokens; 0 keeps all.")
    top_p: float = knob(1.0, low=0.01, high=1, help="Keep the smallest set of tokens with this probability mass.")
    min_p: float = knob(0.0, low=0, high=1, help="Drop tokens below this share of the largest probability.")
    repetition_penalty: float = knob(
        1.0, low=0.1, high=10, help="Recent tokens: logit > 0 divided by it, else multiplied; 1 is off."
    )
    repetition_window: int = knob(64, low=0, high=100_000, unit="tokens", help="How many tokens back; 0 looks at all.")
    coherence_temperature: float = knob(
        0.0,
        low=0,
        high=5,
        help="How much phase coherence above its usual level lowers the temperature, and coherence below it raises it.",
    )
    coherence_penalty: float = knob(
        0.0, low=0, high=5, help="How much harder a repeat is punished while coherence is high and entropy low."
    )
    coherence_window: int = knob(8, low=1, high=256, unit="tokens", help="Newest tokens whose phases are compared.")
    max_tokens: int = knob(120, low=1, high=10_000, unit="tokens", help="Longest generation.")
    sample_seed: int = knob(0, low=0, high=2**31 - 1, help="Sampling seed: same seed, same text.")


_KINDS: dict[Any, Kind] = {float: "float", int: "int", bool: "bool", str: "text", list[str]: "texts"}
