"""The language families there are: a record each, from the family's own folder."""

from qcore.models.flux.family import FAMILY as FLUX
from qcore.models.pam.family import FAMILY as PAM
from qcore.models.phase.family import FAMILY as PHASE
from qcore.models.record import LanguageFamily
from qcore.models.transformer.family import FAMILY as TRANSFORMER

FAMILIES: dict[str, LanguageFamily] = {family.kind: family for family in (PHASE, PAM, FLUX, TRANSFORMER)}
"""By the kind that a configuration names."""
