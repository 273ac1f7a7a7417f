"""The PyTorch model with what an artifact rounds rounded too, so that the two can be compared closely."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aerogel.errors import ExportError
from aerogel.export.embeddings import Table
from aerogel.export.plan import FP32, StoragePlan
from aerogel.export.reference_model import ReferenceModel
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["round_activations", "rounded"]


def rounded(
    source: ReferenceModel, plan: Mapping[str, StoragePlan], tables: Mapping[str, Table]
) -> ReferenceModel:
    """A source with the values that matrices and tables have as they are stored.

    `source` is left as it is, and returned where nothing is rounded.
    """
    import torch

    values: dict[str, np.ndarray] = {
        name: choice.rounded() for name, choice in plan.items() if choice.weights != FP32
    }
    values |= {name: table.rounded for name, table in tables.items() if table.weights != FP32}
    if not values:
        return source
    model = copy.deepcopy(source.model)
    for name, value in values.items():
        model.get_parameter(name).data = torch.from_numpy(value)
    return replace(source, model=model)


def round_activations(source: ReferenceModel, plan: Mapping[str, StoragePlan]) -> None:
    """Make the layers of `source` round their inputs as the kernels of the plan's matrices do. In place.

    Raises:
        ExportError: such a layer is no `torch.nn.Linear`.
    """
    import torch

    for name, choice in plan.items():
        if not VALUE_TYPES.get(choice.weights).rounds_activations:
            continue
        layer = source.model.get_submodule(name.rpartition(".")[0])
        if not isinstance(layer, torch.nn.Linear):
            raise ExportError(
                f"{name} is of a {type(layer).__name__}, whose input cannot be rounded; export with --weights fp32"
            )
        layer.register_forward_pre_hook(_rounding(choice.weights))


def _rounding(weights: str) -> Callable[[Any, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
    """A hook that rounds the input of a linear layer."""
    kind = VALUE_TYPES.get(weights)
    return lambda _, inputs: (kind.activations(inputs[0]),)
