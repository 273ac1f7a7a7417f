"""What an export predicts of the speed of its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint import read_config
from aerogel.cost.model import CostModel
from aerogel.cost.predict import WORKLOAD, Entry, Form, Workload, encoder_shape, predict, unknown
from aerogel.export.plan import DENSE, StoragePlan
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["form_of", "predicted"]

_ENCODER = "Encoder_v1"


def form_of(model: ir.Model, fused: bool) -> Form:
    """How a rewritten graph carries its encoder; `fused` says whether all of its layers are one node."""
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, _ENCODER)]
    return Form(
        fused and bool(nodes), any(node.attributes["tokens"].as_string() == "first" for node in nodes)
    )


def predicted(
    calibration: CostModel | str,
    plan: Mapping[str, StoragePlan],
    checkpoint: Path,
    form: Form,
    setting: Workload = WORKLOAD,
) -> dict[str, Any]:
    """The document of `aerogel.cost.predict.predict` for a plan.

    Args:
        calibration: what predicts, or the reason why there is none.
        plan: the pruned matrices.
        checkpoint: the directory they are from.
        form: how they are carried.
        setting: what is run.
    """
    if not any(choice.product or choice.arrays for choice in plan.values()):
        return unknown("nothing is packed")
    if isinstance(calibration, str):
        return unknown(calibration)
    config = read_config(checkpoint)
    entries = {
        name: Entry(choice.shape, choice.product, choice.format != DENSE) for name, choice in plan.items()
    }
    return predict(calibration, entries, encoder_shape(config), form, setting)
