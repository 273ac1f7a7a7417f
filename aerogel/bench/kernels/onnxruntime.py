"""ONNX Runtime's dense product and bias, as in a dense model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aerogel import runtime
from aerogel.bench.kernel import Kernel, Layer
from aerogel.errors import require

__all__ = ["KERNEL"]


class _Dense(Kernel):
    def refuse(self) -> str | None:
        return None

    def open(self, layer: Layer) -> Callable[[], np.ndarray]:
        onnx = require("onnx", "export")
        from onnx import numpy_helper

        graph = onnx.parser.parse_graph(
            "g (float[t, k] x) => (float[t, n] y) { p = MatMul(x, w) y = Add(p, b) }"
        )
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.ascontiguousarray(layer.weight.T), "w"),
                numpy_helper.from_array(np.zeros(len(layer.weight), np.float32), "b"),
            ]
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "dense.onnx"
            onnx.save(model, path)
            session = runtime.session(path, threads=1, library=False)
        return lambda: np.asarray(session.run(None, {"x": layer.x})[0])


KERNEL = _Dense()
