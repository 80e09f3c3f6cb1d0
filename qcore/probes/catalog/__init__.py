"""The catalogue of series: every number that a run stores is declared here once, with its words.

A name that code writes is a constant (`catalog.TOKENS_TOP1_SHARE` is `tokens/top1_share`) or is built by a function
(`catalog.term("ce")` is `term/ce`); a literal name anywhere else fails a test. `series_words` says title, unit, meaning
and format; `declare` adds a series of one's own. Importable by every room: nothing here imports one but `base`.
"""

from qcore.probes.catalog.declare import *  # noqa: F403
from qcore.probes.catalog.inputs import *  # noqa: F403
from qcore.probes.catalog.layers import *  # noqa: F403
from qcore.probes.catalog.mechanisms import *  # noqa: F403
from qcore.probes.catalog.optimizer import *  # noqa: F403
from qcore.probes.catalog.sampler import *  # noqa: F403
from qcore.probes.catalog.text import *  # noqa: F403
from qcore.probes.catalog.training import *  # noqa: F403
from qcore.probes.catalog.units import *  # noqa: F403
from qcore.probes.catalog.video import *  # noqa: F403
