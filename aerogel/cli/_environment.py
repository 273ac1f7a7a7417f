"""The report of ``aerogel env``: versions, processor, native library and environment variables."""

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
    LIBRARY_VARIABLE: "path of the native library to use; empty: use none",
    "AEROGEL_ISA": "instruction set of the kernels, such as avx2 (default: the fastest available)",
    "AEROGEL_CACHE": "directory of cost models and of tuned GPU tiles (default: the user's cache directory)",
    "OMP_NUM_THREADS": "number of PyTorch threads in training and export",
    "HF_HOME": "directory of downloaded models",
    "HF_HUB_OFFLINE": "1: download nothing",
}
# What `aerogel env` prints instead of a secret.
_HIDDEN = "(set, not shown)"
_SECRETS = {
    "AEROGEL_API_KEY": "API key that requests to `aerogel serve` need",
    "AEROGEL_ADMIN_TOKEN": "token that the admin routes of `aerogel serve` need",
}
_COMPILERS = ("c++", "g++", "clang++")


def variables() -> dict[str, str]:
    """Every environment variable that Aerogel reads, with its meaning."""
    return _VARIABLES | _SECRETS | _interpreters()


def environment() -> dict[str, Any]:
    """The report as JSON values. docs/bench.md describes its fields."""
    return {
        "aerogel": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(_PACKAGES),
        "cpu": {"model": cpu_model(), "cores": cores(), "features": cpu_features()},
        "library": _library(),
        "variables": {
            name: {"value": _value(name), "meaning": meaning} for name, meaning in variables().items()
        },
    }


def _value(name: str) -> str | None:
    found = os.environ.get(name)
    return _HIDDEN if found is not None and name in _SECRETS else found


def _interpreters() -> dict[str, str]:
    """Variables that name the Python interpreters of third-party backends."""
    backends = (BACKENDS.get(name) for name in BACKENDS.names())
    return {
        backend.variable: f"Python interpreter with {backend.package} installed, for `bench --backends`"
        for backend in backends
        if isinstance(backend, ThirdPartyBackend)
    }


def _library() -> dict[str, Any]:
    """The native library: its path, its instruction sets, or the reason why it cannot be used."""
    path = find_library()
    found: dict[str, Any] = {
        "path": str(path) if path else None,
        "reason": None,
        "selected": None,
        "instruction_sets": [],
    }
    if path is None:
        found["reason"] = _absence()
        return found
    from aerogel.kernels.cpu import native

    try:
        found["instruction_sets"] = [
            {"name": isa.name, "available": isa.available, "reason": isa.reason} for isa in native.isas()
        ]
        found["selected"] = native.selected()
        found["reason"] = _rejection(str(path))
    except AerogelError as error:
        found["reason"] = str(error)
    return found


def _rejection(library: str) -> str | None:
    """Why ONNX Runtime rejects the library, or None if it accepts it."""
    try:
        runtime.session_options().register_custom_ops_library(library)
    except Exception as error:  # onnxruntime raises its own types, none of them public
        return f"ONNX Runtime rejects it: {error}"
    return None


def _absence() -> str:
    """Why there is no library, and how to get one."""
    if LIBRARY_VARIABLE in os.environ:
        return f"{LIBRARY_VARIABLE} is empty; unset it to use the library. Models run at dense speed"
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler:
        return (
            f"it was not built when aerogel was installed; {compiler} is available now, so reinstall aerogel"
        )
    return "no C++ compiler found; install GCC or Clang and reinstall aerogel. Models run at dense speed"
