"""The machine and the code that a cost model applies to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from aerogel.kernels.cpu import native
from aerogel.kernels.cpu.library import library_path
from aerogel.system.atomic_io import sha256
from aerogel.system.machine import cpu_model
from aerogel.system.threads import check_threads
from aerogel.system.versions import versions

__all__ = ["Machine", "this_machine"]

# Floats in a vector, by prefix of the instruction set's name; 4 for any other.
_WIDTHS = (("avx512", 16), ("avx", 8))


@dataclass(frozen=True)
class Machine:
    """Everything that a cost model depends on; if one field changes, the machine must be calibrated again.

    Attributes:
        cpu: the processor's name.
        isa: instruction set of the kernels.
        library: SHA-256 of the native library.
        onnxruntime: version of ONNX Runtime, whose dense products are measured.
        threads: threads of a session.
    """

    cpu: str
    isa: str
    library: str
    onnxruntime: str
    threads: int

    @property
    def key(self) -> str:
        """Hash of all fields, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def vector_width(self) -> int:
        """Tokens that the kernels process in one vector."""
        return next((width for prefix, width in _WIDTHS if self.isa.startswith(prefix)), 4)


def this_machine(threads: int) -> Machine:
    """This machine, with sessions of `threads` threads.

    Raises:
        UsageError: `threads` is not a valid number of threads, or AEROGEL_ISA names an unavailable instruction set.
        RuntimeLoadError: the native library is not built.
    """
    check_threads(threads, "--threads")
    library = Path(library_path())
    return Machine(
        cpu_model(),
        native.selected(),
        sha256(library),
        versions(["onnxruntime"])["onnxruntime"] or "",
        threads,
    )
