"""Which way each part of the loss pulls, and how hard: gradient norms and pairwise cosines of the unweighted terms.

A curve can fall while its term does nothing: a diversity loss built from argmax has no gradient at all (fault G1), an
energy summed over the width drowns the main loss (G5), and a term may pull straight against it (T2). At the last hidden
state the measurement costs a few per cent of one over all parameters, but sees only terms that act through it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

MAIN = ("ce", "flow")


@dataclass(frozen=True)
class TermGradients:
    """Gradients of K parts of the loss, in the order given."""

    names: tuple[str, ...]
    norm_K: np.ndarray
    """Euclidean norm of each unweighted gradient; exactly 0 for a part that nothing can change."""
    cosine_KK: np.ndarray
    """Cosine of each pair in [−1, 1]: negative where two parts disagree; 0 with a part that has no gradient."""
    weight_K: np.ndarray
    attached_K: np.ndarray
    """Whether the part is a function of anything trainable at all; a part may be attached and still have norm 0."""

    def scalars(self) -> dict[str, float]:
        """`grad/norm/<term>`; and beside a cross-entropy with a gradient, `grad/ratio/<term>` (|weight|·norm over that
        of ce) and `grad/cos/<term>` (cosine with ce).
        """
        series = {catalog.grad("norm", name): float(norm) for name, norm in zip(self.names, self.norm_K, strict=True)}
        main = next((self.names.index(name) for name in MAIN if name in self.names), None)
        pull_K = np.abs(self.weight_K) * self.norm_K
        if main is not None and pull_K[main] > 0:
            for index, name in enumerate(self.names):
                series[catalog.grad("ratio", name)] = float(pull_K[index] / pull_K[main])
                series[catalog.grad("cos", name)] = float(self.cosine_KK[main, index])
        return drop_undefined(series)

    def arrays(self, term_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """What is stored under the name "gradients"; `terms` indexes `term_names` (default: `names` itself).

        Raises:
            ValueError: when a part's name is not among `term_names`.
        """
        known = list(self.names if term_names is None else term_names)
        missing = [name for name in self.names if name not in known]
        if missing:
            raise ValueError(f"parts {', '.join(missing)} are not among the term names {', '.join(known)}")
        return {
            "norm": self.norm_K.astype(np.float32),
            "cosine": self.cosine_KK.astype(np.float32),
            "terms": np.array([known.index(name) for name in self.names], dtype=np.int32),
        }


def term_gradients(parts: Mapping[str, Tensor], wrt: Sequence[Tensor], weights: Mapping[str, float]) -> TermGradients:
    """Differentiate each unweighted part (a scalar) with respect to `wrt` together: the last hidden state, or all
    parameters.

    The graph is kept, `.grad` is not touched. A part without a graph, or that does not reach `wrt`, has gradient 0.
    Cost: K backward passes down to `wrt`, O(K·N + K²·N) for N elements, memory O(K·N): use a few rows.

    Raises:
        ValueError: a tensor that needs no gradient, a part that is no scalar, a part without a weight.

    Example:
        >>> hidden = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> parts = {"ce": hidden.sum(), "against": -hidden.sum()}
        >>> found = term_gradients(parts, [hidden], {"ce": 1.0, "against": 0.5})
        >>> found.cosine_KK.round(3).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    names = tuple(parts)
    tensors = list(wrt)
    if not tensors or not all(tensor.requires_grad for tensor in tensors):
        raise ValueError("wrt holds no tensor, or one that needs no gradient; pass parameters or a state of the graph")
    for name, part in parts.items():
        if part.ndim:
            raise ValueError(f"part {name!r} has shape {tuple(part.shape)}; pass scalars")
        if name not in weights:
            raise ValueError(f"part {name!r} has no weight; weights were given for {', '.join(sorted(weights))}")
    rows_KN = [_gradient(part, tensors) for part in parts.values()]
    norm_K, cosine_KK = _gram(rows_KN)
    return TermGradients(
        names=names,
        norm_K=norm_K,
        cosine_KK=cosine_KK,
        weight_K=np.array([float(weights[name]) for name in names]),
        attached_K=np.array([part.requires_grad for part in parts.values()], dtype=bool),
    )


def _gradient(part: Tensor, tensors: list[Tensor]) -> Tensor:
    """One flat row; parts that `part` does not reach are zeros."""
    found: Sequence[Tensor | None] = [None] * len(tensors)
    if part.requires_grad:
        with torch.enable_grad():
            found = torch.autograd.grad(part, tensors, retain_graph=True, allow_unused=True)
    flat = [
        torch.zeros(tensor.numel(), device=tensor.device) if gradient is None else gradient.detach().float().flatten()
        for tensor, gradient in zip(tensors, found, strict=True)
    ]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _gram(rows_KN: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Norms and cosines. Each row is measured in units of its largest element: the square of a small gradient
    underflows, and would then look like none.
    """
    if not rows_KN:
        return np.zeros(0), np.zeros((0, 0))
    with torch.no_grad():
        matrix_KN = torch.stack(rows_KN)
        largest_K = torch.linalg.vector_norm(matrix_KN, ord=math.inf, dim=1)
        matrix_KN /= largest_K.where(largest_K > 0, 1.0).unsqueeze(1)
        gram_KK = (matrix_KN @ matrix_KN.T).double()
        length_K = gram_KK.diagonal().sqrt()
        norm_K = (largest_K.double() * length_K).cpu().numpy()
        unit_K = length_K.where(length_K > 0, 1.0)
        cosine_KK = (gram_KK / unit_K.unsqueeze(0) / unit_K.unsqueeze(1)).clamp(-1, 1)
    return norm_K, cosine_KK.cpu().numpy()
