"""The reference transformer: pre-norm, rotary positions, fused causal attention, SwiGLU, tied embeddings.

It is meant to be hard to beat: nothing of the usual recipe is missing. Positions are relative (RoPE, arXiv 2104.09864),
so generation continues past the context with a sliding window: each new token attends to the last `context` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import TransformerConfig
from qcore.models.blocks import (
    LanguageModel,
    ModelOutput,
    RMSNorm,
    SwiGLU,
    check_tokens,
    embed,
    linear,
    residual_linear,
    run_layer,
    split_evenly,
)

_ROPE_BASE = 10_000.0


def rotate(x_BHTd: Tensor, angle_Th: Tensor) -> Tensor:
    """Rotary position: each pair (x_i, x_{i+d/2}) is turned by angle_{t,i}; the scalar product of two turned vectors
    depends on the difference of their positions only.
    """
    cos, sin = angle_Th.cos().to(x_BHTd.dtype), angle_Th.sin().to(x_BHTd.dtype)
    first, second = x_BHTd.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Causal softmax attention with rotary positions: softmax(q k / √d) v, H heads, O(T²) time, O(T) memory."""

    angle_rate: Tensor

    def __init__(self, config: TransformerConfig, depth: int) -> None:
        super().__init__()
        self.heads, self.window = config.heads, config.context
        self.head_width = split_evenly(config.width, config.heads)
        if self.head_width % 2:
            raise ValueError(
                f"width {config.width} over {config.heads} heads gives heads of odd width {self.head_width}; "
                "rotary positions turn pairs: choose an even width per head"
            )
        self.qkv = linear(config.width, 3 * config.width)
        self.out = residual_linear(config.width, config.width, depth)
        rate = _ROPE_BASE ** -(torch.arange(0, self.head_width, 2) / self.head_width)
        self.register_buffer("angle_rate", rate, persistent=False)

    def _project(self, x_BTD: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        B, T, _ = x_BTD.shape
        qkv = self.qkv(x_BTD).view(B, T, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        position_T = torch.arange(start, start + T, device=x_BTD.device, dtype=torch.float32)
        angle_Th = position_T[:, None] * self.angle_rate
        return rotate(query, angle_Th), rotate(key, angle_Th), value

    def _merge(self, y_BHTd: Tensor) -> Tensor:
        return self.out(y_BHTd.transpose(1, 2).flatten(2))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self._merge(functional.scaled_dot_product_attention(*self._project(x_BTD, 0), is_causal=True))

    def weights(self, x_BTD: Tensor) -> Tensor:
        """softmax(q k / √d) over the visible positions, [B, H, T, T]."""
        query, key, _ = self._project(x_BTD, 0)
        score = torch.matmul(query, key.transpose(-1, -2)).float() * self.head_width**-0.5
        hidden = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).triu(1)
        return score.masked_fill(hidden, -torch.inf).softmax(-1)

    def step(self, x_B1D: Tensor, key: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """One token against the cache [B, H, ≤ context, d]: the output and the cache with this token in it."""
        query, new_key, new_value = self._project(x_B1D, position)
        key = torch.cat((key.to(new_key.dtype), new_key), dim=2)[:, :, -self.window :]
        value = torch.cat((value.to(new_value.dtype), new_value), dim=2)[:, :, -self.window :]
        return self._merge(functional.scaled_dot_product_attention(query, key, value)), key, value


class TransformerLayer(nn.Module):
    """x + Attention(norm x), then x + SwiGLU(norm x)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        depth = 2 * config.layers
        self.attention_norm, self.ffn_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.attention = Attention(config, depth)
        self.ffn = SwiGLU(config.width, transformer_ffn_width(config), depth)
        self.dropout = nn.Dropout(config.dropout)

    def _feed_forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.dropout(self.ffn(self.ffn_norm(x_BTD)))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self._feed_forward(x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD))))

    def step(self, x_B1D: Tensor, key: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """One token; see `Attention.step`."""
        mixed, key, value = self.attention.step(self.attention_norm(x_B1D), key, value, position)
        return self._feed_forward(x_B1D + self.dropout(mixed)), key, value


@dataclass(frozen=True)
class TransformerState:
    """Generation state: tokens seen, and for each layer the cached keys and values [B, H, ≤ context, d]."""

    position: int
    cache: tuple[tuple[Tensor, Tensor], ...]


class Transformer(LanguageModel):
    """Decoder-only transformer. Tokens → √D·E[x], turned (see `embed`) → layers → RMS norm → logits with the
    tied table E.
    """

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, config.context
        self.embedding = nn.Embedding(vocab_size, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        return self.dropout(embed(self.embedding, tokens_BT, self.config.start))

    def _read_out(self, x_BTD: Tensor) -> ModelOutput:
        hidden = self.norm(x_BTD)
        return ModelOutput(self.read_out(hidden), hidden)

    def forward(self, tokens_BT: Tensor, *, with_phases: bool = False) -> ModelOutput:
        """Logits at every position; T ≤ context. A transformer has no phases: `with_phases` changes nothing."""
        check_tokens(tokens_BT, self.context)
        x_BTD = self._embed(tokens_BT)
        for layer in self.layers:
            x_BTD = run_layer(layer, x_BTD, recompute=self.config.activation_checkpointing)
        return self._read_out(x_BTD)

    def read_out(self, hidden_BTD: Tensor) -> Tensor:
        return functional.linear(hidden_BTD, self.embedding.weight)

    @torch.no_grad()
    def mixing(self, tokens_BT: Tensor) -> tuple[Tensor, ...]:
        """Attention weights of each layer."""
        check_tokens(tokens_BT, self.context)
        x_BTD = self._embed(tokens_BT)
        found: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            found.append(layer.attention.weights(layer.attention_norm(x_BTD)))
            if len(found) < len(self.layers):  # nobody reads what the last one makes of it
                x_BTD = layer(x_BTD)
        return tuple(found)

    def start(self, batch_size: int) -> TransformerState:
        weight = self.embedding.weight
        empty = weight.new_empty(batch_size, self.config.heads, 0, self.config.width // self.config.heads)
        return TransformerState(0, tuple((empty, empty) for _ in self.layers))

    def step(self, tokens_B: Tensor, state: TransformerState) -> tuple[ModelOutput, TransformerState]:
        """One token a row. Up to `context` tokens equal to `forward`; afterwards a window of the last `context`."""
        x_B1D = self._embed(tokens_B[:, None])
        cache = []
        for layer, (key, value) in zip(self.layers, state.cache, strict=True):
            assert isinstance(layer, TransformerLayer)
            x_B1D, key, value = layer.step(x_B1D, key, value, state.position)
            cache.append((key, value))
        return self._read_out(x_B1D), TransformerState(state.position + 1, tuple(cache))


def transformer_ffn_width(config: TransformerConfig) -> int:
    """Feed-forward width F; 0 in the configuration means 8/3 of the width, rounded to a multiple of 8."""
    return config.ffn_width or max(8, round(config.width / 3) * 8)
