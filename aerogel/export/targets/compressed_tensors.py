"""Target "compressed-tensors": a transformers folder in the layout of `aerogel.checkpoint.bitmask`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.checkpoint.bitmask import FORMAT, decode_bitmask_tensors, encode_bitmask
from aerogel.errors import UsageError, require
from aerogel.export.plan import FP32
from aerogel.export.state import StateTarget

if TYPE_CHECKING:
    from aerogel.export.config import ExportConfig
    from aerogel.export.plan import StoragePlan

__all__ = ["TARGET"]

# A bit for each weight pays below 31/32 of float32 values; above this, zeros are accidents.
_MOST_KEPT = 0.95
# The last release of compressed-tensors that decompresses this layout writes this version.
_VERSION = "0.10.2"


class CompressedTensors(StateTarget):
    """See the module's docstring."""

    suffix = ""
    layouts = ("checkpoint",)

    def check_options(self, config: ExportConfig) -> None:
        """See `Target.check_options`."""
        super().check_options(config)
        if config.weights != FP32:
            raise UsageError(f"--weights {config.weights}: {FORMAT} stores the model's own values; omit it")

    def write(
        self, path: Path, parameters: Mapping[str, np.ndarray], plan: Mapping[str, StoragePlan]
    ) -> None:
        """See `StateTarget.write`."""
        tensors: dict[str, np.ndarray] = {}
        for name, value in parameters.items():
            if name in _sparse(plan):
                module = name.removesuffix(".weight")
                tensors |= {f"{module}.{part}": array for part, array in encode_bitmask(value).items()}
            else:
                tensors[name] = np.ascontiguousarray(value)
        require("safetensors.numpy", "export").save_file(tensors, path, metadata={"format": "pt"})

    def read(self, path: Path) -> Mapping[str, np.ndarray]:
        """See `StateTarget.read`."""
        return decode_bitmask_tensors(path)

    def config_json(self, content: bytes, plan: Mapping[str, StoragePlan]) -> bytes:
        """See `StateTarget.config_json`: adds ``quantization_config``, where transformers looks for the layout."""
        document: dict[str, Any] = json.loads(content)
        sparse = _sparse(plan)
        sizes = [choice.weight.size for choice in plan.values()]
        kept = sum(choice.kept for choice in plan.values())
        document["quantization_config"] = {
            "quant_method": "compressed-tensors",
            "version": _VERSION,
            "sparsity_config": {
                "format": FORMAT,
                "global_sparsity": round(1 - kept / sum(sizes), 6) if sizes else 0.0,
                "sparsity_structure": "unstructured",
                "targets": [name.removesuffix(".weight") for name in sparse],
                "ignore": [],
            },
        }
        return (json.dumps(document, indent=2) + "\n").encode()


def _sparse(plan: Mapping[str, StoragePlan]) -> list[str]:
    """Names of the matrices that are stored as bitmask and values."""
    return [
        name for name, choice in plan.items() if choice.density <= _MOST_KEPT and name.endswith(".weight")
    ]


TARGET = CompressedTensors()
