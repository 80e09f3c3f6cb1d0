"""The probes that every family has: its terms, their gradients, and what an update does to its weights."""

from __future__ import annotations

from qcore.diagnostics import term_gradients, weight_statistics
from qcore.probes import catalog
from qcore.probes.protocol import ProbeInput
from qcore.probes.updates import update_measurements

LIGHT_TOKENS = 48
"""Tokens of a row that a light look reads: leaks from farther ahead are left to the thorough ones."""


def terms(seen: ProbeInput) -> dict[str, float]:
    """Terms that are not in the loss, and so were not measured with the step."""
    measured = seen.engine.measured_terms()
    return {catalog.term(name): value for name, value in measured.items() if name not in seen.terms}


def gradients(seen: ProbeInput) -> dict[str, float]:
    """Gradients of every weighted term over all parameters."""
    parts = seen.engine.parts() if seen.thorough else seen.engine.parts(tokens=LIGHT_TOKENS)
    statistics = term_gradients(parts, [parameter for _, parameter in seen.engine.parameters()], seen.weights)
    seen.keep("gradients", statistics.arrays(list(seen.weights)))
    values = {catalog.grad("value", name): float(part.detach()) for name, part in parts.items()}
    return statistics.scalars() | values


def weights(seen: ProbeInput) -> dict[str, float]:
    """From the gradients that the step left behind; before the first update, from a backward pass of its own. What
    the update did to the weights is measured beside it.
    """
    named, tables = seen.engine.counted_parameters(), seen.engine.lookup_tables()
    if seen.step == 0:
        statistics = weight_statistics(named, gradients=seen.engine.gradients(), tables=tables)
    else:
        statistics = weight_statistics(named, seen.engine.before_update(), tables=tables)
    seen.keep("modules", statistics.arrays())
    return statistics.scalars() | update_measurements(seen)
