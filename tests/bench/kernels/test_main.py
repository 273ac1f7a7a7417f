from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from aerogel.bench.kernel import Kernel, Layer
from aerogel.bench.kernels import KERNELS
from aerogel.bench.kernels import __main__ as kernels
from aerogel.errors import RuntimeLoadError


def test_time_grows_with_density() -> None:
    found = kernels.ratios((256, 256), (1, 1), (0.02, 1.0), tokens=64, rounds=20)
    (thin, dense_a), (full, dense_b) = found
    assert min(thin, full, dense_a, dense_b) > 0
    # Fifty times the entries: far from any noise.
    assert full > 3 * thin


def test_a_layer_is_zero_where_its_mask_is() -> None:
    operands = kernels.layer((8, 6), (4, 1), 0.25, tokens=5)
    assert np.count_nonzero(operands.mask) == 12
    assert (operands.weight[~operands.mask] == 0).all()
    assert (operands.mask.reshape(2, 4, 6) == operands.mask.reshape(2, 4, 6)[:, :1]).all()
    assert (operands.operations, operands.dense_operations) == (2 * 12 * 5, 2 * 48 * 5)


def test_the_fastest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    order = []

    def taking(name: str, *seconds: float) -> Callable[[], None]:
        remaining = list(seconds)

        def run() -> None:
            order.append(name)
            now[0] += remaining.pop(0)

        return run

    found = kernels.fastest({"a": taking("a", 3, 1, 2), "b": taking("b", 5, 5, 4)}, 3)
    assert found == {"a": 1, "b": 4}
    assert "".join(order) == "ababab"


@pytest.mark.parametrize("name", KERNELS.names())
@pytest.mark.parametrize("block", [(1, 1), (4, 1)])
def test_kernels_are_correct_or_report_why_they_cannot_run(name: str, block: tuple[int, int]) -> None:
    operands = kernels.layer((24, 40), block, 0.3, tokens=7)
    reason = KERNELS.get(name).refuse()
    if reason is not None:
        assert "pip install" in reason or "library" in reason
        pytest.skip(f"{name} does not run here: {reason}")
    (found,) = kernels.compare(operands, [name], rounds=2).values()
    assert found > 0
    run = KERNELS.get(name).open(operands)
    assert run().shape == (7, 24)
    np.testing.assert_array_equal(np.array(run()), np.array(run()))


def test_kernels_of_installed_libraries_are_measured() -> None:
    assert {name for name in KERNELS.names() if KERNELS.get(name).refuse() is None} >= {
        "onnxruntime",
        "scipy",
        "torch",
    }


def test_a_wrong_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Kernel):
        def refuse(self) -> str | None:
            return None

        def open(self, layer: Layer) -> Callable[[], np.ndarray]:
            return lambda: layer.x @ layer.weight.T * np.float32(1.001)

    monkeypatch.setattr(KERNELS, "get", lambda _: Wrong())
    with pytest.raises(RuntimeLoadError, match="the output of kernel wrong is wrong"):
        kernels.compare(kernels.layer((8, 8), (1, 1), 0.5, tokens=3), ["wrong"], 1)


def test_the_table_has_a_row_for_every_layer_and_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "_SHAPES", ((16, 16), (32, 16)))
    assert kernels.main(["--rounds", "1", "--tokens", "3"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[:2] for row in rows[:4]] == [
        ["| 16x16", "unstructured"], ["| 16x16", "2x1"], ["| 16x16", "4x1"], ["| 16x16", "16x16"],
    ]  # fmt: skip
    assert len(rows) == 8


def test_rates_against_other_libraries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "_SHAPES", ((16, 16),))
    monkeypatch.setattr(kernels, "_BLOCKS", ((1, 1),))
    monkeypatch.setattr(
        kernels,
        "compare",
        lambda _operands, names, _rounds: dict.fromkeys(names, 1e-6) | {"onnxruntime": 2e-6},
    )
    assert kernels.main(["--against", "scipy", "--density", "0.25", "--tokens", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 2 x 256 x 8 operations in 2 us are 2.05 GFLOP/s; a quarter of them in 1 us half as much.
    assert "fastest dense product 2 GFLOP/s" in lines[0]
    assert "| 16x16 | unstructured | scipy | 1 | 1 | 4 | 50% |" in lines
    assert "| 16x16 | unstructured | aerogel | 1 | 1 | 4 | 50% |" in lines
    assert "| 16x16 | unstructured | onnxruntime | 2 | 1 | 2 | 100% |" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "nobody"], "unknown kernel 'nobody'"),
        (["--density", "2", "--against", "scipy"], "density 2"),
    ],
)
def test_bad_arguments_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kernels.main(["--rounds", "1", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
