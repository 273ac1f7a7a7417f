"""An ONNX Runtime session as a `Runner`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from aerogel.bench.inputs import Input

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["SessionRunner"]


class SessionRunner:
    """Runs an ``onnxruntime.InferenceSession``."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.details = ""
        self.inputs = [Input(item.name, item.type, tuple(item.shape)) for item in session.get_inputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run one inference and return all outputs, in the model's order."""
        return cast("list[np.ndarray]", self._session.run(None, dict(feeds)))
