from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import TOLERANCES, Precision, stored_dtype


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_text_round_trip(sparse: bool, dtype: str) -> None:
    parsed = Precision(sparse, dtype)
    assert Precision.parse(str(parsed)) == parsed
    assert str(parsed) == f"{'sparse' if sparse else 'dense'} {dtype}"


@pytest.mark.parametrize("text", ["", "sparse", "sparse fp64", "thin fp32", "dense int8 "])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a precision"):
        Precision.parse(text)


@pytest.mark.parametrize(
    ("functions", "dtype"),
    [
        ({"CsrLinear_v1", "Encoder_v1"}, "fp32"),
        ({"BsrLinearFp16_v1"}, "fp16"),
        ({"Encoder_v1", "CsrLinearInt8_v1"}, "int8"),
        (set(), "fp32"),
    ],
)
def test_stored_dtype_is_that_of_the_functions(functions: set[str], dtype: str) -> None:
    model = OnnxFile(Path("m.onnx"), frozenset({"aerogel"}), 1, frozenset(functions))
    assert stored_dtype(model) == dtype
