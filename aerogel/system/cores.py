"""How many cores this process may use, and how OpenMP's threads wait for one another.

Python standard library only: commands call `set_thread_variables` before anything heavy is imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["cores", "physical_cores", "set_thread_variables", "thread_variables", "user_environment"]

# Iterations that an OpenMP thread of GCC spins at a barrier before it sleeps: about 0.1 ms, what sleeping and waking
# cost. Its own default spins for 5 to 15 ms, which another process on the same core could have used.
_GOMP_SPINS = "2000"
# Milliseconds that a thread of Intel's or LLVM's OpenMP spins; its own default is 200.
_KMP_MILLISECONDS = "1"

# Variables that this process has set itself: a child process may be given other values.
_own: set[str] = set()


def cores(root: Path = Path("/")) -> int:
    """Processors that this process may use at the same time, at least 1.

    The smallest of three limits counts: the processors of the machine, the affinity of this process, and the CPU quota
    of its control groups, rounded down.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    return max(1, int(min(len(_allowed()), _quota(root))))


def physical_cores(root: Path = Path("/")) -> int:
    """The same, where the hyperthreads of a core count as one: two of them share its vector units."""
    siblings = set()
    for cpu in _allowed():
        try:
            file = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            siblings.add(file.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            siblings.add(str(cpu))
    return max(1, int(min(len(siblings), _quota(root))))


def thread_variables(
    environment: Mapping[str, str], shares: int = 1, root: Path = Path("/")
) -> dict[str, str]:
    """Variables that make the threads of PyTorch and tokenizers fit a process, other than those that the user has set.

    Threads spin only briefly where they wait, so that a busy neighbour costs its share of the time and not many times
    that. The number of threads is set only where the libraries would count too many: they ignore quotas.

    Args:
        environment: of the process.
        shares: processes that share the cores.
        root: as for `cores`.
    """
    wanted: dict[str, str] = {}
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        wanted["GOMP_SPINCOUNT"] = _GOMP_SPINS
    if not {"OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & environment.keys():
        wanted["KMP_BLOCKTIME"] = _KMP_MILLISECONDS
    count = max(1, cores(root) // shares)
    if count < len(_allowed()):
        names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
        wanted |= {name: str(count) for name in names if name not in environment}
    return wanted


def set_thread_variables(shares: int = 1) -> None:
    """Set `thread_variables` in this process; libraries that are loaded later see them, and child processes."""
    found = thread_variables(os.environ, shares)
    os.environ.update(found)
    _own.update(found)


def user_environment() -> dict[str, str]:
    """The environment without what `set_thread_variables` has put there."""
    return {name: value for name, value in os.environ.items() if name not in _own}


def _allowed() -> set[int]:
    """Numbers of the processors that the affinity of this process allows."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota(root: Path) -> float:
    """Processors' worth of time that the control groups of this process grant, infinite without a limit."""
    return min((granted for folder in _groups(root) for granted in _limits(folder)), default=math.inf)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups of this process that limit processors, and of all groups around them.

    In a container the names of the groups may be those of the host: its own group then is the mounted root.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (
            (mounts, mounts / "unified") if not controllers else (mounts / "cpu", mounts / controllers)
        ):
            group = mount / name.strip("/")
            yield group
            yield from (folder for folder in group.parents if folder.is_relative_to(mount))


def _limits(group: Path) -> Iterator[float]:
    """Limits that a group's folder states, of version 2 (cpu.max) or 1 (cpu.cfs_quota_us)."""
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
