"""Paths from noise to data with exact velocities, correlated noise, anchors, solvers, and the exact marginal flow.

Convention everywhere: t = 1 is noise, t = 0 is data; z = α ε + β A + γ x; u = dz/dt. Nothing here has parameters.
"""

from qcore.flow.base import Path, PathSample, PathSettings, PathWeights
from qcore.flow.exact import ExactFlow, distinct_motions
from qcore.flow.noise import correlated_noise, mean_anchor, quantum_anchor, rab_anchor, statistical_anchor
from qcore.flow.paths import PATHS, make_path
from qcore.flow.solvers import integrate

__all__ = [
    "PATHS",
    "ExactFlow",
    "Path",
    "PathSample",
    "PathSettings",
    "PathWeights",
    "correlated_noise",
    "distinct_motions",
    "integrate",
    "make_path",
    "mean_anchor",
    "quantum_anchor",
    "rab_anchor",
    "statistical_anchor",
]
