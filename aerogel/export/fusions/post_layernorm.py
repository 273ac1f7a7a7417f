"""Encoders of post-LayerNorm layers (BERT, RoBERTa, ELECTRA, DistilBERT and others) as one ``Encoder_v1`` node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aerogel.export.fusion import Fused, Fusion
from aerogel.export.fusions._encoder import encoder_call, encoder_function, reads_first_token_only
from aerogel.export.fusions._graph import Mismatch
from aerogel.export.fusions._layer import Layer, match_layer
from aerogel.ops.linear_function import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FUSION", "PostLayerNorm"]


class PostLayerNorm(Fusion):
    """See the module's docstring."""

    def fuse(self, model: ir.Model) -> Fused:
        """Replace the longest run of consecutive layers. See `Fusion.fuse`."""
        import onnx_ir.passes.common as passes

        run, found, reason = _longest_run(model.graph)
        if not run:
            return Fused(0, found, reason)
        last = run[-1].y
        first_token_only = reads_first_token_only(last)
        function = encoder_function(run, model.graph, first_token_only=first_token_only)
        call = encoder_call(run, first_token_only=first_token_only)
        model.functions[function.identifier()] = function
        model.graph.opset_imports[DOMAIN] = 1
        producer = last.producer()
        assert producer is not None  # the last node of the layer
        call.outputs[0].name, last.name = last.name, None
        model.graph.insert_after(producer, call)
        last.replace_all_uses_with(call.outputs[0], replace_graph_outputs=True)
        passes.RemoveUnusedNodesPass()(model)
        return Fused(len(run), found, reason)


def _longest_run(graph: ir.Graph) -> tuple[list[Layer], int, str]:
    """The longest run of consecutive layers, the number of layers, and why the first other layer does not match."""
    runs: list[list[Layer]] = [[]]
    first_reason = ""
    attentions = [node for node in graph if _is_attention(node)]
    for number, softmax in enumerate(attentions):
        try:
            layer = match_layer(softmax)
            reason = _gap(runs[-1][-1], layer) if runs[-1] else ""
        except Mismatch as mismatch:
            first_reason = first_reason or f"layer {number}: {mismatch}"
            runs.append([])
            continue
        if reason:
            first_reason = first_reason or f"layer {number}: {reason}"
            runs.append([])
        runs[-1].append(layer)
    if not attentions:
        first_reason = "the model has no attention"
    return max(runs, key=len), len(attentions), first_reason


def _is_attention(node: ir.Node) -> bool:
    """Whether a node is a Softmax over scores ``[batch, heads, sequence, sequence]``."""
    shape = node.outputs[0].shape
    return node.op_type == "Softmax" and not node.domain and shape is not None and len(shape) == 4


def _gap(before: Layer, layer: Layer) -> str:
    """Why `layer` cannot follow `before` in one node; empty if it can."""
    x = layer.attention.x
    if x is not before.y:
        return f"reads {x.name}, not {before.y.name}, the output of the previous layer"
    one, two = _settings(before), _settings(layer)
    if one != two:
        return f"has {two}, the previous layer {one}"
    if before.y.is_graph_output() or any(use.node not in layer.nodes for use in before.y.uses()):
        return f"is not the only reader of {before.y.name}, the output of the previous layer"
    return ""


def _settings(layer: Layer) -> str:
    """The attributes of ``Encoder_v1`` that all its layers must share, as text."""
    return f"{layer.attention.heads} heads, epsilon {layer.epsilon} and {layer.activation}"


FUSION = PostLayerNorm()
