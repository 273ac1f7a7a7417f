"""Sparse layers in state dicts: as the dense ``weight`` that any program can read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from aerogel.errors import FormatError

__all__ = ["DenseState", "as_numpy"]


class DenseState(nn.Module):
    """A module whose packed arrays are in its state dict as one dense ``weight`` ``[out, in]``.

    So ``save_pretrained`` and ``torch.save(model.state_dict())`` write what the dense model would, and a state dict of
    the dense model can be loaded. The layer packs it again: what is not zero is kept. State dicts that have the packed
    arrays themselves are loaded as they are.
    """

    in_features: int
    out_features: int

    @property
    @abstractmethod
    def array_names(self) -> tuple[str, ...]:
        """Names of the buffers or parameters that the state dict replaces by ``weight``; values first."""

    @abstractmethod
    def dense_weight(self) -> torch.Tensor:
        """The dense ``[out, in]`` weight, detached."""

    @abstractmethod
    def pack_weight(self, weight: torch.Tensor) -> None:
        """Take the values of a dense ``[out, in]`` weight, of the dtype and on the device that the layer shall have.

        Raises:
            AerogelError: the layer cannot store it.
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
            self._take(weight, state_dict[weight], bool(local_metadata.get("assign_to_params_buffers")))
        elif strict:
            missing_keys.append(weight)

    def _take(self, name: str, found: Any, assign: bool) -> None:
        shape = [self.out_features, self.in_features]
        if not isinstance(found, torch.Tensor) or list(found.shape) != shape or not found.is_floating_point():
            shown = (
                f"{found.dtype}{list(found.shape)}"
                if isinstance(found, torch.Tensor)
                else type(found).__name__
            )
            raise FormatError(
                f"{name} must be a float tensor {shape}, not {shown}; load the state of the same model"
            )
        values = getattr(self, self.array_names[0])
        self.pack_weight(found.detach().to(values.device, found.dtype if assign else values.dtype))


def as_numpy(weight: torch.Tensor) -> np.ndarray:
    """For formats that pack on the CPU: float32, to which smaller types are widened without loss."""
    return weight.float().cpu().numpy()
