"""Measure tiles on the current device and keep the fastest in a file.

Only `tune` measures. A wrapper uses the tiles that `tune` stored for a case, and otherwise the tiles that its own rules
choose. A case is an operation, a shape (tokens rounded up to a power of two, density rounded to 1/20), a dtype, a
device and a version of Triton.

The file is ``tiles.json`` in the directory ``AEROGEL_CACHE`` or, if that is not set, in ``aerogel`` of the user's
cache. It is untrusted: a malformed file is ignored as a whole, with a warning, and only tiles from a kernel's
candidates are ever launched.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import triton

from aerogel.errors import UsageError
from aerogel.kernels.triton.launch import Device, interpreted
from aerogel.system.atomic_io import atomic_file
from aerogel.system.cache import cache_folder
from aerogel.system.json_fields import Each, MalformedJsonError, check, read

__all__ = ["Case", "cache_file", "forget", "measure", "stored", "tune"]

_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """The case that tiles are measured for.

    Attributes:
        operation: module name of the kernel.
        shape: (out, in) of the weight.
        block: (r, c) of the stored blocks; (1, 1) without blocks.
        tokens: rows of x; the key has the next power of two.
        density: stored fraction.
        dtype: torch's name of the dtype.
    """

    operation: str
    shape: tuple[int, int]
    block: tuple[int, int]
    tokens: int
    density: float
    dtype: str

    def key(self, device: Device) -> str:
        """Return the key of the case on a device, as one line of text."""
        return " ".join(
            (
                self.operation,
                "x".join(map(str, self.shape)),
                "x".join(map(str, self.block)),
                f"t{triton.next_power_of_2(max(1, self.tokens))}",
                f"d{round(self.density * 20)}",
                self.dtype,
                f"triton-{triton.__version__}",
                device.name,
            )
        )


def cache_file() -> Path:
    """Return the path of the tile cache."""
    return cache_folder() / "tiles.json"


def stored(case: Case, device: Device, allowed: Callable[[], Iterable[T]]) -> T | None:
    """Look up the tiles measured for a case.

    Args:
        case: the case.
        device: the device.
        allowed: returns the valid tiles; called only if the file has an entry for the case.

    Returns:
        The tiles; None without a measurement, if they are not among `allowed`, and in the interpreter.
    """
    if interpreted():
        return None
    return _lookup(case, device, _Hidden(allowed))


def tune(case: Case, device: Device, candidates: Iterable[T], run: Callable[[T], Any]) -> T:
    """Run every candidate, store the fastest for the case, and return it.

    Args:
        case: the case.
        device: the device.
        candidates: tiles of one class, at least one.
        run: launches a candidate. A candidate that raises triton's OutOfResources is skipped.

    Raises:
        UsageError: no candidate fits the device.
        OutputError: the file cannot be written.
    """
    times: dict[T, float] = {}
    for tiles in candidates:
        try:
            times[tiles] = measure(functools.partial(run, tiles))
        except triton.runtime.errors.OutOfResources:
            continue
    if not times:
        raise UsageError(f"no candidate tiles fit {device.name} for {case}; pass tiles explicitly")
    best = min(times, key=times.__getitem__)
    path = cache_file()
    # Read again, because another process may have changed the file.
    forget()
    entries: dict[str, Any] = {**_read(path), case.key(device): asdict(best)}  # type: ignore[call-overload]
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps({"version": _VERSION, "tiles": entries}, indent=1, sort_keys=True) + "\n"
        )
    forget()
    return best


def measure(run: Callable[[], Any]) -> float:
    """Return the median milliseconds of a run, by the GPU's clock."""
    return float(triton.testing.do_bench(run, return_mode="median"))


def forget() -> None:
    """Drop the cached contents, so that the next lookup reads the file again."""
    _read.cache_clear()
    _lookup.cache_clear()


class _Hidden(Generic[T]):
    """A function that ``lru_cache`` ignores when it compares arguments."""

    def __init__(self, function: Callable[[], Iterable[T]]) -> None:
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


# Cached, because every call of a layer looks up its tiles, and building the key alone takes as long as a launch.
@functools.lru_cache(maxsize=4096)
def _lookup(case: Case, device: Device, allowed: _Hidden[T]) -> T | None:
    found = _read(cache_file()).get(case.key(device))
    if found is None:
        return None
    return next((tiles for tiles in allowed.function() if asdict(tiles) == found), None)  # type: ignore[call-overload]


@functools.cache
def _read(path: Path) -> dict[str, dict[str, int]]:
    """Read the entries of the file by key; none if it does not exist or is malformed."""
    try:
        document = read(path, {"version": int, "tiles": dict})
        if document["version"] != _VERSION:
            return _reject(path, f"has version {document['version']}, not {_VERSION},")
        if len(document) != 2:
            raise MalformedJsonError("it has unknown fields")
        entries: dict[str, dict[str, int]] = check(document["tiles"], Each(Each(int)), "tiles")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return _reject(path, f"cannot be read ({type(error).__name__})")
    except MalformedJsonError as error:
        return _reject(path, f"is not a cache of tiles ({error})")
    return entries


def _reject(path: Path, reason: str) -> dict[str, dict[str, int]]:
    warnings.warn(f"{path} {reason} and is ignored; delete it", stacklevel=2)
    return {}
