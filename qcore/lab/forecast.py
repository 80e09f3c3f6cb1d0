"""The memory forecast of a run before it starts; kept for a configuration, since a form asks at every change."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from qcore.config import RunConfig, TextRunConfig

if TYPE_CHECKING:
    from qcore.train.memory_forecast import MemoryForecast


def memory_forecast(config: RunConfig) -> MemoryForecast | None:
    """What a run will need, its data included, and what there is; None for the adapter of a published model.

    Raises:
        ValueError: for sizes that do not fit together, a device that is not there, or data that cannot be used, or that
            lie outside of the root that the lab's owner has set.
    """
    from qcore.data.forecast import data_forecast, vocabulary
    from qcore.train.memory_forecast import video_forecast

    data = data_forecast(config)
    if not isinstance(config, TextRunConfig):
        found = video_forecast(config)
        return found and replace(found, source=data.source, opening=data.peak, held=data.held).now()
    tokens, counted = vocabulary(config)
    optim = config.optim
    # Only what the forecast depends on, so that another seed or weight is no other question.
    relevant = TextRunConfig().with_values(
        {
            "kind": config.kind,
            "batch_size": optim.batch_size,
            "precision": optim.precision,
            "device": optim.device,
            **config.model.model_dump(exclude={"kind"}),
        }
    )
    kept = _cached_forecast(relevant.to_yaml(), tokens)
    return replace(kept, counted=counted, source=data.source, opening=data.peak, held=data.held).now()


@lru_cache(maxsize=64)
def _cached_forecast(text: str, vocab_size: int) -> MemoryForecast:
    from qcore.train.memory_forecast import forecast

    config = RunConfig.from_yaml(text)
    assert isinstance(config, TextRunConfig)
    return forecast(config, vocab_size)
