from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aerogel import runtime
from aerogel.errors import ParityError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.export.targets import onnx as onnx_target

Once = Callable[..., Path]


@pytest.mark.parametrize("weights", ["fp16", "int8"])
@pytest.mark.parametrize(
    ("family", "head", "block"),
    [
        ("bert", "SequenceClassification", (1, 1)),
        ("roberta", "QuestionAnswering", (1, 4)),
        ("electra", "TokenClassification", (4, 1)),
        ("distilbert", "", (1, 1)),
    ],
)
def test_rounded_exports_agree_with_the_rounded_model(
    capture_once: Once, tmp_path: Path, family: str, head: str, block: tuple[int, int], weights: str
) -> None:
    config = ExportConfig(
        capture_once(family, head, density=0.25, block=block), tmp_path / "m.onnx", weights=weights,
        embeddings=weights, format="csr" if block == (1, 1) else "bsr",
    )  # fmt: skip
    document = export(config)
    form = "csr" if block == (1, 1) else "bsr"
    assert document["format"] == form
    assert f"{form.capitalize()}Linear{weights.capitalize()}_v1" in document["functions"]
    assert {m["weights"] for m in document["matrices"].values()} == {weights}
    assert {t["weights"] for t in document["embeddings"].values()} <= {weights, "fp16"}
    dtype = {"fp16": "float16", "int8": "int8"}[weights]
    assert {m["arrays"]["data"]["dtype"] for m in document["matrices"].values()} == {dtype}
    checked = document["parity"]
    assert ("unrounded" in checked) == (weights == "int8")
    if weights == "int8":
        assert checked["unrounded"]["bundled"]["relative"] <= checked["tolerance"]
        assert checked["unrounded"]["bundled"]["drift"] is None
    for runner in ("onnxruntime", "aerogel"):
        found = checked[runner]["bundled"]
        assert found["relative"] <= found["allowed"]
        assert found["allowed"] == pytest.approx(checked["tolerance"]) or weights == "int8"
        # Half precision has 11 bits and 8 bits have 7, of the largest value; layers add up what they lose.
        low, high = (1e-5, 5e-3) if weights == "fp16" else (1e-3, 0.2)
        assert low < found["drift"]["relative"] < high
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["m.onnx"]


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("array", ["data", "scale", "indices"])
def test_one_wrong_value_is_caught_though_activations_are_rounded(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: str, inline: bool
) -> None:
    write = onnx_target.Onnx.write

    def spoil(self: Any, model: Any, file: Path, *, inline: bool) -> Any:
        values = model.graph.initializers[f"bert.encoder.layer.1.output.dense.weight.{array}"].const_value
        spoiled = values.numpy()
        if array == "indices":
            spoiled[[0, 1]] = spoiled[[1, 0]]
        else:
            spoiled[7] = spoiled[7] * 1.1 if array == "scale" else -spoiled[7]
        return write(self, model, file, inline=inline)

    path = capture_once("bert", density=0.25)
    monkeypatch.setattr(onnx_target.Onnx, "write", spoil)
    # Without the library, which would refuse indices that do not ascend.
    monkeypatch.setenv("AEROGEL_LIBRARY", "")
    with pytest.raises(
        ParityError, match=r"differs from PyTorch's by .* 0\.0001 of that is allowed .unrounded"
    ):
        export(ExportConfig(path, tmp_path / "m.onnx", weights="int8", inline=inline))
    assert list(tmp_path.iterdir()) == []


def test_one_wrong_value_in_a_table_is_caught(
    capture_once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx_target.Onnx.write

    def spoil(self: Any, model: Any, file: Path, *, inline: bool) -> Any:
        table = model.graph.initializers[
            "bert.embeddings.position_embeddings.weight.data"
        ].const_value.numpy()
        table[1] = -table[1]
        return write(self, model, file, inline=inline)

    path = capture_once("bert")
    monkeypatch.setattr(onnx_target.Onnx, "write", spoil)
    with pytest.raises(ParityError, match=r".onnxruntime, batch"):
        export(ExportConfig(path, tmp_path / "m.onnx", embeddings="int8"))


def test_types_in_the_file_are_those_in_memory(capture_once: Once, tmp_path: Path) -> None:
    """On a stock runtime matrices are folded to float32, and tables stay as small as they are stored."""
    out = tmp_path / "m.onnx"
    document = export(ExportConfig(capture_once("bert"), out, weights="int8", embeddings="int8"))
    options = runtime.session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    runtime.session(out, library=False, options=options)
    kept = {
        value.name: numpy_helper.to_array(value)
        for value in onnx.load(tmp_path / "optimized.onnx").graph.initializer
    }
    types = {tuple(array.shape): array.dtype for array in kept.values()}
    for name, table in document["embeddings"].items():
        stored = {"int8": np.int8, "fp16": np.float16}[table["weights"]]
        assert types[tuple(table["shape"])] == stored, name
    assert types[32, 64] == types[64, 32] == np.float32


def test_the_graph_computes_activations_once_for_all_that_share_them(
    capture_once: Once, tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    export(ExportConfig(capture_once("bert"), out, weights="int8"))
    options = runtime.session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    runtime.session(out, library=False, options=options)
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    # Two layers of four inputs each: of query, key and value together, of the output, of both feed-forward matrices.
    assert ops.count("Round") == 2 * 4
    assert not {"ScatterElements", "ScatterND", "CumSum"} & set(ops)
