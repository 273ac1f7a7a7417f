from __future__ import annotations

import numpy as np
import pytest

from aerogel.errors import ExportError
from aerogel.ops.value_types.fp16 import WEIGHT


def test_values_are_rounded_to_eleven_bits() -> None:
    # 2049 lies between 2048 and 2050, and goes to the even mantissa.
    values, beside = WEIGHT.encode(np.array([[1, -0.5, 2049, 65504]], np.float32), "w")
    assert values.dtype == np.float16
    assert beside == {}
    decoded = WEIGHT.decode(values, beside)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, [[1, -0.5, 2048, 65504]])


@pytest.mark.parametrize("bad", [65520.0, np.inf, np.nan])
def test_what_half_precision_cannot_hold_is_refused_by_name(bad: float) -> None:
    with pytest.raises(ExportError, match=r"layer\.weight has a value of .* store it as fp32"):
        WEIGHT.encode(np.array([[1, bad]], np.float32), "layer.weight")
