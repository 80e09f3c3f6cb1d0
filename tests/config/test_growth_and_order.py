"""What forks need of the configuration: another order of the batches, and larger sizes as a command."""

import json

import pytest

from qcore.config import ConfigError, Grow, RunConfig, command_from_row, default_run, to_row


@pytest.mark.parametrize("kind", ["phase_lm", "video_flow"])
def test_the_order_of_the_batches_is_the_seeds_unless_it_is_given(kind):
    config = default_run(kind).with_values({"seed": 5})
    assert (config.order_seed, config.drawn_seed) == (-1, 5)
    other = config.with_values({"order_seed": 0})
    assert (other.seed, other.drawn_seed) == (5, 0)
    assert RunConfig.from_yaml(other.to_yaml()) == other
    assert RunConfig.from_dict({"model": {"kind": kind}}).order_seed == -1, "a file from before there was one"
    with pytest.raises(ConfigError, match="order_seed = -2"):
        config.with_values({"order_seed": -2})


def test_growth_takes_the_way_of_every_command():
    command = Grow({"width": "192", "heads": 8})
    kind, payload = to_row(command)
    assert (kind, payload) == ("grow", {"changes": {"width": 192, "heads": 8}})
    assert command_from_row(kind, json.loads(json.dumps(payload))) == Grow({"width": 192, "heads": 8})


@pytest.mark.parametrize("changes", [{}, {"widht": 4}, {"width": "much"}, {"kind": "pam"}, {3: 4}, ["width"], None])
def test_growth_that_can_be_none_is_refused(changes):
    with pytest.raises(ConfigError):
        Grow(changes).checked()
