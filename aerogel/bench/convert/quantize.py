"""Dense int8 files, made with ONNX Runtime's own quantiser."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.inputs import Input, feeds, vocabulary
from aerogel.errors import AerogelError, ExportError, require
from aerogel.system.atomic_io import atomic_file

__all__ = ["dynamic", "static"]

_CALIBRATION = 4
_TOKENS = 128


def dynamic(model: Path, out: Path, *, per_channel: bool) -> Path:
    """Weights and embeddings in int8, activations quantised on the fly: ``quantize_dynamic``.

    Args:
        model: a file of plain operators.
        out: the file to write; it is returned as it is where it exists.
        per_channel: one scale per output feature instead of one per matrix.

    Raises:
        ExportError: the quantiser refuses the model.
        MissingExtraError: onnx is not installed.
    """

    def convert(tools: Any, graph: Any, file: Path) -> None:
        tools.quantize_dynamic(graph, file, per_channel=per_channel, weight_type=tools.QuantType.QInt8)

    return _made(model, out, convert)


def static(model: Path, out: Path, *, per_channel: bool) -> Path:
    """Inputs and weights of linear layers between QuantizeLinear and DequantizeLinear, symmetric int8.

    Activations have one scale each, from the extremes over a few random inputs: speed does not depend on its value.
    Products of two activations stay float32.

    Args:
        model: a file of plain operators.
        out: the file to write; it is returned as it is where it exists.
        per_channel: one scale per output feature instead of one per matrix.

    Raises:
        ExportError: the quantiser refuses the model.
        MissingExtraError: onnx is not installed.
    """

    def convert(tools: Any, graph: Any, file: Path) -> None:
        weights = {item.name for item in graph.graph.initializer}
        # Gemm is left to the pooler and the classifier, which see one token of each sequence.
        linear = [
            node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in weights
        ]
        if not linear:
            raise ExportError(f"{model} has no MatMul with a weight; export it with --format dense")
        tools.quantize_static(
            graph, file, _Calibration(model), quant_format=tools.QuantFormat.QDQ, per_channel=per_channel,
            activation_type=tools.QuantType.QInt8, weight_type=tools.QuantType.QInt8, nodes_to_quantize=linear,
            extra_options={
                "ActivationSymmetric": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )  # fmt: skip

    return _made(model, out, convert)


class _Calibration:
    """Random inputs, handed out as a ``CalibrationDataReader`` does."""

    def __init__(self, model: Path) -> None:
        self._batches = _random_inputs(model)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _random_inputs(model: Path) -> Iterator[dict[str, np.ndarray]]:
    from aerogel import runtime

    session = runtime.session(model, library=False)
    inputs = [Input(item.name, item.type, tuple(item.shape)) for item in session.get_inputs()]
    del session
    for seed in range(_CALIBRATION):
        yield feeds(model, inputs, batch=1, seq=_TOKENS, vocab=vocabulary(model), seed=seed)


def _made(model: Path, out: Path, convert: Callable[[Any, Any, Path], None]) -> Path:
    if out.exists():
        return out
    onnx = require("onnx", "export")
    from onnxruntime import quantization

    graph = onnx.load(model)
    # The quantiser infers shapes itself and finds nodes by their names.
    del graph.graph.value_info[:]
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{number}"
    with atomic_file(out) as file, _silence():
        try:
            convert(quantization, graph, file)
        except AerogelError:
            raise
        except Exception as error:  # the quantiser raises its own types and those of everything below it
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"{model} cannot be quantised by ONNX Runtime: {reason}") from error
    return out


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No advice of the quantiser inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
