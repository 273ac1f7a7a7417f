from __future__ import annotations

import numpy as np

from aerogel.ops.value_types.fp32 import VALUE_TYPE


def test_values_do_not_change() -> None:
    weight = np.array([[1, np.nextafter(np.float32(2), np.float32(3))]], np.float32)
    values, auxiliary = VALUE_TYPE.encode(weight, "w")
    assert auxiliary == {}
    np.testing.assert_array_equal(VALUE_TYPE.decode(values, auxiliary), weight)
