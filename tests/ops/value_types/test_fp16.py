from __future__ import annotations

import numpy as np
import pytest

from aerogel.errors import ExportError
from aerogel.ops.value_types.fp16 import VALUE_TYPE


def test_values_are_rounded_to_nearest_even() -> None:
    # 2049 is halfway between 2048 and 2050; 2048 has the even significand.
    values, auxiliary = VALUE_TYPE.encode(np.array([[1, -0.5, 2049, 65504]], np.float32), "w")
    assert values.dtype == np.float16
    assert auxiliary == {}
    decoded = VALUE_TYPE.decode(values, auxiliary)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, [[1, -0.5, 2048, 65504]])


@pytest.mark.parametrize("bad", [65520.0, np.inf, np.nan])
def test_values_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(ExportError, match=r"layer\.weight has a value of .* at most 65504; store it as fp32"):
        VALUE_TYPE.encode(np.array([[1, bad]], np.float32), "layer.weight")
