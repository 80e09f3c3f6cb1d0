"""Measurements of a run in training: the catalogue of series, probes, and when each is taken.

`Probe(name, needs, every, measure)` on a `ProbeInput` is the whole contract; built-in probes use nothing else. The
room knows no engine: what one must provide is declared here (`ProbedRun`), and `train` provides it. Nothing in this
file imports torch, so that a program which only declares series and probes stays light.
"""

from qcore.probes.catalog import CAPABILITIES
from qcore.probes.protocol import MissingError, Probe, ProbedRun, ProbeInput, clips_of, text_of
from qcore.probes.registry import register, registered, unregister

__all__ = [
    "CAPABILITIES",
    "MissingError",
    "Probe",
    "ProbeInput",
    "ProbedRun",
    "clips_of",
    "register",
    "registered",
    "text_of",
    "unregister",
]
