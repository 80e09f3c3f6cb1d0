"""Phase-associative memory: sizes and switches. The real ablation is one of them."""

from __future__ import annotations

from typing import Literal

from qcore.config.controls import knob
from qcore.config.sections import Section, Start, start_form


class PAMConfig(Section):
    """Phase-Associative Memory: a complex state of associations that decays, is written and is read (2604.05030)."""

    section = "model"
    kind: Literal["pam"] = knob("pam", help="Model family.")
    width: int = knob(96, low=8, high=4096, unit="channels", scale="log", help="Hidden width D of every layer.")
    layers: int = knob(3, low=1, high=48, help="Number of layers L.")
    heads: int = knob(4, low=1, high=64, help="Heads H; the width is divided evenly among them.")
    context: int = knob(128, low=4, high=16384, unit="tokens", scale="log", help="Window length T in training.")
    ffn_width: int = knob(0, low=0, high=32768, unit="channels", help="Channel mixer's width; 0 chooses automatically.")
    dropout: float = knob(0.0, low=0, high=0.9, help="Share of residual activations set to zero in training.")
    complex_state: bool = knob(True, help="Keys, values and state are complex; off: the real-valued ablation.")
    rotary_clock: bool = knob(True, help="Keys and queries turn with the position, each channel at its own rate.")
    read_gate: bool = knob(True, help="What is read from the memory passes a gate of the token.")
    short_conv: int = knob(
        4, low=1, high=16, unit="tokens", help="Newest tokens that keys, queries and values are made of; 1: one alone."
    )
    chunk: int = knob(32, low=1, high=1024, unit="tokens", scale="log", help="Tokens evaluated at once in training.")
    activation_checkpointing: bool = knob(False, help="Recompute layers in the backward pass: less memory, more time.")
    start: Start = start_form()
