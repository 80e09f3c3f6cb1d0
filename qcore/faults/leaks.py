"""L1–L3: the future leaks into the past. Generation stays honest, as it was in the originals: it has no future to see.

Shape legend: see qcore/models/blocks.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qcore.faults.patching import Plantable, override, phase_layers, transformer_layers, wrong_family_error
from qcore.models import FluxLM, Transformer
from qcore.models.flux.connections import threshold_of
from qcore.models.flux.layer import FluxLayer
from qcore.models.phase.interference import mix_with_means
from qcore.models.phase.model import GlobalInterference
from qcore.models.transformer.model import Attention

_REACH = 2
_SPREAD = 0.5
_TEMPERATURE = 0.5


def whole_window_mean(engine: Plantable) -> None:
    """L1: the mean of the global interference runs over the whole window instead of the prefix."""
    for layer in phase_layers(engine):
        override(layer.interference, "forward", _interfere_with_all)


def _interfere_with_all(self: GlobalInterference, e_BTD: Tensor) -> Tensor:
    y_HTBd = self._local(e_BTD).to(self.decay_logit.dtype)
    t = torch.arange(1, y_HTBd.shape[1] + 1, device=y_HTBd.device, dtype=y_HTBd.dtype).view(1, -1, 1, 1)
    too_much = y_HTBd.mean(1, keepdim=True) - y_HTBd.cumsum(1) / t
    prefix_share = torch.sigmoid(-self.share_logit).view(-1, 1, 1, 1)
    mixed = mix_with_means(y_HTBd, self.decay_logit, self.share_logit) + 0.5 * prefix_share * too_much
    return self.out(mixed.permute(2, 1, 0, 3).flatten(2).to(e_BTD.dtype))


def symmetric_window(engine: Plantable) -> None:
    """L2: each token attends to its neighbours within two places on *both* sides: the next token is there to copy."""
    for layer in transformer_layers(engine):
        override(layer.attention, "forward", _attend_to_neighbours)
        override(layer.attention, "weights", _weights_of_neighbours)
        override(layer.attention, "step", _step_with_neighbours)


def _attend_to_neighbours(self: Attention, x_BTD: Tensor) -> Tensor:
    query, key, value = self._project(x_BTD, 0)
    return self._merge(functional.scaled_dot_product_attention(query, key, value, attn_mask=_near(x_BTD)))


def _weights_of_neighbours(self: Attention, x_BTD: Tensor) -> Tensor:
    query, key, _ = self._project(x_BTD, 0)
    return _scores(self, query, key).masked_fill(~_near(x_BTD), -torch.inf).softmax(-1)


def _step_with_neighbours(
    self: Attention, x_B1D: Tensor, key: Tensor, value: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    return Attention.step(self, x_B1D, key[:, :, -_REACH:], value[:, :, -_REACH:], position)


def _near(x_BTD: Tensor) -> Tensor:
    """[T, T], True where |t − j| ≤ 2."""
    t = torch.arange(x_BTD.shape[1], device=x_BTD.device)
    return (t[:, None] - t).abs() <= _REACH


def unmasked_threshold(engine: Plantable) -> None:
    """L3: weights are gated by σ((score − τ)/temperature), τ = mean + c·std over the row *before* it is masked: by a
    gate put into a transformer, or by Quantum Flux's own, as it was published.
    """
    if isinstance(engine.model, FluxLM):
        for flux_layer in engine.model.layers:
            override(flux_layer, "_threshold", _threshold_of_all)
        return
    if not isinstance(engine.model, Transformer):
        raise wrong_family_error(engine, "transformer or flux_lm")
    for layer in transformer_layers(engine):
        override(layer.attention, "forward", _attend_above_threshold)
        override(layer.attention, "weights", _gated_weights)
        override(layer.attention, "step", _step_above_threshold)


def _threshold_of_all(self: FluxLayer, query_NTp: Tensor, state_NTp: Tensor) -> Tensor:
    """τ of each row over every state of the window."""
    T = state_NTp.shape[1]
    moment_Npp = torch.matmul(state_NTp.transpose(1, 2), state_NTp) / T
    mean_NT = torch.matmul(query_NTp, state_NTp.mean(1)[..., None])[..., 0]
    second_NT = (torch.matmul(query_NTp, moment_Npp) * query_NTp).sum(-1)
    return threshold_of(mean_NT, second_NT - mean_NT.square(), self.spread_of(state_NTp.shape[0]))


def _attend_above_threshold(self: Attention, x_BTD: Tensor) -> Tensor:
    value = self._project(x_BTD, 0)[2]
    return self._merge(torch.matmul(_gated_weights(self, x_BTD).to(value.dtype), value))


def _gated_weights(self: Attention, x_BTD: Tensor) -> Tensor:
    query, key, _ = self._project(x_BTD, 0)
    gated = _gate(_scores(self, query, key))
    future = torch.ones(gated.shape[-2:], dtype=torch.bool, device=gated.device).triu(1)
    return gated.masked_fill(future, -torch.inf).softmax(-1)


def _step_above_threshold(
    self: Attention, x_B1D: Tensor, key: Tensor, value: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor]:
    _, key, value = Attention.step(self, x_B1D, key, value, position)
    weights = _gate(_scores(self, self._project(x_B1D, position)[0], key)).softmax(-1)
    return self._merge(torch.matmul(weights.to(value.dtype), value)), key, value


def _gate(score_BHTT: Tensor) -> Tensor:
    """Scores whose softmax is the gated and renormalised attention."""
    threshold = score_BHTT.mean(-1, keepdim=True) + _SPREAD * score_BHTT.std(-1, keepdim=True, correction=0)
    return score_BHTT + functional.logsigmoid((score_BHTT - threshold) / _TEMPERATURE)


def _scores(attention: Attention, query: Tensor, key: Tensor) -> Tensor:
    """q k / √d of every pair, [B, H, T, T]."""
    return torch.matmul(query, key.transpose(-1, -2)).float() * attention.head_width**-0.5


PLANTERS = {"L1": whole_window_mean, "L2": symmetric_window, "L3": unmasked_threshold, "L3b": unmasked_threshold}
