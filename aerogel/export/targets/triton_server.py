"""Target "triton-server": a model folder for NVIDIA's Triton Inference Server and its ONNX Runtime backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.errors import UsageError
from aerogel.export.targets.onnx import Onnx
from aerogel.kernels.cpu.library import find_library

if TYPE_CHECKING:
    from aerogel.export.config import ExportConfig

__all__ = ["TARGET"]


class TritonServer(Onnx):
    """See the module's docstring. The model is that of target "onnx"."""

    suffix = ""
    layouts = ("triton-server",)

    def check_options(self, config: ExportConfig) -> None:
        """See `Target.check_options`."""
        if not config.inline and find_library() is None:
            raise UsageError(
                f"--to {config.target}: the native library, which goes into the folder, is not built on this machine; "
                "install a C++17 compiler and reinstall aerogel, or add --inline for dense speed"
            )


TARGET = TritonServer()
