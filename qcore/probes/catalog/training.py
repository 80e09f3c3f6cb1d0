"""Series of every run: the loss and its terms, gradients, weights, learning rates, and what measuring costs."""

from __future__ import annotations

from qcore.base.words import name_words
from qcore.probes.catalog.declare import Declared, group, pattern, series
from qcore.probes.catalog.units import MEAN_SQUARE, MS, RATIO, SHARE, SUM_OF_RATES, TOKEN_NATS

TERM = group("term", "terms of the loss")
TRAIN = group("train", "training")
EVAL = group("eval", "held-out data")
GRAD = group("grad", "gradients of the terms")
HIDDEN = group("hidden", "gradients at the last hidden state")
GEOMETRY = group("geometry", "hidden states")
WEIGHTS = group("weights", "weights")
OPTIM = group("optim", "learning rates")
ACCUMULATION = group("accumulation", "accumulation")
CONTROL = group("control", "controls")
COST = group("cost", "cost of the measurements")

TRAIN_LOSS = series(
    "train/loss",
    "total loss",
    "weighted sum of the terms",
    "What the optimizer minimises: the sum of all terms, each times its weight.",
    short="Loss",
)
TRAIN_LR = series(
    "train/lr",
    "learning rate",
    "a step",
    "Learning rate of the update, schedule included.",
    short="Learning rate",
)
TRAIN_GRAD_NORM = series(
    "train/grad_norm",
    "gradient norm before clipping",
    "L2",
    "Length of the gradient over all parameters, before it is clipped.",
    short="Gradient norm",
)
TRAIN_STEP_MS = series("train/step_ms", "step time", MS, "Time of one update, without measurements.", short="Step time")
TRAIN_TOKENS_PER_SECOND = series(
    "train/tokens_per_second",
    "speed",
    "tokens per second",
    "Real target tokens trained on in a second, running mean.",
    short="Tokens/s",
    needs="text",
)
TRAIN_FRAMES_PER_SECOND = series(
    "train/frames_per_second",
    "speed",
    "frames per second",
    "Frames trained on in a second, running mean.",
    short="Frames/s",
    needs="frames",
)
TRAIN_MEMORY_MB = series(
    "train/memory_mb",
    "memory of the trainer",
    "MB",
    "Resident set of the trainer's process; on CUDA the most that was allocated so far.",
    short="Memory",
)
EVAL_CE = series(
    "eval/ce",
    "cross-entropy, held out",
    TOKEN_NATS,
    "Cross-entropy on text never trained on, teacher-forced, over the same tokens every time.",
    short="Held out",
    needs="text",
)
EVAL_FLOW = series(
    "eval/flow",
    "flow loss, held out",
    MEAN_SQUARE,
    "Mean squared error of the velocity on clips never trained on, with the same draws every time.",
    short="Held out",
    needs="frames",
)
GEOMETRY_MEAN_COSINE = series(
    "geometry/mean_cosine",
    "mean cosine of the hidden states",
    "cosine",
    "How alike the hidden states of all positions are; at 1 every position looks the same.",
    short="Mean cosine",
    form=".3f",
    needs="hidden",
)
GEOMETRY_EFFECTIVE_RANK = series(
    "geometry/effective_rank",
    "effective rank of the hidden states",
    "share of the width",
    "Share of the width that the hidden states really use.",
    short="Effective rank",
    form=".0%",
    needs="hidden",
)
WEIGHTS_DEAD_SHARE = series(
    "weights/dead_share",
    "weights without gradient",
    SHARE,
    "Share of all weights whose gradient is exactly 0; rows of a table that were not looked up do not count.",
    form=".1%",
    needs="weights",
)
WEIGHTS_FROZEN_BLOCKS = series(
    "weights/frozen_blocks",
    "blocks without gradient",
    "blocks",
    "Layers in which no weight got a gradient.",
    form=",.0f",
    needs="weights",
)
WEIGHTS_BLOCKS = series(
    "weights/blocks", "blocks", "blocks", "Layers that the model has.", form=",.0f", needs="weights"
)
WEIGHTS_UPDATE_RATIO = series(
    "weights/update_ratio",
    "size of an update ÷ size of the weights",
    RATIO,
    "How far one update moves the weights of a module, relative to their size; the median over the modules.",
    needs="weights",
)
ACCUMULATION_ERROR = series(
    "accumulation/error",
    "error of the accumulated gradient",
    "relative",
    "Accumulated gradient against that of all its micro-batches at once; 0 but for rounding when both are the same.",
    needs="text",
)
OPTIM_LR_SUM = series(
    "optim/lr_sum",
    "sum of the learning rates so far",
    SUM_OF_RATES,
    "How much learning the schedule has allowed so far.",
)
OPTIM_PLANNED_LR_SUM = series(
    "optim/planned_lr_sum",
    "sum of the planned learning rates",
    SUM_OF_RATES,
    "How much learning the schedule allows over the whole run.",
)
COST_TOTAL_PERCENT = series(
    "cost/total_percent",
    "planned cost of all measurements",
    "% of training time",
    "Cost of all probes together at the current cadence, from their running means.",
)
COST_SPENT_PERCENT = series(
    "cost/spent_percent",
    "cost of all measurements",
    "% of training time",
    "Time actually spent on measurements since training began, relative to the time of the steps; the looks before the "
    "first update and after the last one, at which everything is measured once, have series of their own.",
)
COST_EVAL_MS = series("cost/eval_ms", "cost of the evaluation", MS, "Time of the last evaluation on held-out data.")
COST_PROBES_RUN = series(
    "cost/probes_run",
    "measurements taken",
    "count",
    "Which probes ran at a step, one bit for each in the order of the run's list; a replay takes the same ones.",
)
COST_MEASURES = series(
    "cost/measures",
    "version of the measurements",
    "number",
    "Which measurements the program knew that trained the run from this step on; a replay does not miss later ones.",
)
COST_BEFORE_TRAINING_MS = series(
    "cost/before_training_ms",
    "cost of the checks before training",
    MS,
    "Time that measuring everything once before the first update took.",
)
COST_AFTER_TRAINING_MS = series(
    "cost/after_training_ms",
    "cost of the last look",
    MS,
    "Time that measuring everything once after the last update took.",
)

_TERMS = {
    "ce": ("cross-entropy, training", TOKEN_NATS),
    "flow": ("flow loss, training", MEAN_SQUARE),
    "z_loss": ("z loss, unweighted", "squared nats"),
}
_OF_A_TERM = {
    "norm": ("gradient norm of {0}", "L2, unweighted", "Length of the gradient of the unweighted term."),
    "ratio": (
        "pull of {0} ÷ the main loss",
        RATIO,
        "Gradient norm of the weighted term relative to that of the main loss: near 1 it pulls as hard.",
    ),
    "cos": (
        "direction of {0} against the main loss",
        "cosine",
        "Cosine between the gradient of the term and that of the main loss: below 0 they work against each other.",
    ),
    "value": ("{0} where its gradient was measured", "unweighted", "The term on the few rows of its gradient."),
}


def term(name: str) -> str:
    """The value of a term of the loss, unweighted: `term/<name>`."""
    return f"term/{name}"


def grad(kind: str, name: str) -> str:
    """`norm`, `ratio`, `cos` or `value` of a term's gradient over all weights: `grad/<kind>/<term>`."""
    return f"grad/{kind}/{name}"


def hidden(kind: str, name: str) -> str:
    """The same at the last hidden state: `hidden/<kind>/<term>`."""
    return f"hidden/{kind}/{name}"


def control(name: str) -> str:
    """A control as it was set, over the steps: `control/<name>`."""
    return f"control/{name}"


def cost_ms(probe: str) -> str:
    """Running mean of the time of one measurement: `cost/<probe>_ms`."""
    return f"cost/{probe}_ms"


def cost_ran(probe: str) -> str:
    """1 at each step at which a probe from outside ran: `cost/<probe>_ran`."""
    return f"cost/{probe}_ran"


def probe_of_run_count(name: str) -> str:
    """Whose runs a series `cost/<probe>_ran` counts; "" for every other series."""
    first, _, rest = name.partition("/")
    return rest.removesuffix("_ran") if first == COST and rest.endswith("_ran") else ""


def probe_of(name: str) -> str:
    """Whose time a series `cost/<probe>_ms` is; "" for every other series."""
    first, _, rest = name.partition("/")
    return rest.removesuffix("_ms") if first == COST and rest.endswith("_ms") else ""


def cost_every(probe: str) -> str:
    """Steps between two measurements as they are taken: `cost/<probe>_every`."""
    return f"cost/{probe}_every"


TERM_CE, TERM_FLOW = term("ce"), term("flow")


def _term(name: str) -> Declared:
    title, unit = _TERMS.get(name, (f"{name_words(name)}, unweighted", "value of the term"))
    return Declared(term(name), title, unit, "Value of this part of the loss at the update, before its weight.")


def _pull_words(place: str, kind: str, name: str) -> Declared:
    title, unit, meaning = _OF_A_TERM[kind]
    where = " at the last hidden state" if place == HIDDEN else ""
    shown = {"ce": "cross-entropy", "flow": "flow loss"}.get(name, name_words(name))
    return Declared("", title.format(shown) + where, unit, meaning, needs="terms")


pattern(r"term/(.+)", _term, "term/<term>")
pattern(
    r"(grad|hidden)/(norm|ratio|cos|value)/(.+)",
    _pull_words,
    *(f"{place}/{kind}/<term>" for place in (GRAD, HIDDEN) for kind in _OF_A_TERM),
)
pattern(
    r"control/(.+)",
    lambda name: Declared(
        "", f"{name_words(name)}, as set", "value of the control", "Value of the control at the step, whoever set it."
    ),
    "control/<control>",
)
pattern(
    r"cost/(.+)_ms",
    lambda probe: Declared(
        "", f"cost of measuring {name_words(probe)}", MS, "Running mean of the time of one measurement."
    ),
    "cost/<probe>_ms",
)
pattern(
    r"cost/(.+)_every",
    lambda probe: Declared(
        "",
        f"steps between measurements of {name_words(probe)}",
        "steps",
        "Current cadence: as requested, or stretched to stay within the budget.",
    ),
    "cost/<probe>_every",
)
pattern(
    r"weights/update_ratio/(.+)",
    lambda module: Declared(
        "", f"update ÷ weights of {module}", RATIO, "How far one update moved this module.", needs="weights"
    ),
    "weights/update_ratio/<module>",
)
pattern(
    r"cost/(.+)_ran",
    lambda probe: Declared("", f"steps at which {name_words(probe)} was measured", "1 each", "1 where the probe ran."),
    "cost/<probe>_ran",
)
