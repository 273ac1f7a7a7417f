"""Target "safetensors": a sparse checkpoint in one file (`aerogel.checkpoint.sparse_file`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerogel.checkpoint.sparse_file import read_sparse_file, write_sparse_file
from aerogel.export.plan import DENSE
from aerogel.export.state import StateTarget

if TYPE_CHECKING:
    from aerogel.export.plan import StoragePlan

__all__ = ["TARGET"]


class Safetensors(StateTarget):
    """See the module's docstring."""

    suffix = ".safetensors"
    layouts = ("checkpoint",)

    def write(
        self, path: Path, parameters: Mapping[str, np.ndarray], plan: Mapping[str, StoragePlan]
    ) -> None:
        """See `StateTarget.write`."""
        packed = {
            name: (choice.format, choice.shape, choice.arrays)
            for name, choice in plan.items()
            if choice.format != DENSE
        }
        write_sparse_file(path, {name: v for name, v in parameters.items() if name not in packed}, packed)

    def read(self, path: Path) -> Mapping[str, np.ndarray]:
        """See `StateTarget.read`."""
        return read_sparse_file(path)


TARGET = Safetensors()
