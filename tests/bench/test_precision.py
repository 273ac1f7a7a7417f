from __future__ import annotations

from pathlib import Path

import pytest

from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import TOLERANCES, Precision, stored_precision


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_words_and_back(sparse: bool, precision: str) -> None:
    kind = Precision(sparse, precision)
    assert Precision.parse(str(kind)) == kind
    assert str(kind) == f"{'sparse' if sparse else 'dense'} {precision}"


@pytest.mark.parametrize("text", ["", "sparse", "sparse fp64", "thin fp32", "dense int8 "])
def test_other_words_are_no_kind(text: str) -> None:
    with pytest.raises(ValueError, match="no kind"):
        Precision.parse(text)


@pytest.mark.parametrize(
    ("functions", "precision"),
    [
        ({"CsrLinear_v1", "Encoder_v1"}, "fp32"),
        ({"BsrLinearFp16_v1"}, "fp16"),
        ({"Encoder_v1", "CsrLinearInt8_v1"}, "int8"),
        (set(), "fp32"),
    ],
)
def test_precision_is_that_of_the_functions(functions: set[str], precision: str) -> None:
    model = OnnxFile(Path("m.onnx"), frozenset({"aerogel"}), 1, frozenset(functions))
    assert stored_precision(model) == precision
