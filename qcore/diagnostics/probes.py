"""Experiments on a model seen as a function: change some tokens, and look at what moves and what must not.

A forward is any callable tokens_BT → logits_BTV, deterministic (dropout off) and called under `no_grad`. Nothing is
restored, because nothing is owned: the caller sets the model's mode and puts it back. Answers are compared bit for bit:
a causal model gives a leak of exactly 0. A model may mix the rows of its batch: that looks like a leak where there is
none, and a statistic shared by the batch hides a leak that is there. Single rows decide.
Legend: B batch, T tokens, V vocabulary, C cuts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.base import QcoreError
from qcore.diagnostics.perplexity import perplexity
from qcore.diagnostics.positions import check_mask, check_shape, drop_undefined
from qcore.probes import catalog

Forward = Callable[[Tensor], Tensor]

ALONE_CUTS = 4
CONTEXT_PLACES = 4
FAINT = 1e-3
"""A response to the context below this part of the logits' spread may be rounding and is measured again on single
rows."""


class UnrepeatableError(QcoreError, ValueError):
    """A forward that answers differently to the same tokens, so that no change has a cause."""


@dataclass(frozen=True)
class CausalityProbe:
    """What the first row's logits did when other tokens changed; NaN for a row of one token."""

    leak: float
    """max|Δlogits at or before a cut| ÷ max|Δlogits after it|, worst cut: exactly 0 for a causal model."""
    leak_C: np.ndarray
    response: float
    """max|Δlogits| after a cut ÷ the logits' standard deviation over the vocabulary, largest of the cuts. Like the
    next, NaN when all logits are equal: such a model can't answer yet."""
    context_response: float
    """max|Δ log-probability| ÷ that deviation where the current token stayed and the earlier ones were replaced:
    exactly 0 for a model that ignores its context (fault T3)."""
    cut_C: np.ndarray
    change_CT: np.ndarray
    """max over the vocabulary of |Δlogits_t| when all tokens after the cut change; columns ≤ cut must be 0."""
    confirmed: bool
    """Whether the verdict needed every suspect on single rows."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `causality/`."""
        names = ("leak", "response", "context_response")
        return drop_undefined({catalog.member(catalog.CAUSALITY, name): getattr(self, name) for name in names})

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "causality"; empty for a row of one token."""
        return {"cuts": self.cut_C, "change": self.change_CT} if len(self.cut_C) else {}


@dataclass(frozen=True)
class BatchDependence:
    """How far the first row's logits moved when the other rows were replaced, ÷ their spread: exactly 0 when healthy
    (fault B1); NaN, with the reason, for a batch of one row.
    """

    dependence: float
    reason: str = ""

    def scalars(self) -> dict[str, float]:
        """`batch/dependence`, left out when it has no value."""
        return drop_undefined({catalog.BATCH_DEPENDENCE: self.dependence})


@dataclass(frozen=True)
class StrictLoss:
    """Cross-entropy at the same positions from their prefix alone (strict) and inside the whole window, nats."""

    positions: int
    strict: float
    teacher_forced: float

    @property
    def gap(self) -> float:
        """strict − teacher-forced: rounding when causal, positive when the window's future helps (faults L1–L3)."""
        return self.strict - self.teacher_forced

    def scalars(self) -> dict[str, float]:
        """`strict/ce`, `strict/teacher_forced`, `strict/gap` and `perplexity/strict`; empty without a valid
        position.
        """
        return drop_undefined(
            {
                catalog.STRICT_CE: self.strict,
                catalog.STRICT_TEACHER_FORCED: self.teacher_forced,
                catalog.STRICT_GAP: self.gap,
                catalog.PERPLEXITY_STRICT: perplexity(self.strict),
            }
        )


def causality_probe(
    forward: Forward, tokens_BT: Tensor, cuts: int = 8, seed: int = 0, vocab_size: int | None = None
) -> CausalityProbe:
    """Replace everything after each of `cuts` random places of the first row, and everything but a few tokens.

    New ids differ from the old at every place and are below `vocab_size` (default: the largest id given + 1). Context:
    four spread tokens stay, all others change. A leak is found whatever it reads, one token or all: at a single place,
    or for the last token only, some leaks show nothing. Cost: one forward of C + 2 rows and two of one row; C + 2 more
    of one row when something looks like a leak.

    Args:
        cuts: with fewer than `ALONE_CUTS` a short look is meant: then single rows are asked only when something looks
            like a leak. Rows that share a statistic of their batch hide one from it.

    Raises:
        ValueError: fewer than two possible ids.
        UnrepeatableError: a forward that answers differently to the same tokens (dropout).
    """
    _check_tokens(tokens_BT)
    tokens_T, tokens = tokens_BT[0], tokens_BT.shape[1]
    count = min(cuts, tokens - 1)
    if count < 1:
        none = np.zeros(0, np.float32)
        return CausalityProbe(math.nan, none, math.nan, math.nan, none.astype(np.int32), none.reshape(0, 0), False)
    generator = torch.Generator().manual_seed(seed)
    # random places: a leak with a period could hide between even ones
    cut_C = torch.randperm(tokens - 1, generator=generator)[:count].sort().values
    after_CT = torch.arange(tokens) > cut_C.unsqueeze(1)
    # a few tokens stay, so that the question is whether the context is read, not whether the last token is
    kept_k = (torch.arange(1, CONTEXT_PLACES + 1) * tokens // CONTEXT_PLACES - 1).clamp(min=1).unique()
    around_T = torch.ones(tokens, dtype=torch.bool).index_fill(0, kept_k, False)
    changed_RT = torch.cat((torch.zeros(1, tokens, dtype=torch.bool), after_CT, around_T.unsqueeze(0)))
    rows_RT = _replace_tokens(
        tokens_T.expand(count + 2, tokens), changed_RT, vocab_size or _smallest_vocabulary(tokens_BT), generator
    )
    with torch.no_grad():
        logits_RTV = forward(rows_RT)
        base_TV = logits_RTV[0].float()
        change_CT = torch.stack([_change(row_TV, base_TV) for row_TV in logits_RTV[1:-1]])
        context = _context_change(logits_RTV[-1], base_TV, kept_k)
        spread = float(base_TV.std(-1).mean()) if base_TV.shape[1] > 1 else 0.0
        # 0 in a causal model; what is not is asked again below, before it is called a leak
        suspect_C = change_CT.masked_fill(after_CT, 0).amax(1) > 0
        alone_TV = forward(rows_RT[:1])[0].float() if cuts >= ALONE_CUTS else None
        if alone_TV is not None:
            # Rows that share a statistic of their batch can't show that it holds the future: the earliest cut, alone.
            suspect_C |= bool(_change(forward(rows_RT[1:2])[0], alone_TV)[~after_CT[0]].max() > 0)
        faint = context < FAINT * spread
        # asked again row by row: in a batch, kernels may sum in another order, which is no leak
        if confirmed := bool(suspect_C.any()) or faint:
            alone_TV = forward(rows_RT[:1])[0].float() if alone_TV is None else alone_TV
            _check_repeats(forward, rows_RT[:1], alone_TV)
            for index in suspect_C.nonzero().flatten().tolist():
                change_CT[index] = _change(forward(rows_RT[index + 1 : index + 2])[0], alone_TV)
            if faint:
                context = _context_change(forward(rows_RT[-1:])[0], alone_TV, kept_k)
    before_C = change_CT.masked_fill(after_CT, 0).amax(1)
    reach_C = change_CT.masked_fill(~after_CT, 0).amax(1)
    # in parts of what the cut changes behind it: a leak of the size of the effect is one in any unit of logits
    leak_C = torch.where(before_C > 0, before_C / reach_C.clamp(min=1e-6 * spread or 1e-30), before_C)
    unit = spread if spread > 0 else math.nan
    return CausalityProbe(
        leak=float(leak_C.max()),
        leak_C=leak_C.numpy(),
        response=float(reach_C.max()) / unit,
        context_response=context / unit,
        cut_C=cut_C.to(torch.int32).numpy(),
        change_CT=change_CT.numpy(),
        confirmed=confirmed,
    )


def batch_dependence(
    forward: Forward,
    tokens_BT: Tensor,
    seed: int = 0,
    vocab_size: int | None = None,
    *,
    constant: bool = True,
) -> BatchDependence:
    """Compare the first row's logits among its batch mates, among random ones, and among rows of one repeated token.

    The shape never changes, so a model that treats rows apart gives exactly 0. Two sorts of mates, because a statistic
    of the batch that only switches at a threshold (a width chosen by mean complexity) may ignore one of them. Cost: 3
    forwards, 2 without `constant`: then rows of one repeated token are left out. Give it a few rows.

    Raises:
        ValueError: fewer than two possible ids.
        UnrepeatableError: a forward that answers differently to the same tokens.
    """
    _check_tokens(tokens_BT)
    batch_BT = tokens_BT
    if len(batch_BT) < 2:
        return BatchDependence(math.nan, "the batch has one row: it has no batch mates to depend on")
    generator = torch.Generator().manual_seed(seed)
    mates_BT = torch.ones(batch_BT.shape, dtype=torch.bool)
    mates_BT[0] = False
    random_BT = _replace_tokens(batch_BT, mates_BT, vocab_size or _smallest_vocabulary(tokens_BT), generator)
    others = [random_BT]
    if constant:
        # one token everywhere: the mean of a batch then moves as far as it can
        others.append(torch.where(mates_BT.to(batch_BT.device), batch_BT[0, 0], batch_BT))
    with torch.no_grad():
        base_TV = forward(batch_BT)[0].float()
        changes = [_change(forward(other_BT)[0], base_TV) for other_BT in others]
        change = float(torch.stack(changes).max())
        if change > 0:
            _check_repeats(forward, batch_BT, base_TV)
        spread = float(base_TV.std(-1).mean()) if base_TV.shape[1] > 1 else 0.0
    return BatchDependence(change / max(spread, 1e-30) if change > 0 else change)


def strict_loss(
    forward: Forward,
    tokens_BT: Tensor,
    targets_BT: Tensor,
    mask_BT: Tensor,
    positions: int = 8,
    seed: int = 0,
    rows: int = 2,
) -> StrictLoss:
    """Score the same positions twice: with the window cut off right after them, and inside the whole window.

    `positions` random places, the last one excepted (it has no future), in each of the first `rows` rows. The only
    measurement of a leak in nats: 0.02 for a mean over a long window, 2.75 where the next token is read. Cost: one
    forward of `rows` rows and `positions` shorter ones.

    Raises:
        ValueError: shapes that disagree.
    """
    _check_tokens(tokens_BT)
    check_shape("targets_BT", targets_BT, tuple(tokens_BT.shape), "tokens_BT")
    check_mask(mask_BT, tuple(tokens_BT.shape), "tokens_BT")
    some_BT, targets_BT, mask_BT = tokens_BT[:rows], targets_BT[:rows], mask_BT[:rows]
    columns = mask_BT[:, :-1].any(0).nonzero().flatten().cpu()
    generator = torch.Generator().manual_seed(seed)
    chosen = columns[torch.randperm(len(columns), generator=generator)[:positions]].sort().values.tolist()
    if not chosen:
        return StrictLoss(0, math.nan, math.nan)
    with torch.no_grad():
        whole_BTV = forward(some_BT)
        strict, whole = [], []
        for place in chosen:
            valid_B = mask_BT[:, place]
            targets_N = targets_BT[valid_B, place]
            strict.append(_nats(forward(some_BT[:, : place + 1])[valid_B, -1], targets_N))
            whole.append(_nats(whole_BTV[valid_B, place], targets_N))
        strict_N, whole_N = torch.cat(strict), torch.cat(whole)
    return StrictLoss(len(strict_N), float(strict_N.mean()), float(whole_N.mean()))


def _check_tokens(tokens_BT: Tensor) -> None:
    if tokens_BT.ndim != 2 or 0 in tokens_BT.shape or tokens_BT.is_floating_point():
        raise ValueError(
            f"tokens_BT is {tokens_BT.dtype} of shape {tuple(tokens_BT.shape)}; pass ids of shape [batch, tokens], "
            "both at least 1"
        )


def _smallest_vocabulary(tokens_BT: Tensor) -> int:
    return int(tokens_BT.max()) + 1


def _replace_tokens(tokens_RT: Tensor, where_RT: Tensor, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Other ids at every marked place, none of them the old one."""
    if vocabulary < 2:
        raise ValueError(f"a vocabulary of {vocabulary} has no other id to put in; pass vocab_size, the model's own")
    turn_RT = torch.randint(1, vocabulary, tuple(tokens_RT.shape), generator=generator).to(tokens_RT.device)
    return torch.where(where_RT.to(tokens_RT.device), (tokens_RT + turn_RT) % vocabulary, tokens_RT)


def _change(logits_TV: Tensor, base_TV: Tensor) -> Tensor:
    return (logits_TV.float() - base_TV).abs().amax(-1).cpu()


def _context_change(logits_TV: Tensor, base_TV: Tensor, kept_k: Tensor) -> float:
    """Largest change of a log-probability at the places whose own token stayed."""
    kept_k = kept_k.to(base_TV.device)
    log_probs_kV = torch.log_softmax(logits_TV[kept_k].float(), dim=-1)
    return float((log_probs_kV - torch.log_softmax(base_TV[kept_k], dim=-1)).abs().max())


def _check_repeats(forward: Forward, rows_RT: Tensor, first_TV: Tensor) -> None:
    """Refuse a second call that gives the first row other logits than `first_TV`: noise would pass for a leak."""
    noise = float(_change(forward(rows_RT)[0], first_TV).max())
    if noise > 0:
        raise UnrepeatableError(
            f"forward gave logits {noise:.3g} apart for the same tokens; switch dropout off, for example with "
            "model.eval()"
        )


def _nats(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
