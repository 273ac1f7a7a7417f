"""Tiles measured on the device at hand, kept in a file between runs.

Nothing is measured unasked: a wrapper looks up what `tune` has stored for a case and otherwise takes the tiles that its
own rules choose. A case is an operation, a shape (tokens rounded up to a power of two, density to the nearest of 20
steps), a dtype, a device and a version of Triton.

The file is ``tiles.json`` in the folder that ``AEROGEL_CACHE`` names, or else in ``aerogel`` of the user's cache. It is
taken as hostile: one that is not as `tune` writes it is refused as a whole, with a warning that names it, and only
tiles that are among a kernel's own candidates are ever launched.
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
    """What tiles are measured for.

    Attributes:
        operation: file name of the kernel.
        shape: (out, in) of the weight.
        block: (r, c), (1, 1) where there are none.
        tokens: rows of x, of any number: cases are told apart by the next power of two.
        density: entries stored over all.
        dtype: as torch calls it.
    """

    operation: str
    shape: tuple[int, int]
    block: tuple[int, int]
    tokens: int
    density: float
    dtype: str

    def key(self, device: Device) -> str:
        """The case on a device, as one line of text."""
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
    """Where tiles are kept."""
    return cache_folder() / "tiles.json"


def stored(case: Case, device: Device, allowed: Callable[[], Iterable[T]]) -> T | None:
    """Tiles that were measured for a case; None where none were, or not one of those `allowed`, or in the interpreter.

    `allowed` is called only if the file has an entry for the case.
    """
    if interpreted():
        return None
    return _lookup(case, device, _Hidden(allowed))


def tune(case: Case, device: Device, candidates: Iterable[T], run: Callable[[T], Any]) -> T:
    """Run every candidate, store the fastest for the case, and return it.

    Args:
        case: what they are for.
        device: where.
        candidates: tiles, of one class; at least one.
        run: launches a candidate. One that the device has no room for may raise triton's OutOfResources; it then
            counts for nothing.

    Raises:
        UsageError: no candidate could be run.
        OutputError: the file cannot be written.
    """
    times: dict[T, float] = {}
    for tiles in candidates:
        try:
            times[tiles] = measure(functools.partial(run, tiles))
        except triton.runtime.errors.OutOfResources:
            continue
    if not times:
        raise UsageError(f"none of the tiles tried fits {device.name} for {case}; name others")
    best = min(times, key=times.__getitem__)
    path = cache_file()
    # Read again: another process may have added to the file since.
    forget()
    entries: dict[str, Any] = {**_read(path), case.key(device): asdict(best)}  # type: ignore[call-overload]
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps({"version": _VERSION, "tiles": entries}, indent=1, sort_keys=True) + "\n"
        )
    forget()
    return best


def measure(run: Callable[[], Any]) -> float:
    """Median milliseconds of a run on the GPU, by its own clock."""
    return float(triton.testing.do_bench(run, return_mode="median"))


def forget() -> None:
    """Read the file anew when it is next asked."""
    _read.cache_clear()
    _lookup.cache_clear()


class _Hidden(Generic[T]):
    """A function that does not count when arguments are compared."""

    def __init__(self, function: Callable[[], Iterable[T]]) -> None:
        self.function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


# Asked at every call of a layer: building the key alone would take as long as a launch.
@functools.lru_cache(maxsize=4096)
def _lookup(case: Case, device: Device, allowed: _Hidden[T]) -> T | None:
    found = _read(cache_file()).get(case.key(device))
    if found is None:
        return None
    return next((tiles for tiles in allowed.function() if asdict(tiles) == found), None)  # type: ignore[call-overload]


@functools.cache
def _read(path: Path) -> dict[str, dict[str, int]]:
    """Entries of the file by their keys; none where it does not exist or is not as it should be."""
    try:
        document = read(path, {"version": int, "tiles": dict})
        if document["version"] != _VERSION:
            return _refuse(path, f"is of version {document['version']}, not {_VERSION}")
        if len(document) != 2:
            raise MalformedJsonError("it has unknown fields")
        entries: dict[str, dict[str, int]] = check(document["tiles"], Each(Each(int)), "tiles")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return _refuse(path, f"cannot be read ({type(error).__name__})")
    except MalformedJsonError as error:
        return _refuse(path, f"is no cache of tiles ({error})")
    return entries


def _refuse(path: Path, why: str) -> dict[str, dict[str, int]]:
    warnings.warn(f"{path} {why} and is not used; delete it", stacklevel=2)
    return {}
