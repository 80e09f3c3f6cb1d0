"""Rules about the curves that every run has: losses, gradient norm, rate, and whether they are numbers at all."""

from __future__ import annotations

from qcore.detect import held_out, rates, spikes, unmeasured
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

_LOSS = (catalog.TRAIN_LOSS, catalog.TERM_CE, catalog.TERM_FLOW)
_HELD_OUT = (catalog.EVAL_CE, catalog.EVAL_FLOW)
_STEPS = (catalog.TRAIN_LOSS, catalog.TRAIN_GRAD_NORM, catalog.TRAIN_LR)

RULES: tuple[Rule, ...] = (
    Rule(
        "below_entropy",
        ("H6",),
        "A training loss that no honest one could be",
        "The loss on training batches is under what the generator of the text itself scores, before any of it can "
        "have been memorised. The target is among the inputs, in training at least, whatever a probe of the model in "
        "evaluation says.",
        {"first_pass": 0.8, "later": 0.5, "passes": 3.0, "errors": 4.0},
        ZOO,
        (catalog.EVAL_CE,),
        held_out.below_entropy,
        shows=(*_LOSS, catalog.SHIFT_TARGETS_ARE_INPUTS, catalog.DATA_PAD_IS_TARGET),
        past="The training loss was under what the text allows",
    ),
    Rule(
        "gap_at_once",
        ("H6",),
        "Training is far below held-out data from the start",
        "On the first pass over the data a training loss estimates the loss on new text as honestly as the held-out "
        "loss does, so the two must agree. Where they do not, batches come again, the answer is among the inputs of "
        "training, or held-out data are scored otherwise.",
        {"gap": 1.0, "share": 0.4, "errors": 8.0, "passes": 1.0, "moved": 0.85},
        ZOO,
        _HELD_OUT,
        held_out.gap_at_once,
        shows=(*_LOSS, catalog.SHIFT_TARGETS_ARE_INPUTS, catalog.DATA_PAD_IS_TARGET),
        families=ANY_FAMILY,
        past="Training was far below held-out data from the start",
        role="symptom",
        explained_by=EXPLAINED_BY["gap_at_once"],
    ),
    Rule(
        "loss_scale",
        (),
        "The loss counts micro-batches",
        "The loss of the first step is a multiple of the loss before it, by just the number of micro-batches that are "
        "accumulated. It is summed where it should be averaged, or divided twice, and so may be the gradient.",
        {"off": 0.15},
        ZOO,
        _HELD_OUT,
        held_out.loss_scale,
        shows=_LOSS,
        families=ANY_FAMILY,
        past="The loss counted micro-batches",
        grade="weak",
    ),
    Rule(
        "first_loss",
        (),
        "The loss starts far above a uniform guess",
        "Before its first update a model knows nothing, and should score near ln V. Outputs that start too large are "
        "sure of what is wrong, and the first part of training only unlearns that.",
        {"times": 1.5, "more": 1.0},
        ZOO,
        (catalog.EVAL_CE, catalog.OPTIM_PLANNED_LR_SUM),
        held_out.first_loss,
        shows=_LOSS,
        past="The loss started far above a uniform guess",
        grade="weak",
    ),
    Rule(
        "overfit",
        ("H1",),
        "The model memorises its training data",
        "The held-out loss rises from its lowest while the training loss goes on falling. From that step on the model "
        "learns the training data by heart, and new text ever worse.",
        {"rise": 0.05, "rise_share": 0.02, "noise": 4.0, "fall_share": 0.02, "passes": 1.5},
        ZOO,
        _HELD_OUT,
        held_out.overfit,
        shows=(*_LOSS, catalog.GENERATION_COPIED, catalog.GENERATION_COPIED_HELD_OUT),
        families=ANY_FAMILY,
        past="The model memorised its training data",
        grade="weak",
    ),
    Rule(
        "worse_than_uniform",
        (),
        "Held-out data are predicted worse than by guessing",
        "After its warm-up the model scores worse on held-out text than one that gives every token the same "
        "probability. It is sure of what is wrong: it memorises, is trained on other targets, or is evaluated "
        "otherwise than it is trained.",
        {"margin": 0.03, "falls": 0.02, "steps": 50},
        ZOO,
        (catalog.EVAL_CE,),
        held_out.worse_than_uniform,
        shows=_LOSS,
        past="Held-out data were predicted worse than by guessing",
        role="symptom",
        explained_by=EXPLAINED_BY["worse_than_uniform"],
    ),
    Rule(
        "worse_than_unigram",
        (),
        "The loss lies still at token frequencies",
        "The held-out loss has stopped at what the frequencies of tokens alone score, although the text has more to "
        "give. Nothing of the context reaches the prediction.",
        {"room": 0.3, "near": 0.05, "falls": 0.01, "steps": 150, "share": 0.3, "rates": 0.1},
        ZOO,
        (catalog.EVAL_CE,),
        held_out.worse_than_unigram,
        shows=(*_LOSS, catalog.OPTIM_LR_SUM),
        past="The loss lay still at token frequencies",
        role="symptom",
        grade="weak",
        explained_by=EXPLAINED_BY["worse_than_unigram"],
    ),
    Rule(
        "loss_spike",
        ("H2",),
        "The loss leaves its range for some steps",
        "The training loss of a few steps lies many median deviations above what is usual. An odd batch ends as "
        "abruptly as it began; a spike of the model fades, and what had left its range before it says where it came "
        "from.",
        {"deviations": 10.0, "least": 0.5, "share": 0.25, "clear": 50, "longest": 60},
        ZOO,
        _LOSS,
        spikes.loss_spike,
        shows=(*_HELD_OUT, catalog.TRAIN_GRAD_NORM, catalog.TRAIN_LR),
        families=ANY_FAMILY,
        past="The loss left its range for some steps",
        role="symptom",
        grade="note",
        explained_by=EXPLAINED_BY["loss_spike"],
    ),
    Rule(
        "divergence",
        (),
        "The loss rises and stays up",
        "The training loss stands far above the lowest that this run had reached, for many steps, and held-out data "
        "agree. What had been learned is lost, mostly to a rate that is too high.",
        {
            "rise": 1.0,
            "share": 0.5,
            "noise": 8.0,
            "blocks": 5,
            "blocks_alone": 20,
            "patience": 100,
            "follows": 0.3,
        },
        ZOO,
        _LOSS,
        spikes.divergence,
        shows=(*_HELD_OUT, catalog.TRAIN_GRAD_NORM, catalog.TRAIN_LR),
        families=ANY_FAMILY,
        past="The loss rose and stayed up",
        role="symptom",
        explained_by=EXPLAINED_BY["divergence"],
    ),
    Rule(
        "resume_jump",
        (),
        "The loss jumps where the run was taken up again",
        "The first losses after a resume lie far above the last ones before it, with the same weights. The state of "
        "the optimizer, the schedule or the place in the data was not taken along.",
        {"deviations": 6.0, "least": 0.3, "share": 0.15},
        ZOO,
        _LOSS,
        spikes.resume_jump,
        shows=(catalog.TRAIN_LR,),
        families=ANY_FAMILY,
        past="The loss jumped where the run was taken up again",
        grade="weak",
    ),
    Rule(
        "rate_zero_early",
        ("H3",),
        "The learning rate is zero long before the end",
        "The rate has fallen to nothing with much of the planned run ahead, as when a schedule is counted in other "
        "steps than the run is. The remaining steps cost time and change nothing.",
        {"steps": 20, "share": 0.05, "share_alone": 0.2, "left": 0.1},
        ZOO,
        (catalog.TRAIN_LR,),
        rates.rate_zero_early,
        families=ANY_FAMILY,
        past="The learning rate was zero long before the end",
        grade="weak",
    ),
    Rule(
        "missing_warmup",
        (),
        "The first updates were made at the full rate",
        "The loss rose far above where it began, within the first steps and at a rate that was full from the first. A "
        "warm-up avoids that.",
        {"steps": 40, "rise": 1.5, "share": 0.25, "full": 0.9},
        ZOO,
        _LOSS,
        rates.missing_warmup,
        shows=(catalog.TRAIN_LR,),
        families=ANY_FAMILY,
        past="The first updates were made at the full rate",
        grade="note",
    ),
    Rule(
        "nonfinite_series",
        ("H4",),
        "A measured series is not finite",
        "A number that is measured is NaN or infinite, or has stopped coming while others go on. No other rule can "
        "judge it, and a chart only has a gap there.",
        {"norms": 5, "others": 2, "silent": 20, "times": 5},
        ZOO,
        (catalog.TRAIN_LR, catalog.TRAIN_GRAD_NORM),
        unmeasured.nonfinite_series,
        shows=(*_STEPS, *_HELD_OUT, catalog.term("*"), catalog.grad("norm", "*")),
        families=ANY_FAMILY,
        past="A measured series was not finite",
        reads_nonfinite=True,
    ),
    Rule(
        "probe_failed",
        (),
        "A measurement failed",
        "A probe threw an error and was switched off, so what it measures is not known any more. Training is not "
        "affected, but rules that read its series are silent.",
        {"failures": 0},
        ZOO,
        (catalog.OPTIM_LR_SUM,),
        unmeasured.probe_failed,
        families=ANY_FAMILY,
        past="A measurement failed",
        grade="note",
    ),
)
