from __future__ import annotations

import numpy as np

from aerogel.ops.value_types.fp32 import WEIGHT


def test_values_stay_as_they_are() -> None:
    weight = np.array([[1, np.nextafter(np.float32(2), np.float32(3))]], np.float32)
    values, beside = WEIGHT.encode(weight, "w")
    assert beside == {}
    np.testing.assert_array_equal(WEIGHT.decode(values, beside), weight)
