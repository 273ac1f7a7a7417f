from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aerogel.errors import FormatError
from aerogel.kernels.cpu.native import SparseLinear, isas, selected
from aerogel.sparse.formats import FORMATS

AVAILABLE = [isa.name for isa in isas() if isa.available]
# All of them, so that one this machine lacks shows as skipped, with the reason, instead of not at all.
EVERY = [
    pytest.param(isa.name, marks=[] if isa.available else pytest.mark.skip(reason=isa.reason))
    for isa in isas()
]
RANDOM = np.random.default_rng(0)


def masked(rows: int, cols: int, block: tuple[int, int], density: float) -> tuple[np.ndarray, np.ndarray]:
    kept = RANDOM.random((rows // block[0], cols // block[1])) < density
    mask = np.repeat(np.repeat(kept, block[0], 0), block[1], 1)
    return np.where(mask, RANDOM.standard_normal(mask.shape), 0).astype(np.float32), mask


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize(
    ("form", "block"), [("csr", (1, 1)), ("bsr", (4, 1)), ("bsr", (1, 4)), ("bsr", (3, 2))]
)
@pytest.mark.parametrize("shape", [(37,), (3, 5, 11), (0, 4), ()])
def test_against_numpy(isa: str, form: str, block: tuple[int, int], shape: tuple[int, ...]) -> None:
    weight, mask = masked(60, 44, block, 0.3)
    bias = RANDOM.standard_normal(60).astype(np.float32)
    linear = SparseLinear(FORMATS.get(form).encode(weight, mask, block), bias, 44, isa)
    x = RANDOM.standard_normal((*shape, 44)).astype(np.float32)
    out = np.full((*shape, 60), np.nan, np.float32)
    y = linear(x, threads=2, out=out)
    assert y is out
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    scale = np.abs(x).astype(np.float64) @ np.abs(weight.T) + np.abs(bias)
    assert np.all(np.abs(y - expected) <= 8 * np.finfo(np.float32).eps * scale)


def test_non_contiguous_input() -> None:
    weight, mask = masked(8, 6, (1, 1), 0.5)
    linear = SparseLinear(FORMATS.get("csr").encode(weight, mask), None, 6)
    x = RANDOM.standard_normal((6, 5)).astype(np.float32)
    np.testing.assert_array_equal(linear(x.T), linear(np.ascontiguousarray(x.T)))


def test_arguments_are_checked() -> None:
    weight, mask = masked(8, 6, (1, 1), 0.5)
    arrays = FORMATS.get("csr").encode(weight, mask)
    for name, broken in (
        ("data", arrays["data"].astype(np.float64)),
        ("indices", arrays["indices"].astype(np.int64)),
        ("indptr", arrays["indptr"].astype(np.int64)),
    ):
        with pytest.raises(FormatError, match=name):
            SparseLinear({**arrays, name: broken}, None, 6)
    for name in arrays:
        with pytest.raises(FormatError, match=f"{name} is missing"):
            SparseLinear({key: array for key, array in arrays.items() if key != name}, None, 6)
    with pytest.raises(FormatError, match=r"scale is missing; give float32 \[8\]"):
        SparseLinear({**arrays, "data": arrays["data"].astype(np.int8)}, None, 6)
    with pytest.raises(FormatError, match="bias"):
        SparseLinear(arrays, np.zeros(7, np.float32), 6)
    with pytest.raises(FormatError, match=r"outside \[0, 3\)"):
        SparseLinear(arrays, None, 3)
    with pytest.raises(FormatError, match="unknown instruction set 'mmx'"):
        SparseLinear(arrays, None, 6, "mmx")
    linear = SparseLinear(arrays, None, 6)
    with pytest.raises(FormatError, match=r"x must be float32 \[\.\.\., 6\]"):
        linear(np.zeros((2, 5), np.float32))
    with pytest.raises(FormatError, match="out must be contiguous"):
        linear(np.zeros((2, 6), np.float32), out=np.zeros((8, 2), np.float32).T)


def test_unavailable_isas_say_why() -> None:
    weight, mask = masked(8, 6, (1, 1), 0.5)
    arrays = FORMATS.get("csr").encode(weight, mask)
    missing = [isa for isa in isas() if not isa.available]
    assert missing, "no machine has both AVX-512 and NEON"
    for isa in missing:
        assert isa.reason
        with pytest.raises(FormatError, match=f"{isa.name} is not available"):
            SparseLinear(arrays, None, 6, isa.name)


@pytest.mark.parametrize("cap", AVAILABLE)
def test_the_environment_caps_the_isa(cap: str) -> None:
    code = "from aerogel.kernels.cpu.native import selected; print(selected())"
    run = [sys.executable, "-c", code]
    assert (
        subprocess.run(
            run, env={"AEROGEL_ISA": cap}, capture_output=True, text=True, check=True
        ).stdout.strip()
        == cap
    )
    wrong = subprocess.run(run, env={"AEROGEL_ISA": "sse"}, capture_output=True, text=True, check=False)
    known = ", ".join(isa.name for isa in isas())
    assert f"AEROGEL_ISA: unknown instruction set 'sse'; known: {known}" in wrong.stderr


def test_the_fastest_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEROGEL_ISA", raising=False)
    assert selected() == AVAILABLE[-1]
