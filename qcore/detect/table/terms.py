"""Rules about single terms of the loss."""

from __future__ import annotations

from qcore.detect import gradients, phases
from qcore.detect.finding import ANY_FAMILY
from qcore.detect.rule import Clear, Rule
from qcore.detect.table.measured import ZOO
from qcore.probes import catalog

_WITH_ENERGIES = "0 of 5 healthy exam runs with energies"

RULES: tuple[Rule, ...] = (
    Rule(
        "constant_term",
        ("G1",),
        "A loss term without gradient",
        "This term has a weight, yet its gradient is exactly zero, as when it is built from argmax, counts or detached "
        "values. It changes the reported loss but not a single weight of the model, so what it should prevent "
        "continues.",
        {"real_axis": 0.999},
        ZOO,
        (catalog.grad("norm", "*"),),
        gradients.constant_term,
        shows=(catalog.term("*"), catalog.grad("value", "*"), catalog.PHASE_REAL_AXIS_SHARE),
        per_term=True,
        families=ANY_FAMILY,
        past="A loss term had no gradient",
        grade="weak",
    ),
    Rule(
        "saturated_term",
        ("G2",),
        "A loss term stuck at its bound",
        "This term sits at a bound where its gradient is exactly zero. "
        "It stays silent for as long as the model is far from what the term was meant to prevent or reach.",
        {"real_axis": 0.999},
        ZOO,
        (catalog.grad("norm", "*"),),
        gradients.saturated_term,
        shows=(catalog.term("*"), catalog.grad("value", "*"), catalog.PHASE_REAL_AXIS_SHARE),
        per_term=True,
        families=ANY_FAMILY,
        past="A loss term was stuck at its bound",
        grade="weak",
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
        past="The phases were real",
        grade="weak",
        clear=(Clear(catalog.PHASE_REAL_AXIS_SHARE, high="real_axis"),),
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
        past="A loss term had the wrong sign",
        clear=(Clear(catalog.energy_sign("*"), low="sign"),),
    ),
    Rule(
        "unscaled_term",
        ("G5",),
        "A loss term of the wrong size",
        "This term is larger than its definition allows, as when it is summed over the width instead of averaged. "
        "It grows with the model and pulls harder than the cross-entropy, which is then hardly learned.",
        {"tolerance": 1e-3, "ratio": 2.0, "healthy_ratio": 0.1},
        ZOO,
        (catalog.term("*"), catalog.grad("ratio", "*")),
        gradients.unscaled_term,
        per_term=True,
        past="A loss term had the wrong size",
        clear=(Clear(catalog.grad("ratio", "*"), high="ratio"),),
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
        ZOO,
        (catalog.grad("ratio", "*"), catalog.hidden("ratio", "*")),
        gradients.harmful_term,
        shows=(catalog.grad("cos", "*"), catalog.hidden("cos", "*"), catalog.term("*")),
        per_term=True,
        past="A loss term worked against the loss",
        clear=(
            Clear(catalog.grad("ratio", "*"), high="ratio"),
            Clear(catalog.grad("cos", "*"), low="cosine"),
        ),
    ),
)
