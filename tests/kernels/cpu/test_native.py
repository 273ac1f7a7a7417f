from __future__ import annotations

import re

import numpy as np
import pytest

from aerogel.errors import FormatError, UsageError
from aerogel.kernels.cpu.native import SparseLinear, check_selection, isas, selected
from aerogel.sparse.formats import FORMATS

AVAILABLE = [isa.name for isa in isas() if isa.available]
# All instruction sets, so that those this machine lacks show as skipped, with the reason.
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


def test_rejects_invalid_arguments() -> None:
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
    with pytest.raises(FormatError, match=r"scale is missing; int8 data needs float32 \[8\]"):
        SparseLinear({**arrays, "data": arrays["data"].astype(np.int8)}, None, 6)
    with pytest.raises(FormatError, match="bias"):
        SparseLinear(arrays, np.zeros(7, np.float32), 6)
    with pytest.raises(FormatError, match=r"outside \[0, 3\)"):
        SparseLinear(arrays, None, 3)
    for width in (0, -6, 2**31, 2**64 + 6, 6.0, True):
        with pytest.raises(FormatError, match="in_features must be an integer from 1 to 2147483647"):
            SparseLinear(arrays, None, width)
    linear = SparseLinear(arrays, None, 6)
    with pytest.raises(FormatError, match=r"x must be float32 \[\.\.\., 6\]"):
        linear(np.zeros((2, 5), np.float32))
    with pytest.raises(FormatError, match="out must be contiguous"):
        linear(np.zeros((2, 6), np.float32), out=np.zeros((8, 2), np.float32).T)
    fixed = np.zeros((2, 8), np.float32)
    fixed.flags.writeable = False
    shared = np.zeros(100, np.float32)
    for x, out in (
        (np.zeros((2, 6), np.float32), fixed),
        (np.zeros((2, 6), np.float32), misaligned(np.zeros((2, 8), np.float32))),
        (shared[:12].reshape(2, 6), shared[11:27].reshape(2, 8)),
    ):
        with pytest.raises(FormatError, match="out must be writable, aligned and must not overlap x"):
            linear(x, out=out)
    for threads in (0, -1, 1025, 2**40, 1.5, True):
        with pytest.raises(UsageError, match="out of range; give an integer from 1 to 1024"):
            linear(np.zeros((2, 6), np.float32), threads=threads)


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers at an unaligned address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    offset = 1 - memory.ctypes.data % 2
    moved = memory[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert moved.size == 0 or moved.ctypes.data % 2
    return moved


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize(
    ("form", "block"), [("csr", (1, 1)), ("bsr", (4, 1)), ("bsr", (1, 4)), ("bsr", (3, 2))]
)
def test_arrays_may_be_unaligned(isa: str, dtype: type, form: str, block: tuple[int, int]) -> None:
    weight, mask = masked(60, 44, block, 0.3)
    stored = np.clip(weight * 40, -127, 127) if dtype is np.int8 else weight
    arrays = FORMATS.get(form).encode(stored.astype(dtype), mask, block)
    arrays["scale"] = RANDOM.uniform(0.1, 1, 60).astype(np.float32)
    bias = RANDOM.standard_normal(60).astype(np.float32)
    x = RANDOM.standard_normal((7, 44)).astype(np.float32)
    expected = SparseLinear(arrays, bias, 44, isa)(x)
    moved = {name: misaligned(array) for name, array in arrays.items()}
    np.testing.assert_array_equal(SparseLinear(moved, misaligned(bias), 44, isa)(misaligned(x)), expected)


def test_run_rejects_invalid_addresses() -> None:
    weight, mask = masked(8, 6, (1, 1), 0.5)
    linear = SparseLinear(FORMATS.get("csr").encode(weight, mask), None, 6)
    x, y = np.ones((2, 6), np.float32), np.full((2, 8), 7, np.float32)
    for at, tokens, to in (
        (0, 2, y.ctypes.data), (x.ctypes.data, 2, 0), (x.ctypes.data + 2, 2, y.ctypes.data),
        (x.ctypes.data, 2, y.ctypes.data + 1), (x.ctypes.data, -1, y.ctypes.data),
    ):  # fmt: skip
        with pytest.raises(FormatError, match="addresses must be multiples of 4"):
            linear.run(at, tokens, to, 1)
    assert (y == 7).all()
    linear.run(0, 0, 0, 1)


@pytest.mark.parametrize("threads", [-(2**31), -1, 0, 1, 1000])
def test_result_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    weight, mask = masked(60, 44, (1, 1), 0.3)
    linear = SparseLinear(FORMATS.get("csr").encode(weight, mask), None, 44)
    x = RANDOM.standard_normal((700, 44)).astype(np.float32)
    y = np.full((700, 60), np.nan, np.float32)
    linear.run(x.ctypes.data, 700, y.ctypes.data, threads)
    np.testing.assert_array_equal(y, linear(x))


HERE = f"available here: {', '.join(AVAILABLE)}"
# An instruction set of another architecture, and one that does not exist.
REFUSED = [isa.name for isa in isas() if not isa.available] + ["sse"]


def test_no_machine_has_every_isa() -> None:
    assert len(REFUSED) > 1, "no machine has both AVX-512 and NEON"
    assert all(isa.reason for isa in isas() if not isa.available)


@pytest.mark.parametrize("isa", REFUSED)
def test_rejects_unavailable_isas_in_argument_and_environment(
    isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, mask = masked(8, 6, (1, 1), 0.5)
    arrays = FORMATS.get("csr").encode(weight, mask)
    reason = next((known.reason for known in isas() if known.name == isa), "")
    what = f"{isa} is not available ({reason})" if reason else f"unknown instruction set '{isa}'"
    with pytest.raises(UsageError, match=f"^{re.escape(f'{what}; {HERE}')}$"):
        SparseLinear(arrays, None, 6, isa)
    monkeypatch.setenv("AEROGEL_ISA", isa)
    for use in (selected, check_selection, lambda: SparseLinear(arrays, None, 6)):
        with pytest.raises(UsageError, match=f"^{re.escape(f'AEROGEL_ISA: {what}; {HERE}')}$"):
            use()
    # The argument takes precedence over the environment.
    assert SparseLinear(arrays, None, 6, "scalar").out_features == 8


@pytest.mark.parametrize("isa", AVAILABLE)
def test_environment_selects_the_isa(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEROGEL_ISA", isa)
    assert selected() == isa


def test_selects_the_fastest_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEROGEL_ISA", raising=False)
    assert selected() == AVAILABLE[-1]
