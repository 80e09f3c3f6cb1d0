"""What the exact-flow panel asks and is told, as plain records: readable without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ExactFlowSettings:
    """What is to be drawn from the exact flow.

    Attributes:
        path, noise_correlation, t_star, repulsion: as the controls of a video run.
        samples: clips to draw.
    """

    path: str = "plain"
    noise_correlation: float = 1.0
    t_star: float = 0.2
    repulsion: float = 5.0
    samples: int = 64
    seed: int = 0


@dataclass(frozen=True)
class ExactFlowResult:
    """Samples of the exact flow, and what they measure.

    Attributes:
        clips, data: u8 [n, F, H, W, C], samples and the clips that the flow knows.
        distinct: different motions among the samples.
        scalars: measures by name under "data" and "generated".
        trajectory: mean RMS distance between the frames of a sample at the times trajectory_t, which fall from 1 to 0.
        seconds: wall time.
    """

    clips: np.ndarray
    data: np.ndarray
    distinct: int
    samples: int
    scalars: dict[str, dict[str, float]]
    trajectory_t: np.ndarray
    trajectory: np.ndarray
    seconds: float
