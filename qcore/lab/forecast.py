"""The memory forecast of a run before it starts; kept for a configuration, since a form asks at every change."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from qcore.config import RunConfig, TextRunConfig

if TYPE_CHECKING:
    from qcore.train.forecast import MemoryForecast


def memory_forecast(config: RunConfig) -> MemoryForecast | None:
    """What a language run will need and what there is; None for video, whose models are small.

    `ValueError` for sizes that do not fit together, or a device that is not there.
    """
    if not isinstance(config, TextRunConfig):
        return None
    optim = config.optim
    # Only what the forecast depends on, so that another seed or weight is no other question.
    relevant = TextRunConfig().with_values(
        {
            "kind": config.kind,
            "batch_size": optim.batch_size,
            "precision": optim.precision,
            "device": optim.device,
            "tokenizer": config.data.tokenizer,
            "vocab_size": config.data.vocab_size,
            **config.model.model_dump(exclude={"kind"}),
        }
    )
    found = _kept(relevant.to_yaml())
    return found.now()


@lru_cache(maxsize=64)
def _kept(text: str) -> MemoryForecast:
    from qcore.train.forecast import forecast

    config = RunConfig.from_yaml(text)
    assert isinstance(config, TextRunConfig)
    return forecast(config)
