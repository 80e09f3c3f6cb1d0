"""Series of what single kinds of models have: phases, interference, memory, discs, widths, concepts, experts."""

from __future__ import annotations

from qcore.base.words import name_words
from qcore.probes.catalog.declare import Declared, group, pattern, series
from qcore.probes.catalog.units import COSINE, RATIO, SHARE, UNIT_INTERVAL

PHASE = group("phase", "phases")
ENERGY = group("energy", "energies")
INTERFERENCE = group("interference", "interference")
PAM = group("pam", "phase-associative memory")
FLUX = group("flux", "flux")
WIDTH = group("width", "widths")
LANGUAGE = group("language", "languages")
CONCEPT = group("concept", "concepts")
MOE = group("moe", "experts")

PHASE_R = series(
    "phase/R",
    "order parameter R of the phases",
    UNIT_INTERVAL,
    "Order parameter, mean over the layers: 1 when all positions share their phases.",
    short="R",
    form=".3f",
    needs="phases",
)
PHASE_COVERAGE = series(
    "phase/coverage",
    "share of the phase circle in use",
    SHARE,
    "Share of the circle's 36 sectors that the wave uses; where amplitude and phase have one sign, half of it.",
    short="Coverage",
    form=".0%",
    needs="phases",
)
PHASE_IM_RE_RATIO = series(
    "phase/im_re_ratio",
    "imaginary ÷ real variance",
    RATIO,
    "Variance of the imaginary over that of the real channel: 1 when both carry as much.",
    short="Im ÷ Re",
    form=".3g",
    needs="phases",
)
PHASE_DIMENSION_VARIANCE = series(
    "phase/dimension_variance",
    "least circular variance of the phases",
    UNIT_INTERVAL,
    "Circular variance of the phases over all rows and positions, in the layer where it is "
    "smallest; near 0 every token has the same phases.",
    short="Least variance",
    form=".3f",
    needs="phases",
)
PHASE_SEMANTIC_COHERENCE = series(
    "phase/semantic_coherence",
    "phase agreement of similar tokens",
    "−1 to 1",
    "How far similar tokens agree in phase: 1 the same, 0 independent.",
    short="Semantic",
    form=".3f",
    needs="phases",
)
PHASE_REAL_AXIS_SHARE = series(
    "phase/real_axis_share",
    "share of the phases on the real axis",
    SHARE,
    "Share of the angles that the loss terms see as 0 or π only; above 0 the imaginary part was lost.",
    short="On the real axis",
    form=".1%",
    needs="phases",
)
INTERFERENCE_CONSTRUCTIVE = series(
    "interference/constructive",
    "constructive share of the weights",
    SHARE,
    "Share of the weights with which positions add to one another.",
    form=".0%",
    needs="text",
)
INTERFERENCE_DESTRUCTIVE = series(
    "interference/destructive",
    "destructive share of the weights",
    SHARE,
    "Share of the weights with which positions cancel one another.",
    form=".0%",
    needs="text",
)
INTERFERENCE_PARTICIPATION = series(
    "interference/participation",
    "share of the past that is read",
    SHARE,
    "Effective number of positions that are read, of those that can be seen.",
    form=".0%",
    needs="text",
)
INTERFERENCE_ENTROPY = series(
    "interference/entropy",
    "entropy of the weights ÷ its largest value",
    RATIO,
    "1 when all of the past counts alike, 0 when one position counts alone.",
    form=".2f",
    needs="text",
)
PAM_DECAY_LOW = series(
    "pam/decay_low",
    "fastest decay γ",
    UNIT_INTERVAL,
    "Below this are 5 % of all decays: what is forgotten immediately.",
    short="Fastest γ",
    form=".3f",
    needs="text",
)
PAM_DECAY_MEAN = series(
    "pam/decay_mean",
    "mean decay γ",
    UNIT_INTERVAL,
    "Mean share of the memory that one token leaves standing.",
    short="Decay γ",
    form=".3f",
    needs="text",
)
PAM_DECAY_HIGH = series(
    "pam/decay_high",
    "slowest decay γ",
    UNIT_INTERVAL,
    "Above this are 5 % of all decays: what is remembered longest.",
    short="Slowest γ",
    form=".4f",
    needs="text",
)
PAM_MEMORY = series(
    "pam/memory",
    "mean memory",
    "tokens",
    "Mean of 1/(1−γ): how many tokens back a memory reaches.",
    short="Memory",
    form=",.0f",
    needs="text",
)
PAM_STATE_RANK = series(
    "pam/state_rank",
    "directions of the state in use",
    SHARE,
    "Effective number of the final state's directions, of all of them.",
    short="State in use",
    form=".0%",
    needs="text",
)
PAM_IM_RE_RATIO = series(
    "pam/im_re_ratio",
    "imaginary ÷ real variance of the reads",
    RATIO,
    "Variance of the imaginary over that of the real part of what is read.",
    short="Im ÷ Re",
    form=".3g",
    needs="text",
)
FLUX_THRESHOLD_MEAN = series(
    "flux/threshold_mean",
    "mean threshold",
    UNIT_INTERVAL,
    "Mean of μ + c·σ of the likeness to the past; likeness is 0 to 1.",
    short="Threshold",
    form=".3f",
    needs="text",
)
FLUX_STRENGTH = series(
    "flux/strength",
    "strength of the connections",
    "mean weight",
    "Mean weight of all connections of a token with its past, 0 to 1.",
    short="Strength",
    form=".3f",
    needs="text",
)
FLUX_SKIP = series(
    "flux/skip",
    "skip around the flow, mean",
    UNIT_INTERVAL,
    "Share of a state that goes past the flow unchanged.",
    short="Skip",
    form=".3f",
    needs="text",
)
FLUX_RADIUS_MEAN = series(
    "flux/radius_mean",
    "mean radius of the states",
    UNIT_INTERVAL,
    "Mean radius of the states after the layers, at most 1.",
    short="Radius",
    form=".3f",
    needs="text",
)
FLUX_KEPT_SHARE = series(
    "flux/kept_share",
    "share of the past that is kept",
    SHARE,
    "Share of its past that a token resembles more than its threshold.",
    short="Kept",
    form=".0%",
    needs="text",
)
FLUX_DT_MEAN = series(
    "flux/dt_mean",
    "mean step of the flow",
    "time",
    "Mean step of the flow, 0 to 1: how far states move in a layer.",
    short="dt",
    form=".3f",
    needs="text",
)
WIDTH_SHARE_1 = series(
    "width/share_1",
    "share of width D",
    SHARE,
    "How much the narrowest width is chosen, mean over tokens and layers.",
    short="D",
    form=".0%",
    needs="text",
)
WIDTH_SHARE_1_5 = series(
    "width/share_1_5",
    "share of width 1.5 D",
    SHARE,
    "How much the middle width is chosen, mean over tokens and layers.",
    short="1.5 D",
    form=".0%",
    needs="text",
)
WIDTH_SHARE_2_25 = series(
    "width/share_2_25",
    "share of width 2.25 D",
    SHARE,
    "How much the widest width is chosen, mean over tokens and layers.",
    short="2.25 D",
    form=".0%",
    needs="text",
)
WIDTH_MEAN = series(
    "width/mean", "mean width", "× D", "Mean of the chosen widths, 1 to 2.25.", form=".2f", needs="text"
)
WIDTH_MFLOP = series(
    "width/mflop",
    "operations of the chosen widths",
    "10⁶ per token",
    "What the chosen widths stand for in one token's forward pass; the soft mixture itself computes the widest.",
    form=".2f",
    needs="text",
)
LANGUAGE_CERTAINTY = series(
    "language/certainty",
    "certainty of the language",
    "largest share",
    "Mean of the largest share: 1 when the gate is sure of one language everywhere.",
    form=".2f",
    needs="text",
)
CONCEPT_ALIGNMENT = series(
    "concept/alignment",
    "translations that share a concept",
    "share of pairs",
    "Share of translation pairs whose most likely concept is the same.",
    short="Same concept",
    form=".0%",
    needs="text",
)
CONCEPT_ALIGNMENT_CHANCE = series(
    "concept/alignment_chance",
    "translations that share a concept by chance",
    "share of pairs",
    "The same share when the words are paired at random.",
    short="By chance",
    form=".0%",
    needs="text",
)
CONCEPT_ALIGNMENT_ERROR = series(
    "concept/alignment_error",
    "standard error of sharing by chance",
    "share of pairs",
    "Standard deviation of that share over all ways to pair the words.",
    form=".1%",
    needs="text",
)
CONCEPT_ALIGNMENT_Z = series(
    "concept/alignment_z",
    "sharing of concepts above chance",
    "standard errors",
    "How many standard errors it lies above chance; above 3 it is significant.",
    short="Above chance",
    form=".1f",
    needs="text",
)
CONCEPT_COSINE = series(
    "concept/cosine",
    "likeness of translations",
    COSINE,
    "Mean cosine of the concept distributions of two translations.",
    short="Cosine",
    form=".2f",
    needs="text",
)
CONCEPT_COSINE_CHANCE = series(
    "concept/cosine_chance",
    "likeness of any two words",
    COSINE,
    "The same for any English word with any foreign one.",
    short="Any two words",
    form=".2f",
    needs="text",
)
CONCEPT_USAGE = series(
    "concept/usage",
    "concepts in use",
    SHARE,
    "Effective number of concepts in use, of all; near 0 one concept means all.",
    short="In use",
    form=".0%",
    needs="text",
)
CONCEPT_SHARPNESS = series(
    "concept/sharpness",
    "sharpness of the concepts",
    UNIT_INTERVAL,
    "1: every word has one concept; 0: every word has all of them.",
    short="Sharpness",
    form=".2f",
    needs="text",
)
MOE_LOAD_MAX = series(
    "moe/load_max",
    "largest load of an expert",
    "÷ even load",
    "The busiest expert's load over the even one, mean over the layers: 1 is balanced.",
    form=".2f",
    needs="text",
)
MOE_ENTROPY = series(
    "moe/entropy",
    "evenness of the experts' load",
    "entropy ÷ ln E",
    "1 when all experts take the same share, 0 when one takes everything.",
    form=".2f",
    needs="text",
)

_FLUX = {
    "kept": ("share of the past that is kept", "Share of its past that a token keeps, in this layer."),
    "radius": ("mean radius", "Mean radius of the states after this layer, at most 1."),
    "dt": ("step of the flow", "How far states move in this layer, 0 to 1."),
}


def phase_r_layer(layer: int) -> str:
    """Order parameter of a layer, 0 for the encoding: `phase/R_layer<n>`."""
    return f"phase/R_layer{layer}"


def phase_window(width: int) -> str:
    """Coherence inside windows of so many tokens: `phase/window_<n>`."""
    return f"phase/window_{width}"


def flux_layer(part: str, layer: int) -> str:
    """`kept`, `radius` or `dt` of a layer: `flux/<part>_layer<n>`."""
    return f"flux/{part}_layer{layer}"


def energy_sign(term: str) -> str:
    """Effect of a term on the coherence that it is named for: `energy/sign/<term>`."""
    return f"energy/sign/{term}"


def _layer(number: str) -> str:
    return f"layer {number}" if number != "0" else "encoding"


def _flux(part: str, layer: str) -> Declared:
    title, meaning = _FLUX.get(part, (name_words(part), ""))
    return Declared("", f"{title}, {_layer(layer)}", "", meaning, needs="text")


pattern(
    r"phase/R_layer(\d+)",
    lambda layer: Declared(
        "",
        f"order parameter R, {_layer(layer)}",
        UNIT_INTERVAL,
        "1 when all positions share their phases in this layer.",
        form=".3f",
        needs="phases",
    ),
    "phase/R_layer1",
)
pattern(
    r"phase/window_(\d+)",
    lambda width: Declared(
        "",
        f"coherence R inside {width} tokens",
        UNIT_INTERVAL,
        "Mean over the layers of R inside causal windows; order is what lies above chance, about 1 ÷ √width.",
        form=".3f",
        needs="phases",
    ),
    "phase/window_8",
)
pattern(r"flux/(\w+)_layer(\d+)", _flux, *(f"flux/{part}_layer1" for part in _FLUX))
pattern(
    r"energy/sign/(.+)",
    lambda term: Declared(
        "",
        f"effect of {name_words(term)} on its coherence",
        "sign, −1 to 1",
        "Whether lowering the term raises the coherence that it is named for: 1 as it should, below 0 the wrong way.",
        form=".2f",
        needs="phases",
    ),
    "energy/sign/<term>",
)
