"""Predict the speed of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aerogel.checkpoint import read_config
from aerogel.cost.model import CostModel
from aerogel.cost.predict import WORKLOAD, Entry, Workload, encoder_shape, predict, unknown
from aerogel.export.plan import DENSE, StoragePlan
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["EncoderForm", "form_of", "predicted"]

_ENCODER = "Encoder_v1"


class EncoderForm(NamedTuple):
    """How a model contains its encoder.

    Attributes:
        fused: as one node.
        first_token_only: the last layer computes only the first token of each sequence.
    """

    fused: bool
    first_token_only: bool = False


def form_of(model: ir.Model, fused: bool) -> EncoderForm:
    """How a rewritten graph contains its encoder; `fused` says whether all layers were fused."""
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, _ENCODER)]
    return EncoderForm(
        fused and bool(nodes), any(node.attributes["tokens"].as_string() == "first" for node in nodes)
    )


def predicted(
    cost_model: CostModel | str,
    plan: Mapping[str, StoragePlan],
    checkpoint: Path,
    form: EncoderForm,
    workload: Workload = WORKLOAD,
) -> dict[str, Any]:
    """Predict the speed of a storage plan; returns the document of `aerogel.cost.predict.predict`.

    Args:
        cost_model: the cost model of this machine, or the reason for its absence.
        plan: storage of the pruned matrices by name.
        checkpoint: directory that the matrices are from.
        form: how the model contains its encoder.
        workload: what is run.
    """
    if not any(choice.product or choice.arrays for choice in plan.values()):
        return unknown("nothing is packed")
    if isinstance(cost_model, str):
        return unknown(cost_model)
    entries = {
        name: Entry(choice.shape, choice.product, choice.format != DENSE) for name, choice in plan.items()
    }
    return predict(
        cost_model,
        entries,
        encoder_shape(read_config(checkpoint)),
        fused=form.fused,
        first_token_only=form.first_token_only,
        workload=workload,
    )
