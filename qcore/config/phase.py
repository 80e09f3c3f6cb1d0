"""The phase language model's sizes and switches: each mechanism of the published family is one switch."""

from __future__ import annotations

from typing import Literal

from qcore.config.controls import knob
from qcore.config.sections import Section, Start, start_form


class PhaseLMConfig(Section):
    """Phase language model: phase encoding, causal global interference, interference attention, quantum layers."""

    section = "model"
    kind: Literal["phase_lm"] = knob("phase_lm", help="Model family.")
    width: int = knob(96, low=8, high=4096, unit="channels", scale="log", help="Hidden width D of every layer.")
    layers: int = knob(3, low=1, high=48, help="Number of layers L.")
    heads: int = knob(4, low=1, high=64, help="Heads H; the width is divided evenly among them.")
    phases: int = knob(32, low=2, high=1024, scale="log", help="Phases P per token: oscillators of the complex state.")
    context: int = knob(128, low=4, high=16384, unit="tokens", scale="log", help="Window length T in training.")
    ffn_width: int = knob(0, low=0, high=32768, unit="channels", help="Feed-forward width; 0 chooses twice the width.")
    dropout: float = knob(0.0, low=0, high=0.9, help="Share of residual activations set to zero in training.")
    interference_attention: bool = knob(True, help="Pairwise phase interference between tokens (linear time).")
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")
    attention: Literal["interference", "phase_bias", "interference_gate"] = knob(
        "interference",
        help="interference: linear time · phase_bias: softmax with cos of phase differences added · interference_gate: "
        "softmax whose destructive pairs are shut. Both softmaxes take time and memory T².",
    )
    dynamic_width: bool = knob(False, help="Each token chooses softly among widths D, 1.5 D and 2.25 D.")
    concepts: int = knob(
        0, low=0, high=65536, help="Concepts K that words map to; 0: no layer. Give concept_weight about 1 with it."
    )
    language_phases: bool = knob(False, help="Each language turns the phases by a map of its own.")
    languages: int = knob(
        2, low=1, high=64, help="Languages that the gate of concepts and language phases tells apart."
    )
    experts: int = knob(
        0, low=0, high=256, help="Feed-forward experts of a layer; 0: one plain feed-forward. Give balance_weight 0.01."
    )
    experts_active: int = knob(
        2, low=1, high=16, help="Experts that a token goes to; each is as narrow as to cost the same."
    )
    start: Start = start_form()
