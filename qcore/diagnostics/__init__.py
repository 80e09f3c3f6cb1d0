"""Detached measurements of tensors, token ids and callables: nothing here is backpropagated and nothing knows a model.

Each returns a frozen dataclass whose `scalars()` are the series of a run and whose `arrays()` are what pages draw.
"""

from qcore.diagnostics.concepts import ConceptAlignment, concept_alignment
from qcore.diagnostics.frames import (
    AnchorStatistics,
    FrameReference,
    FrameStatistics,
    MovingPoint,
    anchor_statistics,
    frame_reference,
    frame_statistics,
    path_check,
    position_response,
    singular_spectrum,
)
from qcore.diagnostics.generations import (
    GenerationStatistics,
    generation_statistics,
    prompt_response,
    round_trip_loss,
)
from qcore.diagnostics.geometry import HiddenGeometry, hidden_geometry
from qcore.diagnostics.gradients import TermGradients, term_gradients
from qcore.diagnostics.interference import InterferenceStatistics, interference_statistics
from qcore.diagnostics.perplexity import (
    CoherencePerplexity,
    ContextStatistics,
    ShiftCheck,
    coherence_perplexity,
    context_statistics,
    local_coherence,
    shift_check,
)
from qcore.diagnostics.phase import PhaseStatistics, Portrait, phase_statistics, real_axis_share
from qcore.diagnostics.probes import (
    BatchDependence,
    CausalityProbe,
    Forward,
    StrictLoss,
    UnrepeatableError,
    batch_dependence,
    causality_probe,
    strict_loss,
)
from qcore.diagnostics.sampled_flow import SampledFlowCheck, sampled_flow_check, times_outside
from qcore.diagnostics.sampler import (
    CachedStepCheck,
    NotedToken,
    SampleScore,
    ScoringModel,
    cached_step_check,
    call_difference,
    probability_share,
    rounding_unit,
    score_sample,
)
from qcore.diagnostics.signs import COHERENCES, SignTests, sign_test, sign_tests
from qcore.diagnostics.tokens import TokenStatistics, token_statistics
from qcore.diagnostics.weights import WeightStatistics, weight_statistics

__all__ = [
    "COHERENCES",
    "AnchorStatistics",
    "BatchDependence",
    "CachedStepCheck",
    "CausalityProbe",
    "CoherencePerplexity",
    "ConceptAlignment",
    "ContextStatistics",
    "Forward",
    "FrameReference",
    "FrameStatistics",
    "GenerationStatistics",
    "HiddenGeometry",
    "InterferenceStatistics",
    "MovingPoint",
    "NotedToken",
    "PhaseStatistics",
    "Portrait",
    "SampleScore",
    "SampledFlowCheck",
    "ScoringModel",
    "ShiftCheck",
    "SignTests",
    "StrictLoss",
    "TermGradients",
    "TokenStatistics",
    "UnrepeatableError",
    "WeightStatistics",
    "anchor_statistics",
    "batch_dependence",
    "cached_step_check",
    "call_difference",
    "causality_probe",
    "coherence_perplexity",
    "concept_alignment",
    "context_statistics",
    "frame_reference",
    "frame_statistics",
    "generation_statistics",
    "hidden_geometry",
    "interference_statistics",
    "local_coherence",
    "path_check",
    "phase_statistics",
    "position_response",
    "probability_share",
    "prompt_response",
    "real_axis_share",
    "round_trip_loss",
    "rounding_unit",
    "sampled_flow_check",
    "score_sample",
    "shift_check",
    "sign_test",
    "sign_tests",
    "singular_spectrum",
    "strict_loss",
    "term_gradients",
    "times_outside",
    "token_statistics",
    "weight_statistics",
]
