"""OpenVINO on the CPU, for one request at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.backend import Runner
from aerogel.bench.inputs import Input
from aerogel.bench.third_party import ThirdPartyBackend
from aerogel.errors import RuntimeLoadError

__all__ = ["OpenVino"]

_TYPES = {"i64": "tensor(int64)", "i32": "tensor(int32)"}


class OpenVino(ThirdPartyBackend):
    """Fixes shapes before it compiles the model, as OpenVINO runs fixed shapes a little faster than open ones."""

    package = "openvino"
    install = "openvino"

    def compile(self, path: Path, threads: int, precision: str, batch: int, seq: int) -> Runner:
        """Compile for one stream of `threads` threads and [batch, seq].

        Args:
            path: the ONNX file.
            threads: threads of one inference.
            precision: "f32" or "bf16": arithmetic of the operators that are not int8.
            batch: sequences.
            seq: tokens per sequence.

        Raises:
            MissingExtraError: openvino is not installed.
            RuntimeLoadError: OpenVINO rejects the file.
        """
        openvino = self.import_package()
        try:
            core = openvino.Core()
            model = core.read_model(path)
            model.reshape({item.any_name: [batch, seq] for item in model.inputs})
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": precision,
                    # Other backends take turns on the same cores.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise RuntimeLoadError(f"OpenVINO cannot load {path}: {_one_line(error)}") from error
        return _Compiled(openvino, compiled)


class _Compiled:
    """A compiled model and its inference request."""

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self.inputs = [
            Input(item.any_name, _TYPES.get(item.element_type.get_type_name(), "other"), tuple(item.shape))
            for item in compiled.inputs
        ]
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.details = f"OpenVINO {openvino.__version__.partition('-')[0]} ({precision})"

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference and return all outputs, in the model's order."""
        return list(self._request.infer(dict(feeds), share_inputs=True).values())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
