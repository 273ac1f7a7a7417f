"""Predict the time of each pruned matrix, and of the whole encoder if its shape is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape
from aerogel.hf.families import config_sizes
from aerogel.hf.names import layer_number

__all__ = ["WORKLOAD", "Entry", "Workload", "encoder_shape", "predict", "unknown"]


@dataclass(frozen=True)
class Workload:
    """What is run: `batch` sequences of `sequence` tokens each, on `threads` threads."""

    threads: int = 1
    batch: int = 1
    sequence: int = 128


WORKLOAD = Workload()
"""The workload that exports predict."""


@dataclass(frozen=True)
class Entry:
    """A pruned matrix of a model.

    Attributes:
        shape: (out, in).
        packed_shape: the matrix as it is or would be packed; None if it was never packed.
        packed: whether the model stores it packed; else dense.
    """

    shape: tuple[int, int]
    packed_shape: PackedShape | None
    packed: bool


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """Shape of the encoder that a config.json describes; None if its layers are not of the predicted kind."""
    sizes = config_sizes(config)
    # Shared layers, or attention with more operations than are measured.
    if "num_hidden_groups" in config or config.get("relative_attention"):
        return None
    if not all(type(value) is int and 0 < value < 2**20 for value in sizes.values()):
        return None
    return EncoderShape(**{field: int(value) for field, value in sizes.items() if value})


def unknown(reason: str) -> dict[str, Any]:
    """The JSON document of a prediction that cannot be made."""
    return {"reason": reason}


def predict(
    cost_model: CostModel,
    entries: Mapping[str, Entry],
    encoder: EncoderShape | None,
    *,
    fused: bool,
    first_token_only: bool = False,
    workload: Workload = WORKLOAD,
) -> dict[str, Any]:
    """Predict the speed of a model.

    Args:
        cost_model: of this machine, for `workload.threads` threads.
        entries: the pruned matrices by name.
        encoder: shape of the encoder; None if unknown.
        fused: the encoder is one node.
        first_token_only: the last layer computes only the first token of each sequence.
        workload: what is run.

    Returns:
        A JSON document; times are in microseconds, and null where no prediction is possible. ``calibration``: machine
        and time of the cost model. ``matrices``: for each matrix, the time of a layer of its own packed and dense, and
        the break-even. ``linear`` and ``encoder``: total times of the linear layers and of the encoder, dense and as
        stored. ``encoder_reason``: why the encoder is not predicted, or empty.
    """
    model = _Model(cost_model, entries, fused, first_token_only, workload)
    whole, reason = None, ""
    if encoder is None:
        reason = "the shape of its layers is unknown"
    elif Counter(entry.shape for entry in entries.values()) != Counter(encoder.linears * encoder.layers):
        reason = "the pruned matrices are not exactly the six of each layer"
    else:
        whole = _times(*model.encoder_seconds(encoder))
    return {
        "calibration": {"time": cost_model.time, **asdict(cost_model.machine)},
        **asdict(workload),
        "fused": fused,
        "matrices": {name: model.matrix(entry) for name, entry in entries.items()},
        "linear": _times(model.dense_seconds(), sum(map(model.stored_seconds, entries.values()))),
        "encoder": whole,
        "encoder_reason": reason,
    }


def _times(dense: float, stored: float) -> dict[str, float]:
    """JSON object of two times, given in seconds."""
    return {"dense_us": 1e6 * dense, "stored_us": 1e6 * stored, "ratio": dense / stored if stored else 1.0}


class _Model:
    """Times, in seconds, of a model's matrices for one workload."""

    def __init__(
        self,
        cost_model: CostModel,
        entries: Mapping[str, Entry],
        fused: bool,
        first_token_only: bool,
        workload: Workload,
    ) -> None:
        self.cost_model = cost_model
        self.entries = entries
        self.fused = fused
        self.first_token_only = first_token_only
        self.workload = workload
        self.tokens = workload.batch * workload.sequence
        packed = [entry.packed_shape for entry in entries.values() if entry.packed and entry.packed_shape]
        self.total_bytes = sum(shape.bytes for shape in packed)
        self.int8 = any(shape.weights == "int8" for shape in packed)

    def matrix(self, entry: Entry) -> dict[str, float | None]:
        """JSON object of one matrix, as a layer of its own, whether or not the model stores it packed."""
        costs, shape = self.cost_model, entry.packed_shape
        return {
            "packed_us": 1e6 * costs.packed_seconds(shape, self.tokens, self.total_bytes) if shape else None,
            "dense_us": 1e6 * costs.dense_seconds(entry.shape, self.tokens),
            "break_even": costs.break_even(shape, self.tokens) if shape else None,
        }

    def stored_seconds(self, entry: Entry, tokens: int | None = None) -> float:
        """Time of a matrix's product as the model stores it."""
        tokens = tokens or self.tokens
        if not entry.packed or entry.packed_shape is None:
            return self.cost_model.dense_seconds(entry.shape, tokens)
        return self.cost_model.packed_seconds(entry.packed_shape, tokens, self.total_bytes, fused=self.fused)

    def dense_seconds(self) -> float:
        """Time of all products if every matrix were dense."""
        return sum(self.cost_model.dense_seconds(entry.shape, self.tokens) for entry in self.entries.values())

    def encoder_seconds(self, shape: EncoderShape) -> tuple[float, float]:
        """Times of the encoder, dense and as stored."""
        batch, sequence = self.workload.batch, self.workload.sequence
        non_gemm = self.cost_model.non_gemm_seconds
        dense = self.dense_seconds() + shape.layers * non_gemm("dense", shape, batch, sequence)
        variant = "dense" if not self.fused else "int8" if self.int8 else "fp32"
        full_layers = shape.layers - self.first_token_only
        stored = full_layers * non_gemm(variant, shape, batch, sequence)
        last = _last_layer(list(self.entries))
        if self.first_token_only:
            stored += non_gemm(variant, shape, batch, sequence, queries=1)
        for name, entry in self.entries.items():
            if not self.first_token_only or name not in last:
                stored += self.stored_seconds(entry)
            elif entry.shape == (shape.hidden, shape.hidden):
                # Two of the four square matrices, k and v, are computed for all tokens; q and o for the first only.
                stored += (self.stored_seconds(entry) + self.stored_seconds(entry, batch)) / 2
            else:
                stored += self.stored_seconds(entry, batch)
        return dense, stored


def _last_layer(names: Sequence[str]) -> set[str]:
    """The names that belong to the layer with the highest number."""
    numbers = {name: number for name in names if (number := layer_number(name)) is not None}
    return {name for name, number in numbers.items() if number == max(numbers.values())}
