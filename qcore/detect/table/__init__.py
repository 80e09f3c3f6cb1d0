"""The one table of rules: names, faults, explanations, thresholds. Documentation and the page come from it.

Every threshold is here; what each means, and how many measurements in a row it takes, stands beside the detector.
"""

from __future__ import annotations

from qcore.detect import collapse, data, gradients, leaks, phases, tokens, video
from qcore.detect.finding import Family
from qcore.detect.rule import Rule
from qcore.probes import catalog

_MEASURED = "0 of 60 healthy exam runs"
_WITH_PHASES = "0 of 30 healthy exam runs with phases"
_WITH_ENERGIES = "0 of 5 healthy exam runs with energies"
_ACCUMULATED = "0 of 10 healthy exam runs that accumulate"
_VIDEO = "0 of 10 healthy exam runs of video"
_FLICKER = f"{_VIDEO}; not counted: half of the noise in common, where clips flicker for 500 steps and then move"

_ANY: tuple[Family, ...] = ("text", "video")
_CLIPS: tuple[Family, ...] = ("video",)
_SHARED, _NOISE, _MISMATCH, _VELOCITY = 0.99, 0.2, 0.05, 0.02
"""Common noise from which on frames have nothing of their own; how near to noise clips are noise; a difference of
common noise that counts; an error of the velocity that does."""

MOTIONS = {"one": 0.05, "few": 0.5}
"""Distinct motions ÷ samples of the exact flow up to which the noise chose nothing, and below which too little."""

RULES: tuple[Rule, ...] = (
    Rule(
        "future_leak",
        ("L1", "L2", "L3", "L3b"),
        "The future leaks into the past",
        "Outputs depend on tokens that come after them, so the model is asked for a token that it can see. "
        "Its loss then says nothing about prediction, and generation, which has no future to look at, breaks down.",
        {"leak": 1e-6, "gap": 0.05, "undercut": 0.3, "mates": 1e-4, "easier": 0.05, "copies": 0.5},
        _MEASURED,
        (catalog.CAUSALITY_LEAK, catalog.STRICT_GAP, catalog.EVAL_CE),
        leaks.future_leak,
        shows=(
            catalog.STRICT_CE,
            catalog.STRICT_TEACHER_FORCED,
            catalog.BATCH_DEPENDENCE,
            catalog.DATA_PAD_IS_TARGET,
            catalog.SHIFT_TARGETS_ARE_INPUTS,
        ),
    ),
    Rule(
        "constant_term",
        ("G1",),
        "A loss term without gradient",
        "This term has a weight, yet its gradient is exactly zero, as when it is built from argmax, counts or detached "
        "values. It changes the reported loss but not a single weight of the model, so what it should prevent "
        "continues.",
        {"real_axis": 0.999},
        _MEASURED,
        (catalog.grad("norm", "*"),),
        gradients.constant_term,
        shows=(catalog.term("*"), catalog.grad("value", "*"), catalog.PHASE_REAL_AXIS_SHARE),
        per_term=True,
        families=_ANY,
    ),
    Rule(
        "saturated_term",
        ("G2",),
        "A loss term stuck at its bound",
        "This term sits at a bound where its gradient is exactly zero. "
        "It stays silent for as long as the model is far from what the term was meant to prevent or reach.",
        {"real_axis": 0.999},
        _MEASURED,
        (catalog.grad("norm", "*"),),
        gradients.saturated_term,
        shows=(catalog.term("*"), catalog.grad("value", "*"), catalog.PHASE_REAL_AXIS_SHARE),
        per_term=True,
        families=_ANY,
    ),
    Rule(
        "real_phases",
        ("G3",),
        "Phases lost their imaginary part",
        "Every angle that the phase terms see is 0 or π, as happens when a complex tensor is cast to a real one. "
        "Such an angle has no gradient, so no phase term can move a phase.",
        {"real_axis": 0.999},
        _WITH_ENERGIES,
        (catalog.PHASE_REAL_AXIS_SHARE,),
        phases.real_phases,
        shows=(catalog.grad("norm", "*"),),
    ),
    Rule(
        "wrong_sign",
        ("G4",),
        "An energy with the wrong sign",
        "One step down this term lowers the coherence that it is named for. "
        "Its curve will look like progress while it drives the phases apart.",
        {"sign": -0.5},
        _WITH_ENERGIES,
        (catalog.energy_sign("*"),),
        gradients.wrong_sign,
        shows=(catalog.term("*"),),
        per_term=True,
    ),
    Rule(
        "unscaled_term",
        ("G5",),
        "A loss term of the wrong size",
        "This term is larger than its definition allows, as when it is summed over the width instead of averaged. "
        "It grows with the model and pulls harder than the cross-entropy, which is then hardly learned.",
        {"tolerance": 1e-3, "ratio": 2.0, "healthy_ratio": 0.1},
        _MEASURED,
        (catalog.term("*"), catalog.grad("ratio", "*")),
        gradients.unscaled_term,
        per_term=True,
    ),
    Rule(
        "lost_accumulation",
        ("G6",),
        "Accumulated gradients are lost",
        "The gradient that the micro-batches leave behind is not that of the same rows as one batch. "
        "The batch is smaller than it is said to be, and most of the data of each step is wasted.",
        {"error": 0.05, "mean_term_error": 0.5},
        _ACCUMULATED,
        (catalog.ACCUMULATION_ERROR,),
        gradients.lost_accumulation,
        families=_ANY,
    ),
    Rule(
        "frozen_blocks",
        ("G7",),
        "Blocks without gradient",
        "No parameter of these blocks gets a gradient, as when a detach stands between the blocks. "
        "They keep their random weights forever, and the run is only fast because most of the model does not learn.",
        {"blocks": 0.5},
        _MEASURED,
        (catalog.WEIGHTS_FROZEN_BLOCKS,),
        gradients.frozen_blocks,
        shows=(catalog.WEIGHTS_BLOCKS, catalog.WEIGHTS_DEAD_SHARE),
        families=_ANY,
    ),
    Rule(
        "unused_weights",
        ("G8",),
        "Weights that nothing reads",
        "A large share of the parameters gets no gradient, so the output does not depend on them. "
        "The model is smaller and simpler than its size says, often no better than a table of word pairs.",
        {"share": 0.2},
        _MEASURED,
        (catalog.WEIGHTS_DEAD_SHARE,),
        gradients.unused_weights,
        shows=(catalog.WEIGHTS_FROZEN_BLOCKS, catalog.GEOMETRY_EFFECTIVE_RANK, catalog.EVAL_CE),
        families=_ANY,
    ),
    Rule(
        "half_circle",
        ("P1",),
        "Half of the phase circle is empty",
        "The wave uses only half of the circle, as when amplitude and phase come from one projection. "
        "Opposite phases never meet, so waves can hardly cancel and interference loses half of its meaning.",
        {"coverage": 0.55, "release": 0.65, "aligned": 0.95, "dead": 0.2},
        _WITH_PHASES,
        (catalog.PHASE_COVERAGE,),
        phases.half_circle,
        shows=(catalog.PHASE_IM_RE_RATIO, catalog.PHASE_R),
    ),
    Rule(
        "aligned_phases",
        ("P2",),
        "All phases are aligned",
        "Every phase has come to stand still over the whole sequence, which is the trivial way to be coherent. "
        "Equal phases tell no token from another, so coherence costs all the information that the phases could carry.",
        {"R": 0.95, "variance": 0.05, "release": 0.9},
        _WITH_PHASES,
        (catalog.PHASE_R,),
        phases.aligned_phases,
        shows=(catalog.PHASE_DIMENSION_VARIANCE, catalog.TERM_CE),
    ),
    Rule(
        "dead_imaginary",
        ("P3", "P3b"),
        "The imaginary channel is dead",
        "Almost none of the wave's variance is left in its imaginary part. "
        "The wave is effectively a real number, and only signs are left of the phases.",
        {"ratio": 0.05, "release": 0.1},
        _WITH_PHASES,
        (catalog.PHASE_IM_RE_RATIO,),
        phases.dead_imaginary,
    ),
    Rule(
        "padding_targets",
        ("T1",),
        "Padding counts as a target",
        "Most of what the model is asked to predict is padding or one single token. "
        "The easiest solution is that token everywhere, and a falling loss will reward nothing else.",
        {"top1": 0.4, "padding": 0.05},
        _MEASURED,
        (catalog.DATA_TARGET_TOP1_SHARE, catalog.DATA_PAD_IS_TARGET),
        tokens.padding_targets,
        shows=(catalog.predicted_share("eos"), catalog.target_share("eos")),
    ),
    Rule(
        "eos_collapse",
        ("T1",),
        "Predictions collapse onto the end of the text",
        "The end of the sequence is predicted far more often than it comes. "
        "The model is learning to stop instead of to write, and its samples will be empty.",
        {"share": 0.3, "ratio": 3.0, "padding_share": 0.4, "headroom": 0.5},
        _MEASURED,
        (catalog.predicted_share("eos"), catalog.predicted_share("pad")),
        tokens.eos_collapse,
        shows=(
            catalog.target_share("eos"),
            catalog.target_share("pad"),
            catalog.TOKENS_EOS_PROBABILITY,
            catalog.DATA_PAD_IS_TARGET,
        ),
    ),
    Rule(
        "token_collapse",
        ("T2", "T2b"),
        "The model loses what it had learned",
        "Loss, gradients or predictions have left the range that this run itself had reached. "
        "Runs that end with one token everywhere begin like this, and they rarely recover by themselves.",
        {
            "ce": 0.3,
            "ce_jump": 1.0,
            "ce_worse": 0.1,
            "noise": 4.0,
            "norm_ratio": 1.8,
            "information": 0.7,
            "share": 0.3,
            "cosine": 0.15,
            "top1": 0.3,
            "top1_calm": 0.15,
            "wait": 30,
        },
        _MEASURED,
        (
            catalog.TERM_CE,
            catalog.TRAIN_GRAD_NORM,
            catalog.TOKENS_MUTUAL_INFORMATION,
            catalog.TOKENS_TOP1_SHARE,
            catalog.GEOMETRY_MEAN_COSINE,
        ),
        collapse.token_collapse,
        shows=(catalog.TOKENS_TARGET_TOP1_SHARE, catalog.TOKENS_COVERAGE, catalog.TRAIN_LR, catalog.grad("cos", "*")),
    ),
    Rule(
        "harmful_term",
        ("T2",),
        "A loss term works against the loss",
        "This term's gradient points against the cross-entropy with comparable force, or drowns it altogether. "
        "Every step that it wins makes the predictions worse, and a collapse follows once it wins most of them.",
        {
            "cosine": -0.5,
            "against_ratio": 0.5,
            "ratio": 2.0,
            "healthy_ratio": 0.1,
            "measurements": 2,
            "turned_cosine": -0.25,
            "turned_ratio": 0.25,
            "turned_growth": 2.0,
        },
        _MEASURED,
        (catalog.grad("ratio", "*"), catalog.hidden("ratio", "*")),
        gradients.harmful_term,
        shows=(catalog.grad("cos", "*"), catalog.hidden("cos", "*"), catalog.term("*")),
        per_term=True,
    ),
    Rule(
        "context_ignored",
        ("T3",),
        "The context is ignored",
        "What came before a token has no influence on what is predicted after it. "
        "Such a model can learn token frequencies at best, and no amount of training brings it below them.",
        {"response": 1e-5, "row_variance": 1e-9},
        _MEASURED,
        (catalog.CAUSALITY_CONTEXT_RESPONSE, catalog.TOKENS_ROW_VARIANCE),
        leaks.context_ignored,
        shows=(catalog.TOKENS_MUTUAL_INFORMATION, catalog.EVAL_CE),
    ),
    Rule(
        "repetition",
        ("T4",),
        "Samples repeat themselves while the loss falls",
        "Free-running samples loop although the teacher-forced loss keeps improving, and that loss is still worse than "
        "a table of token pairs. The model has learned which tokens are common, not how they follow one another.",
        {"repetition": 0.5, "margin": 0.02, "improved": 0.2, "lr_sum": 0.15},
        _MEASURED,
        (catalog.GENERATION_REPETITION, catalog.EVAL_CE),
        leaks.repetition,
        shows=(catalog.GENERATION_DISTINCT_2, catalog.OPTIM_LR_SUM),
    ),
    Rule(
        "averaging_collapse",
        ("V1",),
        "Frames average into one",
        "Frames of generated clips are far nearer to each other than the data's, so nothing moves and edges blur. "
        "Where all frames share their noise, nothing random is left to select the motion, whatever the path's weights.",
        {
            "divergence": 0.5,
            "release": 0.65,
            "overshoot": 1.5,
            "likeness": 0.5,
            "motion": 0.5,
            "shared": _SHARED,
            "noise": _NOISE,
            "mismatch": _MISMATCH,
            "error": _VELOCITY,
        },
        _VIDEO,
        (catalog.frames("generated", "divergence"),),
        video.averaging_collapse,
        shows=(
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "*"),
            catalog.frames("denoised", "*"),
            catalog.FLOW_NOISE_CORRELATION,
            catalog.FLOW_SAMPLE_NOISE_CORRELATION,
            catalog.FLOW_VELOCITY_ERROR,
            catalog.EVAL_FLOW,
        ),
        families=_CLIPS,
    ),
    Rule(
        "data_not_model",
        ("V2",),
        "The data are measured in place of the model",
        "What is said of the model's clips is bit for bit what the data measure, or never changes. "
        "A curve that no training can move looks perfect from the first step, and says nothing about the model.",
        {"measures": 3},
        _VIDEO,
        (catalog.frames("denoised", "divergence"), catalog.frames("generated", "divergence")),
        video.data_not_model,
        shows=(catalog.frames("denoised", "*"), catalog.frames("data", "*"), catalog.frames("generated", "*")),
        families=_CLIPS,
    ),
    Rule(
        "wrong_velocity",
        ("V3",),
        "The velocity is not that of the path",
        "The model is trained on a velocity that is not the derivative of its path, as when weights are normalised and "
        "their derivatives are not. Samples then miss the data, with an amplitude that looks like diversity.",
        {"error": _VELOCITY},
        _VIDEO,
        (catalog.FLOW_VELOCITY_ERROR,),
        video.wrong_velocity,
        shows=(catalog.frames("generated", "std_ratio"), catalog.EVAL_FLOW),
        families=_CLIPS,
    ),
    Rule(
        "flicker",
        ("V4",),
        "Clips flicker instead of moving",
        "A movement in generated clips does not continue from one frame to the next, and more changes than in the "
        "data. "
        "Pushing frames apart raises every distance between them, without creating motion.",
        {
            "coherence": -0.1,
            "data": 0.2,
            "change": 1.2,
            "still": 0.5,
            "falls": 0.85,
            "rises": 0.1,
            "noise": _NOISE,
            "mismatch": _MISMATCH,
            "error": _VELOCITY,
        },
        _FLICKER,
        (catalog.frames("generated", "coherence"),),
        video.flicker,
        shows=(
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "*"),
            catalog.FLOW_NOISE_CORRELATION,
            catalog.FLOW_SAMPLE_NOISE_CORRELATION,
            catalog.FLOW_VELOCITY_ERROR,
        ),
        families=_CLIPS,
    ),
    Rule(
        "frames_unordered",
        ("V5",),
        "The model does not know the order of frames",
        "Shuffling the frames of a clip shuffles the velocity and changes nothing else, or next to nothing. "
        "Without an embedding of their place frames cannot follow one another; with shared noise they are identical.",
        {"response": 0.003},
        _VIDEO,
        (catalog.FLOW_POSITION_RESPONSE,),
        video.frames_unordered,
        shows=(catalog.frames("generated", "coherence"),),
        families=_CLIPS,
    ),
    Rule(
        "noise_mismatch",
        ("V6",),
        "Sampled with other noise than trained with",
        "Frames share another part of their noise when clips are drawn than when the model is trained. "
        "The model meets noise that it has never seen: with less in common clips blow up, with more they freeze.",
        {"mismatch": _MISMATCH},
        _VIDEO,
        (catalog.FLOW_SAMPLE_NOISE_CORRELATION,),
        video.noise_mismatch,
        shows=(
            catalog.FLOW_NOISE_CORRELATION,
            catalog.frames("generated", "*"),
            catalog.frames("held_out", "*"),
            catalog.frames("data", "divergence"),
        ),
        families=_CLIPS,
    ),
    *data.DATA_RULES,
    Rule(
        "batch_dependence",
        ("B1",),
        "Rows depend on their batch mates",
        "A row's output changes when the other rows of its batch are replaced. "
        "Evaluation then depends on which rows share a batch, and generation, one row alone, meets a model never "
        "trained.",
        {"change": 1e-4},
        _MEASURED,
        (catalog.BATCH_DEPENDENCE,),
        leaks.batch_dependence,
    ),
    Rule(
        "unshifted_labels",
        ("B2",),
        "The labels are not shifted",
        "The model is asked for the token that it has just been given. "
        "A perfect loss is reached by copying, and nothing about language is learned.",
        {"same": 0.9, "copied": 0.9, "gap": 1.0, "follows": 0.25, "padding": 0.4},
        _MEASURED,
        (catalog.SHIFT_TARGETS_ARE_INPUTS, catalog.SHIFT_COPY_RATE),
        leaks.unshifted_labels,
        shows=(catalog.SHIFT_CE_HERE, catalog.SHIFT_CE_NEXT, catalog.TERM_CE, catalog.DATA_TARGET_TOP1_SHARE),
    ),
    Rule(
        "stuck",
        (),
        "The run cannot leave the plateau",
        "The learning rates of all steps together are too small to get beyond the frequencies of tokens, or have been "
        "large enough without doing so. The loss will settle where the context is not used.",
        {
            "planned": 0.05,
            "spent": 0.1,
            "information": 0.3,
            "share": 0.3,
            "enough": 0.2,
            "good_rate": 3e-3,
        },
        _MEASURED,
        (catalog.OPTIM_PLANNED_LR_SUM, catalog.TOKENS_MUTUAL_INFORMATION),
        tokens.stuck,
        shows=(catalog.OPTIM_LR_SUM, catalog.TERM_CE, catalog.TRAIN_LR),
    ),
    Rule(
        "rank_collapse",
        ("R1",),
        "Hidden states share one direction",
        "All tokens have nearly the same hidden state, as in a stack without residual connections. "
        "The output cannot tell tokens apart, and the gradient that could change that is tiny.",
        {
            "cosine": 0.5,
            "cosine_alone": 0.8,
            "rank": 0.3,
            "cosine_later": 0.9,
            "rank_later": 0.1,
            "release": 0.4,
            "repeated": 0.4,
        },
        _MEASURED,
        (catalog.GEOMETRY_MEAN_COSINE,),
        phases.rank_collapse,
        shows=(catalog.GEOMETRY_EFFECTIVE_RANK, catalog.DATA_TARGET_TOP1_SHARE),
    ),
    Rule(
        "nonfinite",
        ("N1",),
        "A number is not finite",
        "A term of the loss or a gradient became NaN or infinite, and the run stopped before the optimizer stepped. "
        "One such step would have made every weight NaN, so the weights are still the last good ones.",
        {"steps": 10},
        _MEASURED,
        (catalog.TRAIN_LOSS,),
        tokens.nonfinite,
        shows=(catalog.TRAIN_GRAD_NORM, catalog.TRAIN_LR),
        families=_ANY,
    ),
)
"""Every rule, in the order of the fault bank."""
