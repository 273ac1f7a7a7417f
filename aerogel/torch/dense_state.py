"""Save sparse layers in state dicts as a dense ``weight``, which any program can read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.errors import FormatError

__all__ = ["DenseState", "as_numpy"]


class DenseState(nn.Module):
    """A module whose state dict contains one dense ``weight`` ``[out, in]`` instead of the packed arrays.

    So ``save_pretrained`` and ``torch.save(model.state_dict())`` write the same as the dense model, and a state dict of
    the dense model can be loaded: the layer packs its nonzero weights. A state dict with the packed arrays is loaded
    unchanged.
    """

    in_features: int
    out_features: int

    @property
    @abstractmethod
    def array_names(self) -> tuple[str, ...]:
        """Names of the packed buffers or parameters, which ``weight`` replaces in the state dict; values first."""

    @abstractmethod
    def dense_weight(self) -> torch.Tensor:
        """Return the dense ``[out, in]`` weight, detached."""

    @abstractmethod
    def pack_weight(self, weight: torch.Tensor) -> None:
        """Pack a dense ``[out, in]`` weight; the layer gets its dtype and device.

        Raises:
            AerogelError: the layer cannot store the weight.
        """

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.array_names:
            destination.pop(prefix + name, None)
        destination[prefix + "weight"] = self.dense_weight()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        arrays = {prefix + name for name in self.array_names}
        weight = prefix + "weight"
        if weight not in state_dict and arrays & state_dict.keys():
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
            return
        missing: list[str] = []
        unexpected: list[str] = []
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected, error_msgs
        )
        missing_keys += [name for name in missing if name not in arrays]
        unexpected_keys += [name for name in unexpected if name != weight]
        if weight in state_dict:
            self._load_weight(
                weight, state_dict[weight], bool(local_metadata.get("assign_to_params_buffers"))
            )
        elif strict:
            missing_keys.append(weight)

    def _load_weight(self, name: str, found: Any, assign: bool) -> None:
        shape = [self.out_features, self.in_features]
        if not isinstance(found, torch.Tensor) or list(found.shape) != shape or not found.is_floating_point():
            shown = (
                f"{found.dtype}{list(found.shape)}"
                if isinstance(found, torch.Tensor)
                else type(found).__name__
            )
            raise FormatError(
                f"{name} must be a float tensor {shape}, not {shown}; load a state dict of the same model"
            )
        values = getattr(self, self.array_names[0])
        self.pack_weight(found.detach().to(values.device, found.dtype if assign else values.dtype))


def as_numpy(weight: torch.Tensor) -> np.ndarray:
    """Convert a weight to float32 on the CPU, exactly for smaller types, for the formats that pack there."""
    return weight.float().cpu().numpy()
