"""Masks of attention, however a model computes them from ``attention_mask``, as one additive mask for all layers.

What is added to the scores is evaluated on masks of several sizes, among them all masks of three tokens. It is a mask
of the keys if it is 0 at real keys and at most `MASKED` at others, for every real query; what a padding token attends
to does not matter. With `MASKED` added, exp underflows to 0 in float32 unless scores differ by thousands.

``Where(masked, lowest, scores)`` becomes a sum as well, and ``Where(IsNaN(p), 0, p)`` after the Softmax goes: with this
mask no real token has a row without a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aerogel.export.build import Builder
from aerogel.export.dims import Dims
from aerogel.export.fusions._attention import added_mask
from aerogel.export.fusions._graph import Mismatch, scalar
from aerogel.export.key_mask import NAME, additive, counted, given
from aerogel.export.pattern import Pattern
from aerogel.export.patterns._probe import Probe, probe

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

__all__ = ["MASKED", "PATTERN", "AttentionMask"]

MASKED = -9999.0
"""The largest number that masks a key: BERT's -10,000, within rounding."""


class AttentionMask(Pattern):
    """See the module's docstring."""

    def apply(self, model: ir.Model) -> int:
        """See `Pattern.apply`."""
        found = next((value for value in model.graph.inputs if value.name == NAME), None)
        if found is None:
            return 0
        masks = _Masks(model, found)
        return sum(masks.replace(node) for node in list(model.graph) if _normalizes_scores(node))


class _Masks:
    """The masks of one model; each form is built once, at the beginning of the graph."""

    def __init__(self, model: ir.Model, mask: ir.Value) -> None:
        self._model, self._mask = model, mask
        self._dims = Dims(model.graph)
        self._built: dict[str, ir.Value] = {}
        self._forms: dict[tuple[ir.Value, int], str | None] = {}

    def replace(self, softmax: ir.Node) -> int:
        """Let `softmax` read scores with a mask in our form; 1 if it did not before."""
        value = softmax.inputs[0]
        node = value.producer() if value is not None else None
        if node is None or node.domain:
            return 0
        if node.op_type == "Add" and not _is_ours(node):
            for index in (0, 1):
                if form := self._form(node.inputs[index], 0, lambda found: found):
                    node.replace_input_with(index, self._additive(form))
                    _drop_nan_guard(softmax)
                    return 1
        if node.op_type == "Where":
            return self._replace_choice(node, softmax)
        return 0

    def _replace_choice(self, where: ir.Node, softmax: ir.Node) -> int:
        """``Where(condition, number, scores)`` or ``Where(condition, scores, number)`` as a sum."""
        for index, scores in ((1, where.inputs[2]), (2, where.inputs[1])):
            number = scalar(where.inputs[index])
            if number is None or number > MASKED or scores is None:
                continue
            one, two = (number, 0.0) if index == 1 else (0.0, number)
            form = self._form(where.inputs[0], index, _choice(one, two))
            if form:
                build = Builder()
                total = build.op("Add", scores, self._additive(form))
                build.nodes[-1].name = where.name
                total.type, total.shape = where.outputs[0].type, where.outputs[0].shape
                self._model.graph.insert_before(where, build.nodes)
                softmax.replace_input_with(0, total)
                _drop_nan_guard(softmax)
                return 1
        return 0

    def _form(
        self, value: ir.Value | None, use: int, added: Callable[[np.ndarray], np.ndarray]
    ) -> str | None:
        """Which mask `value` is, as "given" or "counted"; None if it is neither.

        Args:
            value: what is added to the scores, or chooses what is added.
            use: tells apart the ways in which a value is used.
            added: what is added to the scores, of the value.
        """
        if value is None:
            return None
        if (value, use) not in self._forms:
            probes = probe(value, self._model, self._dims)
            forms = {"given": lambda mask: mask, "counted": _counted_of} if probes else {}
            self._forms[value, use] = next(
                (
                    name
                    for name, real in forms.items()
                    if all(_masks_keys(each, real(each.mask), added) for each in probes or ())
                ),
                None,
            )
        return self._forms[value, use]

    def _additive(self, form: str) -> ir.Value:
        if form not in self._built:
            build = Builder()
            mask = (given if form == "given" else counted)(build, self._mask)
            self._built[form] = additive(build, mask)
            first = next(iter(self._model.graph))
            self._model.graph.insert_before(first, build.nodes)
        return self._built[form]


def _choice(one: float, two: float) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives `one` where its argument is true, and `two` elsewhere."""

    def choose(chosen: np.ndarray) -> np.ndarray:
        return np.where(chosen, one, two)

    return choose


def _is_ours(add: ir.Node) -> bool:
    """Whether an Add has a mask that the fusions read."""
    try:
        added_mask(add)
    except Mismatch:
        return False
    return True


def _masks_keys(each: Probe, real: np.ndarray, added: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether what is added is a mask of the keys `real`, for every query of `real`."""
    batch, length = real.shape
    values = added(each.found)
    heads = values.shape[1] if values.ndim == 4 else 1
    try:
        values = np.broadcast_to(values, (batch, heads, length, length))
    except ValueError:
        return False
    queries = np.broadcast_to(real[:, None, :, None], values.shape)
    keys = np.broadcast_to(real[:, None, None, :], values.shape)
    return bool((values[queries & keys] == 0).all() and (values[queries & ~keys] <= MASKED).all())


def _counted_of(mask: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.arange(mask.shape[1]) < mask.sum(axis=1, keepdims=True)
    return counts


def _normalizes_scores(node: ir.Node) -> bool:
    shape = node.outputs[0].shape
    return node.op_type == "Softmax" and not node.domain and shape is not None and len(shape) == 4


def _drop_nan_guard(softmax: ir.Node) -> None:
    """Let readers of ``Where(IsNaN(p), 0, p)`` read p."""
    p = softmax.outputs[0]
    users = {use.node.op_type: use.node for use in p.uses()}
    guard, test = users.get("Where"), users.get("IsNaN")
    if guard is None or test is None or guard.inputs[0] is not test.outputs[0] or guard.inputs[2] is not p:
        return
    if scalar(guard.inputs[1]) == 0 and not guard.outputs[0].is_graph_output():
        guard.outputs[0].replace_all_uses_with(p)


PATTERN = AttentionMask()
