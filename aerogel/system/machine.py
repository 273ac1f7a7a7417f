"""What this machine is: processor, cores, features, library versions."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["cpu_features", "cpu_model", "load_average"]

# Of the hundred flags in /proc/cpuinfo, those that decide which kernels can run.
_FEATURES = re.compile(r"sse4_[12]|avx\w*|fma|f16c|amx_\w+|asimd\w*|sve\w*|i8mm|bf16|neon")


def cpu_model() -> str:
    """The processor's name as the system gives it, on x86 with the family and model that tell generations apart."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name} (family {family}, model {model})" if family and model else name


def cpu_features() -> list[str]:
    """Vector instruction sets that the system reports, sorted; empty where it reports none."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return sorted(flag for flag in flags if _FEATURES.fullmatch(flag))


def load_average() -> float | None:
    """Processes that wanted to run, averaged over the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() == key), "")
