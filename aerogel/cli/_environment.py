"""What an installation has: versions, processor, native library, the variables that steer them."""

from __future__ import annotations

import os
import platform
import shutil
from typing import Any

from aerogel import __version__, runtime
from aerogel.bench.backends import BACKENDS
from aerogel.bench.third_party import ThirdPartyBackend
from aerogel.errors import AerogelError
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE, find_library
from aerogel.system.cores import cores
from aerogel.system.machine import cpu_features, cpu_model
from aerogel.system.versions import versions

__all__ = ["environment", "variables"]

_PACKAGES = (
    "numpy", "onnxruntime", "tokenizers", "rich", "torch", "transformers", "accelerate", "safetensors",
    "onnx", "onnxscript", "psutil", "matplotlib",
)  # fmt: skip
_VARIABLES = {
    LIBRARY_VARIABLE: "path of another build of the native library; set to nothing, none is used",
    "AEROGEL_ISA": "instruction set that the kernels use; without it, the fastest available",
    "AEROGEL_CACHE": "directory of calibrations and of tiles tuned on a GPU; without it, the user's cache directory",
    "OMP_NUM_THREADS": "threads of PyTorch while training and exporting",
    "HF_HOME": "where downloaded models are kept",
    "HF_HUB_OFFLINE": "set to 1, nothing is downloaded",
}
_COMPILERS = ("c++", "g++", "clang++")


def variables() -> dict[str, str]:
    """Every environment variable that Aerogel reads, with its meaning."""
    return _VARIABLES | _interpreters()


def environment() -> dict[str, Any]:
    """The report of ``aerogel env``, ready for JSON. docs/bench.md describes its fields."""
    return {
        "aerogel": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(_PACKAGES),
        "cpu": {"model": cpu_model(), "cores": cores(), "features": cpu_features()},
        "library": _library(),
        "variables": {
            name: {"value": os.environ.get(name), "meaning": meaning} for name, meaning in variables().items()
        },
    }


def _interpreters() -> dict[str, str]:
    """The variables that say where other runtimes are installed."""
    found = (BACKENDS.get(name) for name in BACKENDS.names())
    return {
        rival.variable: f"Python of another environment that has {rival.package}, for bench --backends"
        for rival in found
        if isinstance(rival, ThirdPartyBackend)
    }


def _library() -> dict[str, Any]:
    """The native library: where it is, what it can do here, or the reason why it cannot be used."""
    path = find_library()
    found: dict[str, Any] = {
        "path": str(path) if path else None,
        "reason": None,
        "selected": None,
        "instruction_sets": [],
    }
    if path is None:
        found["reason"] = _missing()
        return found
    from aerogel.kernels.cpu import native

    try:
        found["instruction_sets"] = [
            {"name": isa.name, "available": isa.available, "reason": isa.reason} for isa in native.isas()
        ]
        found["selected"] = native.selected()
        found["reason"] = _refusal(str(path))
    except AerogelError as error:
        found["reason"] = str(error)
    return found


def _refusal(library: str) -> str | None:
    """Why ONNX Runtime does not take the library, or None if it does."""
    try:
        runtime.session_options().register_custom_ops_library(library)
    except Exception as error:  # onnxruntime raises its own types, none of them public
        return f"ONNX Runtime refuses it: {error}"
    return None


def _missing() -> str:
    """Why there is no library, and the mend."""
    if LIBRARY_VARIABLE in os.environ:
        return f"{LIBRARY_VARIABLE} is set to nothing; unset it. Models run at dense speed"
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler:
        return f"it was not built when aerogel was installed; reinstall aerogel ({compiler} is there now)"
    return "no C++ compiler was found; install GCC or Clang and reinstall aerogel. Models run at dense speed"
