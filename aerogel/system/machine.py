"""Facts about this machine: processor, instruction sets and load."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["cpu_features", "cpu_model", "load_average"]

# The flags of /proc/cpuinfo that decide which kernels can run.
_FEATURES = re.compile(r"sse4_[12]|avx\w*|fma|f16c|amx_\w+|asimd\w*|sve\w*|i8mm|bf16|neon")


def cpu_model() -> str:
    """Name of the processor; on x86 with the family and model numbers, which identify the generation."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def cpu_features() -> list[str]:
    """Vector instruction sets of the processor, sorted; empty if the system does not report them."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return sorted(flag for flag in flags if _FEATURES.fullmatch(flag))


def load_average() -> float | None:
    """Runnable processes, averaged over the last minute; None if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, or an empty text."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() == key), "")
