import math

import numpy as np
import pytest

from qcore.viz import UNIT_LABELS, UNITS, convert


def test_units_are_exact():
    nats = np.array([0.0, math.log(2), 3.0])
    np.testing.assert_array_equal(convert(nats, "nats", 4.0), nats)
    np.testing.assert_allclose(convert(nats, "bits/byte", 4.0), [0.0, 0.25, 3.0 / math.log(2) / 4.0], rtol=1e-15)
    np.testing.assert_allclose(convert(nats, "perplexity", 4.0), [1.0, 2.0, math.exp(3.0)], rtol=1e-15)


def test_a_copy_is_returned_and_gaps_stay_gaps():
    nats = np.array([1.0, np.nan])
    for unit in UNITS:
        converted = convert(nats, unit, 2.0)
        converted[0] = -1
        assert np.isnan(converted[1])
    assert nats[0] == 1.0
    assert set(UNIT_LABELS) == set(UNITS)


def test_a_huge_loss_has_an_infinite_perplexity():
    assert convert(1e6, "perplexity", 1.0) == np.inf


def test_a_wrong_unit_or_size_is_refused_by_name():
    with pytest.raises(ValueError, match="nats, bits/byte, perplexity"):
        convert(1.0, "bits", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bytes_per_token = 0"):
        convert(1.0, "bits/byte", 0)
