"""Number of cores that this process may use, and environment variables for thread pools.

Uses the standard library only: commands call `set_thread_variables` before they import torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["cores", "physical_cores", "set_thread_variables", "thread_variables", "user_environment"]

# Iterations that a thread of GCC's OpenMP spins at a barrier before it sleeps: about 0.1 ms, the cost of sleeping and
# waking. The default, 5 to 15 ms, takes that time from other processes on the core.
_GOMP_SPINS = "2000"
# Milliseconds that a thread of Intel's or LLVM's OpenMP spins; the default is 200.
_KMP_MILLISECONDS = "1"

# Variables set by this process, not by the user; child processes may need other values.
_own: set[str] = set()


def cores(root: Path = Path("/")) -> int:
    """Logical processors that this process may use, at least 1.

    This is the smallest of three limits: the processors of the machine, the affinity of this process, and the CPU quota
    of its control groups, rounded down.

    Args:
        root: folder with ``proc`` and ``sys``.
    """
    return max(1, int(min(len(_allowed()), _quota(root))))


def physical_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may use, at least 1. Hyperthreads share the vector units of their core."""
    siblings = set()
    for cpu in _allowed():
        try:
            file = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            siblings.add(file.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            siblings.add(str(cpu))
    return max(1, int(min(len(siblings), _quota(root))))


def thread_variables(
    environment: Mapping[str, str], processes: int = 1, root: Path = Path("/")
) -> dict[str, str]:
    """Environment variables for the thread pools of PyTorch and tokenizers, without those that the user has set.

    Waiting threads spin only briefly, so that a busy neighbour costs its share of the time and not many times that. The
    number of threads is set only if the libraries, which ignore quotas, would start too many.

    Args:
        environment: variables of the process.
        processes: number of processes that share the cores.
        root: folder with ``proc`` and ``sys``.
    """
    wanted: dict[str, str] = {}
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        wanted["GOMP_SPINCOUNT"] = _GOMP_SPINS
    if not {"OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & environment.keys():
        wanted["KMP_BLOCKTIME"] = _KMP_MILLISECONDS
    count = max(1, cores(root) // processes)
    if count < len(_allowed()):
        names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
        wanted |= {name: str(count) for name in names if name not in environment}
    return wanted


def set_thread_variables(processes: int = 1) -> None:
    """Set `thread_variables` in this process, for libraries that are loaded later and for child processes."""
    found = thread_variables(os.environ, processes)
    os.environ.update(found)
    _own.update(found)


def user_environment() -> dict[str, str]:
    """The environment without the variables that `set_thread_variables` set."""
    return {name: value for name, value in os.environ.items() if name not in _own}


def _allowed() -> set[int]:
    """Numbers of the logical processors in the affinity of this process."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota(root: Path) -> float:
    """CPU quota of this process's control groups, in processors; infinite without a limit."""
    return min((limit for folder in _groups(root) for limit in _limits(folder)), default=math.inf)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the CPU control groups of this process and of their ancestors.

    In a container, the group names may be the host's; the container's own group is then the root of the mount.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (
            (mounts, mounts / "unified") if not controllers else (mounts / "cpu", mounts / controllers)
        ):
            group = mount / name.strip("/")
            yield group
            yield from (folder for folder in group.parents if folder.is_relative_to(mount))


def _limits(group: Path) -> Iterator[float]:
    """CPU quotas in a group's folder, in processors: cpu.max (version 2) or cpu.cfs_quota_us (version 1)."""
    for texts in (
        _words(group / "cpu.max"),
        _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us"),
    ):
        if len(texts) == 2 and all(text.isdecimal() for text in texts) and int(texts[1]):
            yield int(texts[0]) / int(texts[1])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []
