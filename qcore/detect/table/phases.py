"""Rules about phases and hidden states."""

from __future__ import annotations

from qcore.detect import phases
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.explanations import EXPLAINED_BY
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

RULES: tuple[Rule, ...] = (
    Rule(
        "half_circle",
        ("P1",),
        "Half of the phase circle is empty",
        "The wave uses only half of the circle, as when amplitude and phase come from one projection. "
        "Opposite phases never meet, so waves can hardly cancel and interference loses half of its meaning.",
        {"coverage": 0.55, "release": 0.65, "aligned": 0.95, "dead": 0.2},
        ZOO,
        (catalog.PHASE_COVERAGE,),
        phases.half_circle,
        shows=(catalog.PHASE_IM_RE_RATIO, catalog.PHASE_R),
        past="Half of the phase circle was empty",
        grade="weak",
        clear=(Clear(catalog.PHASE_COVERAGE, low="coverage"),),
    ),
    Rule(
        "aligned_phases",
        ("P2",),
        "All phases are aligned",
        "Every phase has come to stand still over the whole sequence, which is the trivial way to be coherent. "
        "Equal phases tell no token from another, so coherence costs all the information that the phases could carry.",
        {"R": 0.95, "variance": 0.05, "release": 0.9, "room": 0.2},
        ZOO,
        (catalog.PHASE_R,),
        phases.aligned_phases,
        shows=(catalog.PHASE_DIMENSION_VARIANCE, catalog.TERM_CE),
        past="All phases were aligned",
        grade="weak",
        clear=(Clear(catalog.PHASE_R, high="R"),),
    ),
    Rule(
        "dead_imaginary",
        ("P3", "P3b"),
        "The imaginary channel is dead",
        "Almost none of the wave's variance is left in its imaginary part. "
        "The wave is effectively a real number, and only signs are left of the phases.",
        {"ratio": 0.05, "release": 0.1},
        ZOO,
        (catalog.PHASE_IM_RE_RATIO,),
        phases.dead_imaginary,
        past="The imaginary channel was dead",
        grade="weak",
        clear=(Clear(catalog.PHASE_IM_RE_RATIO, low="ratio"),),
    ),
    Rule(
        "rank_collapse",
        ("R1",),
        "Hidden states share one direction",
        "All tokens have nearly the same hidden state, as in a stack without residual connections. "
        "The output cannot tell tokens apart, and the gradient that could change that is tiny.",
        {
            "cosine": 0.5,
            "rank": 0.12,
            "cosine_later": 0.9,
            "release": 0.4,
            "repeated": 0.4,
            "spent": 0.2,
            "steps": 300.0,
            "plan_share": 0.75,
            "room": 0.2,
        },
        ZOO,
        (catalog.GEOMETRY_MEAN_COSINE,),
        phases.rank_collapse,
        shows=(
            catalog.GEOMETRY_EFFECTIVE_RANK,
            catalog.DATA_TARGET_TOP1_SHARE,
            catalog.TERM_CE,
            catalog.OPTIM_LR_SUM,
        ),
        past="Hidden states shared one direction",
        role="symptom",
        explained_by=EXPLAINED_BY["rank_collapse"],
    ),
)
