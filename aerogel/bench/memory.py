"""Memory of this process, in bytes."""

from __future__ import annotations

from pathlib import Path

from aerogel.errors import require

__all__ = ["peak", "resident"]

# Linux. Reading this file avoids psutil, whose import would add to the measured memory.
_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Return the resident set size (RSS) of this process."""
    if _STATUS.exists():
        return _status("VmRSS")
    return int(require("psutil", "bench").Process().memory_info().rss)


def peak() -> int:
    """Return the largest RSS that this process has had."""
    if _STATUS.exists():
        return _status("VmHWM")
    memory = require("psutil", "bench").Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource

    # macOS reports bytes here, Linux kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024  # the unit kB in this file means 1024 bytes
    raise OSError(f"{_STATUS} has no {name}")
