"""A feed-forward of experts: a router sends each token to its k best of E small feed-forwards (arXiv 2101.03961).

An expert is as wide as the plain feed-forward divided by k, so a token costs what it costs without experts. No expert
has a capacity, so no token is dropped and none depends on its neighbours. Tokens are grouped by expert, oldest first,
in blocks of a fixed size: a product of one shape gives a row the same bits whatever comes after it, and causality stays
exact. Shape legend: see blocks.py; E experts, N = B·T tokens, M = N·k assignments, S = slots of all blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from qcore.models.blocks import linear

BLOCK = 32
"""Rows of one product. Larger ones waste more on half-empty blocks, smaller ones read the weights more often."""


class Experts(nn.Module):
    """y_t = Σ_{e ∈ top k} g_te W_down,e[silu(W_gate,e x_t) ⊙ W_up,e x_t], with p_t = softmax(W_r x_t).

    g_te = p_te ÷ Σ_{top k} p; for k = 1 it is p_te, for the router would have no gradient otherwise. k = E is the dense
    mixture. Ties go to the expert of the lower number.
    """

    def __init__(self, width: int, ffn_width: int, depth: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        hidden = max(1, ffn_width // active)
        self.router = linear(width, experts)
        self.enter = nn.Parameter(torch.randn(experts, width, 2 * hidden) * width**-0.5)
        self.down = nn.Parameter(torch.randn(experts, hidden, width) * (hidden * depth) ** -0.5)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The update, and the probability of each expert, [B, T, E] in float32."""
        B, T, D = x_BTD.shape
        probability_BTE = self.router(x_BTD).float().softmax(-1)
        # Oldest first, the batch inside: what comes later lies behind in every group and moves nothing before it.
        x_ND = x_BTD.transpose(0, 1).reshape(T * B, D)
        share_Nk, expert_Nk = choose_experts(probability_BTE.transpose(0, 1).reshape(T * B, -1), self.active)
        slot_M, filled, block_expert = _block_slots(expert_Nk.flatten(), probability_BTE.shape[-1])
        rows = x_ND.new_zeros(filled, D).index_copy(0, slot_M, x_ND.repeat_interleave(self.active, dim=0))
        done_SD = self._feed(rows.view(-1, BLOCK, D), block_expert).flatten(0, 1)
        y_NkD = done_SD.index_select(0, slot_M).view(T * B, self.active, D)
        y_ND = (y_NkD * share_Nk[..., None].to(y_NkD.dtype)).sum(1)
        return y_ND.view(T, B, D).transpose(0, 1), probability_BTE

    def _feed(self, rows_nCD: Tensor, block_expert: list[int]) -> Tensor:
        """Each expert's blocks through its own weights."""
        done, start = [], 0
        for expert, count in enumerate(block_expert):
            if count:
                rows = rows_nCD[start : start + count]
                gate, up = torch.bmm(rows, self.enter[expert].expand(count, -1, -1)).chunk(2, dim=-1)
                done.append(torch.bmm(functional.silu(gate) * up, self.down[expert].expand(count, -1, -1)))
                start += count
        return torch.cat(done)


def choose_experts(probability_NE: Tensor, active: int) -> tuple[Tensor, Tensor]:
    """Share and number of the `active` likeliest experts of each token, [N, k]; shares sum to 1 for k > 1."""
    top_Nk, expert_NE = probability_NE.sort(dim=-1, descending=True, stable=True)
    top_Nk = top_Nk[..., :active]
    share_Nk = top_Nk / top_Nk.sum(-1, keepdim=True) if active > 1 else top_Nk
    return share_Nk, expert_NE[..., :active]


def expert_load(probability_BTE: Tensor, active: int) -> Tensor:
    """Share of all assignments that each expert takes, [E], sums to 1."""
    E = probability_BTE.shape[-1]
    expert_Nk = choose_experts(probability_BTE.flatten(0, 1), active)[1]
    return torch.bincount(expert_Nk.flatten(), minlength=E) / expert_Nk.numel()


def _block_slots(expert_M: Tensor, experts: int) -> tuple[Tensor, int, list[int]]:
    """Slot of each assignment when the experts' groups are filled up to whole blocks; slots, and blocks by expert."""
    if expert_M.is_meta or isinstance(expert_M, FakeTensor):  # only shapes are asked for: as if the load were even
        blocks = [-(-len(expert_M) // (BLOCK * experts))] * experts
        return torch.empty_like(expert_M), BLOCK * sum(blocks), blocks
    count_E = torch.bincount(expert_M, minlength=experts)
    blocks_E = (count_E + BLOCK - 1) // BLOCK
    order_M = expert_M.argsort(stable=True)
    before_E = count_E.cumsum(0) - count_E
    first_E = BLOCK * (blocks_E.cumsum(0) - blocks_E)
    grouped = expert_M[order_M]
    slot_M = torch.empty_like(expert_M)
    slot_M[order_M] = first_E[grouped] + torch.arange(len(expert_M), device=expert_M.device) - before_E[grouped]
    blocks = blocks_E.tolist()
    return slot_M, BLOCK * sum(blocks), blocks
