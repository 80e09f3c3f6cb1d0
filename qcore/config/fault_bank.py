"""The fault bank: what published projects of this field really got wrong, as starting points that can be watched.

A case says what its authors saw, what gives the fault away, which findings must name it, and the configuration in which
it shows within seconds. `RunConfig.fault` holds the code; `qcore.faults` plants it in a run, and nothing else may. An
empty code plants nothing, and then that package is never imported; a few video cases are configurations that go wrong
by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qcore.config import fault_cases_optimizer

EXAM_BASE: dict[str, Any] = {
    "width": 48,
    "layers": 2,
    "heads": 4,
    "phases": 16,
    "context": 64,
    "batch_size": 8,
    "documents": 1500,
    "steps": 150,
    "learning_rate": 1e-2,
    "warmup_steps": 20,
    "eval_every": 25,
    "eval_batches": 2,
    "sample_every": 50,
    "sample_length": 40,
    "checkpoint_every": 1000,
    "tokens_every": 5,
    "phase_every": 10,
    "gradients_every": 10,
    "checks_every": 50,
    "budget_percent": 100.0,
}
"""The small runs of the exam: models of both kinds pass the trigram within 150 steps of 10–25 ms on one
thread, and every probe runs often enough to speak in that time."""

VIDEO_EXAM_BASE: dict[str, Any] = {
    "kind": "video_flow",
    "clips": 1024,
    "steps": 300,
    "warmup_steps": 20,
    "eval_every": 50,
    "eval_batches": 1,
    "sample_every": 25,
    "checkpoint_every": 1000,
    "frames_every": 10,
    "gradients_every": 25,
    "checks_every": 50,
    "budget_percent": 100.0,
}
"""The same for video, on the default model: samples of a healthy run move within 150 steps of 25–30 ms."""

_TRANSFORMER = {"kind": "transformer"}


@dataclass(frozen=True)
class FaultCase:
    """One fault.

    Attributes:
        findings: names of which at least one must be raised.
        within: steps in which it must be found (0: before the first optimizer step).
        changes: configuration beside `base`.
        planted: a mistake in code that `qcore.faults` plants; False: the configuration alone does it.
    """

    code: str
    title: str
    seen: str
    tell: str
    findings: tuple[str, ...]
    within: int
    changes: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=lambda: EXAM_BASE)
    planted: bool = True

    @property
    def preset_changes(self) -> dict[str, Any]:
        """All changes to the default configuration that make the run of this case."""
        changes = {**self.base, **self.changes}
        if changes.get("kind", "phase_lm") != "phase_lm":
            changes.pop("phases", None)
        return {**changes, "fault": self.code} if self.planted else changes


def _video(code: str, *story: str, findings: tuple[str, ...], within: int, planted: bool, **changes: Any) -> FaultCase:
    title, seen, tell = story
    return FaultCase(code, title, seen, tell, findings, within, changes, VIDEO_EXAM_BASE, planted)


_CASES = (
    FaultCase(
        "L1",
        "Interference over the whole window",
        "nothing",
        "what comes later changes earlier outputs",
        ("future_leak",),
        0,
    ),
    FaultCase(
        "L2",
        "Symmetric window: the next token leaks",
        "a loss that falls fast",
        "what comes later changes earlier outputs, and the loss is far below that of prefixes alone",
        ("future_leak",),
        0,
        _TRANSFORMER,
    ),
    FaultCase(
        "L3",
        "Adaptive threshold over the unmasked row",
        "nothing",
        "what comes later changes earlier outputs, through a threshold",
        ("future_leak",),
        0,
        _TRANSFORMER,
    ),
    FaultCase(
        "L3b",
        "Adaptive threshold over the unmasked row, in Quantum Flux",
        "nothing",
        "what comes later changes earlier outputs, through a threshold",
        ("future_leak",),
        0,
        {"kind": "flux_lm"},
    ),
    FaultCase(
        "G1",
        "Token distribution from argmax and counts",
        "a diversity loss that changes nothing",
        "the term's gradient is exactly 0",
        ("constant_term",),
        0,
        {"diversity_weight": 0.5},
    ),
    FaultCase(
        "G2",
        "Entropy hinge that saturates at half a nat",
        "collapse goes on",
        "gradient 0 while the term sits at its bound",
        ("saturated_term",),
        0,
        {"entropy_floor_weight": 0.5},
    ),
    FaultCase(
        "G3",
        "A complex tensor loses its imaginary part",
        "a warning",
        "phases are 0 or π only, and the term's gradient is 0",
        ("real_phases",),
        0,
        {"coherence_weight": 0.02},
    ),
    FaultCase(
        "G4",
        "The energy has the wrong sign",
        "energy improved from 306 to 35",
        "a step down the term lowers the coherence it is named for",
        ("wrong_sign",),
        0,
        {"local_energy_weight": 0.2},
    ),
    FaultCase(
        "G5",
        "Energy summed over the width",
        "155, 308, 617 at widths 256, 512, 768",
        "the raw term is outside its range and its gradient dwarfs the main loss",
        ("unscaled_term",),
        0,
        {"local_energy_weight": 0.5},
    ),
    FaultCase(
        "G6",
        "Gradients cleared before the last micro-batch",
        "an effective batch of 128",
        "the accumulated gradient differs from that of the big batch",
        ("accumulation_lost",),
        1,
        {**_TRANSFORMER, "accumulation": 4, "batch_size": 2},
    ),
    FaultCase(
        "G7",
        "Detach freezes all blocks but the last",
        "nine times faster",
        "blocks without gradient",
        ("frozen_blocks",),
        1,
        {"layers": 4},
    ),
    FaultCase(
        "G8",
        "No nonlinearity, most weights unused",
        "nothing",
        "share of weights without gradient; no better than a bigram",
        ("unused_weights",),
        1,
        {**_TRANSFORMER, "layers": 5, "ffn_width": 40},
    ),
    FaultCase(
        "P1",
        "Amplitude and phase from one projection",
        "nothing",
        "half of the circle is empty",
        ("half_circle",),
        0,
    ),
    FaultCase(
        "P2",
        "All phases align",
        "coherence goes up",
        "R near 1 and no variance of the phases, without gain in loss",
        ("aligned_phases",),
        100,
        {"coherence_weight": 1.0, "stability_weight": 5.0},
    ),
    FaultCase(
        "P3",
        "The imaginary channel dies",
        "loss looks fine",
        "Var(Im)/Var(Re) goes to 0",
        ("dead_imaginary",),
        100,
    ),
    FaultCase(
        "P3b",
        "The imaginary channel of a memory dies",
        "loss looks fine",
        "Var(Im)/Var(Re) goes to 0",
        ("dead_imaginary",),
        100,
        {"kind": "pam"},
    ),
    FaultCase(
        "T1",
        "End-of-sequence collapse",
        "end of sequence 27 % → 87 % → 99.97 %",
        "padding counts as a target; prediction of the end over its share of the text",
        ("padding_targets", "eos_collapse"),
        0,
        {
            **_TRANSFORMER,
            "packing": "padded",
            "learning_rate": 1.5e-4,
            "lr_policy": "constant",
            "context": 160,
            "batch_size": 4,
        },
    ),
    FaultCase(
        "T2",
        "One arbitrary token wins",
        "a falling loss; one word at 82–86 % of the positions",
        "a term pulls against the cross-entropy; then the top share rises and coverage falls",
        ("harmful_term", "token_collapse"),
        100,
        {"dominance_weight": 3.4},
    ),
    FaultCase(
        "T2b",
        "Learning-rate jump",
        "one word everywhere after a change of the learning rate",
        "gradient norm and loss leave their range before the predictions collapse",
        ("raised_rate", "token_collapse"),
        100,
        {"schedule": ["80: learning_rate = 0.5"], "lr_policy": "constant"},
    ),
    FaultCase(
        "T3",
        "The context is ignored",
        "a loss at the unigram",
        "the prediction is the same at every position; another context changes nothing",
        ("context_ignored",),
        0,
        _TRANSFORMER,
    ),
    FaultCase(
        "T4",
        "Repetition while perplexity improves",
        "“[ [ [ [” at perplexity 25.7 → 12.3",
        "free-running repetition beside a falling loss that never reaches the bigram",
        ("repetition",),
        100,
        {"tokenizer": "byte", "temperature": 0.0, **_TRANSFORMER},
    ),
    _video(
        "V1",
        "Averaging collapse: noise shared across frames",
        "ghosting",
        "generated frames are nearer to each other than the data's, and hardly move; no path weight helps",
        findings=("averaging_collapse",),
        within=100,
        planted=False,
        flow_path="quantum",
        noise_correlation=1.0,
        orthogonality_weight=0.1,
    ),
    _video(
        "V2",
        "Divergence and energy are computed on the data",
        "divergence fine",
        "the curves of model and data are bit-identical",
        findings=("data_not_model",),
        within=20,
        planted=True,
        noise_correlation=1.0,
    ),
    _video(
        "V3",
        "The velocity is not the derivative of the path",
        "divergence above 2, energy healthy",
        "finite differences of the path against the target velocity",
        findings=("wrong_velocity",),
        within=0,
        planted=True,
        flow_path="quantum",
    ),
    _video(
        "V4",
        "Frames are pushed apart beyond the data",
        "orthogonality goes up",
        "motion that does not continue from frame to frame, and more change than in the data",
        findings=("flicker",),
        within=300,
        planted=False,
        flow_path="quantum",
        orthogonality_weight=1.0,
        orthogonality_warmup=50,
    ),
    _video(
        "V5",
        "No frame embedding",
        "identical frames",
        "shuffled frames give the same velocity, shuffled",
        findings=("frames_unordered",),
        within=0,
        planted=True,
    ),
    _video(
        "V6",
        "Trained on one noise, sampled with another",
        "explosion or freeze",
        "the share of common noise in sampling against training, and the spread of samples",
        findings=("noise_mismatch",),
        within=25,
        planted=False,
        sample_noise_correlation=1.0,
    ),
    FaultCase(
        "B1",
        "A row depends on its batch mates",
        "nothing",
        "other rows in the batch change a row's output",
        ("batch_dependence",),
        0,
        _TRANSFORMER,
    ),
    FaultCase(
        "B2",
        "Unshifted labels",
        "perplexity 1",
        "the targets are the inputs; the model copies",
        ("unshifted_labels",),
        0,
        _TRANSFORMER,
    ),
    FaultCase(
        "N1",
        "NaN in one term",
        "a NaN loss",
        "the finite check names term and step",
        ("nonfinite",),
        100,
        {"z_loss_weight": 1e-3},
    ),
    FaultCase(
        "R1",
        "No residual connections",
        "a loss at the unigram",
        "hidden states share one direction",
        ("rank_collapse",),
        0,
        # A single row: at the start each row has a direction of its own, shared by all its tokens.
        {**_TRANSFORMER, "layers": 6, "batch_size": 1, "context": 128},
    ),
)

FAULTS: dict[str, FaultCase] = {
    case.code: case for case in (*_CASES, *(FaultCase(**case) for case in fault_cases_optimizer.CASES))
}
"""Every case by its code: L leaks, G gradients, O optimizer, P phases, T tokens, V video, B batches, N numbers, R rank.
"""
