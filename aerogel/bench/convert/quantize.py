"""Dense int8 files, made with ONNX Runtime's quantiser.

On x86 CPUs without VNNI, int8 kernels add pairs of products of unsigned activations and signed weights in saturating
16-bit integers. As 2 x 255 x 127 exceeds 32767, outputs can be wrong by tens of percent. The remedy in ONNX Runtime's
documentation is ``reduce_range``: weights of 7 bits, which the same kernels run. Files for such CPUs have "-7bit" in
their names.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.inputs import Input, feeds, vocabulary
from aerogel.errors import AerogelError, ExportError, require
from aerogel.system.atomic_io import atomic_file
from aerogel.system.machine import cpu_features

__all__ = ["dynamic", "lacks_vnni", "static", "weight_note"]

_CALIBRATION_BATCHES = 4
_CALIBRATION_TOKENS = 128
_REDUCED = "-7bit"
_X86 = ("x86_64", "amd64", "i386", "i686")


def lacks_vnni() -> bool:
    """Return whether this is an x86 CPU without VNNI. A system that reports no CPU features counts as one without."""
    return platform.machine().lower() in _X86 and not any("vnni" in feature for feature in cpu_features())


def weight_note(path: Path) -> str:
    """Return a note for the details of a run whose file, or its folder, was quantised to 7 bits; else nothing."""
    reduced = path.stem.endswith(_REDUCED) or path.parent.name.endswith(_REDUCED)
    return ", 7-bit weights as the CPU lacks VNNI" if reduced else ""


def dynamic(model: Path, out: Path, *, per_channel: bool) -> Path:
    """Quantise weights and embeddings to int8, and activations at run time, with ``quantize_dynamic``.

    Args:
        model: a file of standard operators.
        out: the file to write; "-7bit" is appended to its stem if the CPU lacks VNNI. An existing file is kept.
        per_channel: use one scale per output feature instead of one per matrix.

    Returns:
        The file.

    Raises:
        ExportError: the quantiser rejects the model.
        MissingExtraError: onnx is not installed.
    """

    def convert(tools: Any, graph: Any, file: Path, reduce_range: bool) -> None:
        tools.quantize_dynamic(
            graph, file, per_channel=per_channel, reduce_range=reduce_range, weight_type=tools.QuantType.QInt8
        )

    return _quantize(model, out, convert)


def static(model: Path, out: Path, *, per_channel: bool) -> Path:
    """Quantise inputs and weights of linear layers to symmetric int8, with QuantizeLinear and DequantizeLinear.

    Each activation has one scale, from its extremes over a few random inputs: the speed does not depend on its value.
    Products of two activations stay float32.

    Args:
        model: a file of standard operators.
        out: the file to write; "-7bit" is appended to its stem if the CPU lacks VNNI. An existing file is kept.
        per_channel: use one scale per output feature instead of one per matrix.

    Returns:
        The file.

    Raises:
        ExportError: the quantiser rejects the model, or no MatMul has a constant weight.
        MissingExtraError: onnx is not installed.
    """

    def convert(tools: Any, graph: Any, file: Path, reduce_range: bool) -> None:
        weights = {item.name for item in graph.graph.initializer}
        # Gemm is not quantised: only the pooler and the classifier use it, on one token of each sequence.
        linear = [
            node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in weights
        ]
        if not linear:
            raise ExportError(f"{model} has no MatMul with a constant weight; export it with --format dense")
        tools.quantize_static(
            graph, file, _Calibration(model), quant_format=tools.QuantFormat.QDQ, per_channel=per_channel,
            reduce_range=reduce_range, activation_type=tools.QuantType.QInt8, weight_type=tools.QuantType.QInt8,
            nodes_to_quantize=linear,
            extra_options={
                "ActivationSymmetric": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )  # fmt: skip

    return _quantize(model, out, convert)


class _Calibration:
    """Random inputs, with the interface of ``CalibrationDataReader``."""

    def __init__(self, model: Path) -> None:
        self._batches = _random_inputs(model)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _random_inputs(model: Path) -> Iterator[dict[str, np.ndarray]]:
    from aerogel import runtime

    session = runtime.session(model, library=False)
    inputs = [Input(item.name, item.type, tuple(item.shape)) for item in session.get_inputs()]
    del session
    for seed in range(_CALIBRATION_BATCHES):
        yield feeds(model, inputs, batch=1, seq=_CALIBRATION_TOKENS, vocab=vocabulary(model), seed=seed)


def _quantize(model: Path, out: Path, convert: Callable[[Any, Any, Path, bool], None]) -> Path:
    reduce_range = lacks_vnni()
    if reduce_range:
        out = out.with_name(f"{out.stem}{_REDUCED}{out.suffix}")
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
            convert(quantization, graph, file, reduce_range)
        except AerogelError:
            raise
        except Exception as error:  # the quantiser raises its own types and those of everything below it
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"ONNX Runtime cannot quantise {model}: {reason}") from error
    return out


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the quantiser's advice inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
