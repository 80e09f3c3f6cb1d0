"""Detached measurements of tensors, token ids and callables: nothing here is backpropagated and nothing knows a model.

Each returns a frozen dataclass whose `scalars()` are the series of a run and whose `arrays()` are what pages draw.
"""

from qcore.diagnostics.accumulation import AccumulationWeights, accumulation_weights
from qcore.diagnostics.concepts import ConceptAlignment, concept_alignment
from qcore.diagnostics.copies import longest_copy
from qcore.diagnostics.fixed_matrices import FixedMatrix, fixed_matrices
from qcore.diagnostics.flow_inputs import (
    DrawnTimes,
    PixelOrder,
    drawn_times,
    input_responses,
    pixel_order,
    untrained_frames,
)
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
from qcore.diagnostics.layers import LayerStatistics, LossParts, layer_statistics, loss_parts
from qcore.diagnostics.movement import (
    ElementSampler,
    Movement,
    TensorUpdate,
    TrainedWeights,
    UpdateRecord,
    adamw_direction,
    measure_movement,
    module_names,
    trained_weights,
)
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
from qcore.diagnostics.training_rows import RowOrder, TargetCheck, TrainedRows, row_order, target_check
from qcore.diagnostics.weights import WeightStatistics, weight_statistics

__all__ = [
    "COHERENCES",
    "AccumulationWeights",
    "AnchorStatistics",
    "BatchDependence",
    "CachedStepCheck",
    "CausalityProbe",
    "CoherencePerplexity",
    "ConceptAlignment",
    "ContextStatistics",
    "DrawnTimes",
    "ElementSampler",
    "FixedMatrix",
    "Forward",
    "FrameReference",
    "FrameStatistics",
    "GenerationStatistics",
    "HiddenGeometry",
    "InterferenceStatistics",
    "LayerStatistics",
    "LossParts",
    "Movement",
    "MovingPoint",
    "NotedToken",
    "PhaseStatistics",
    "PixelOrder",
    "Portrait",
    "RowOrder",
    "SampleScore",
    "SampledFlowCheck",
    "ScoringModel",
    "ShiftCheck",
    "SignTests",
    "StrictLoss",
    "TargetCheck",
    "TensorUpdate",
    "TermGradients",
    "TokenStatistics",
    "TrainedRows",
    "TrainedWeights",
    "UnrepeatableError",
    "UpdateRecord",
    "WeightStatistics",
    "accumulation_weights",
    "adamw_direction",
    "anchor_statistics",
    "batch_dependence",
    "cached_step_check",
    "call_difference",
    "causality_probe",
    "coherence_perplexity",
    "concept_alignment",
    "context_statistics",
    "drawn_times",
    "fixed_matrices",
    "frame_reference",
    "frame_statistics",
    "generation_statistics",
    "hidden_geometry",
    "input_responses",
    "interference_statistics",
    "layer_statistics",
    "local_coherence",
    "longest_copy",
    "loss_parts",
    "measure_movement",
    "module_names",
    "path_check",
    "phase_statistics",
    "pixel_order",
    "position_response",
    "probability_share",
    "prompt_response",
    "real_axis_share",
    "round_trip_loss",
    "rounding_unit",
    "row_order",
    "sampled_flow_check",
    "score_sample",
    "shift_check",
    "sign_test",
    "sign_tests",
    "singular_spectrum",
    "strict_loss",
    "target_check",
    "term_gradients",
    "times_outside",
    "token_statistics",
    "trained_weights",
    "untrained_frames",
    "weight_statistics",
]
