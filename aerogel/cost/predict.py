"""What a calibration says of a model: each pruned matrix, and the encoder as a whole where its shape is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aerogel.cost.model import CostModel, EncoderShape
from aerogel.cost.packed_shape import PackedShape
from aerogel.hf.families import config_sizes
from aerogel.hf.names import layer_number

__all__ = ["WORKLOAD", "Entry", "Form", "Workload", "encoder_shape", "predict", "unknown"]


@dataclass(frozen=True)
class Workload:
    """What is run: `batch` sequences of `sequence` tokens, on so many threads."""

    threads: int = 1
    batch: int = 1
    sequence: int = 128


WORKLOAD = Workload()
"""What an export predicts."""


@dataclass(frozen=True)
class Entry:
    """A pruned matrix of a model.

    Attributes:
        shape: (out, in).
        product: what it is packed, or would be; None where that was never asked for.
        packed: whether it is stored so, and not dense.
    """

    shape: tuple[int, int]
    product: PackedShape | None
    packed: bool


@dataclass(frozen=True)
class Form:
    """How an encoder is carried.

    Attributes:
        fused: as one node.
        first_only: of the last layer, only the first token of each sequence is computed.
    """

    fused: bool
    first_only: bool = False


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """The encoder that a model's config.json describes; None where it has other layers than this predicts."""
    found = config_sizes(config)
    # Layers that share weights, or whose attention does more.
    if "num_hidden_groups" in config or config.get("relative_attention"):
        return None
    if not all(type(value) is int and 0 < value < 2**20 for value in found.values()):
        return None
    return EncoderShape(**{field: int(value) for field, value in found.items() if value})


def unknown(why: str) -> dict[str, Any]:
    """The document of a prediction that cannot be made, for the reason `why`."""
    return {"why": why}


def predict(
    calibration: CostModel,
    entries: Mapping[str, Entry],
    encoder: EncoderShape | None,
    form: Form,
    setting: Workload = WORKLOAD,
) -> dict[str, Any]:
    """Predict a model's speed; times are in microseconds.

    Args:
        calibration: of the machine and the number of threads.
        entries: the pruned matrices by name.
        encoder: what they are in, if that is known.
        form: how it is carried.
        setting: what is run.

    Returns:
        A document of plain JSON: where the numbers are from, per matrix the time of a layer of its own packed and dense
        and the break-even, and in total those of the linear layers, and of the encoder, dense and as stored. What could
        not be predicted is null.
    """
    model = _Model(calibration, entries, form, setting)
    whole, why = None, ""
    if encoder is None:
        why = "its layers are of no known shape"
    elif Counter(entry.shape for entry in entries.values()) != Counter(encoder.linears * encoder.layers):
        why = "not all of its matrices are pruned, or it has others"
    else:
        whole = _times(*model.encoder(encoder))
    return {
        "calibration": {"time": calibration.time, **asdict(calibration.host)},
        **asdict(setting),
        "fused": form.fused,
        "matrices": {name: model.matrix(entry) for name, entry in entries.items()},
        "linear": _times(model.dense_products(), sum(map(model.product, entries.values()))),
        "encoder": whole,
        "encoder_why": why,
    }


def _times(dense: float, stored: float) -> dict[str, float]:
    return {"dense_us": 1e6 * dense, "stored_us": 1e6 * stored, "ratio": dense / stored if stored else 1.0}


class _Model:
    """The matrices of a model in one setting; times are in seconds."""

    def __init__(
        self, calibration: CostModel, entries: Mapping[str, Entry], form: Form, setting: Workload
    ) -> None:
        self.calibration = calibration
        self.entries = entries
        self.form = form
        self.setting = setting
        self.tokens = setting.batch * setting.sequence
        packed = [entry.product for entry in entries.values() if entry.packed and entry.product]
        self.total = sum(product.bytes for product in packed)
        self.eight_bit = any(product.weights == "int8" for product in packed)

    def matrix(self, entry: Entry) -> dict[str, float | None]:
        """What the document says of a matrix: of a layer by itself, whatever becomes of it in the model."""
        product = entry.product
        return {
            "packed_us": 1e6 * self.calibration.packed(product, self.tokens, self.total) if product else None,
            "dense_us": 1e6 * self.calibration.full(entry.shape, self.tokens),
            "break_even": self.calibration.break_even(product, self.tokens) if product else None,
        }

    def product(self, entry: Entry, tokens: int | None = None) -> float:
        """Seconds of a matrix's product as the model carries it."""
        tokens = tokens or self.tokens
        if not entry.packed or entry.product is None:
            return self.calibration.full(entry.shape, tokens)
        return self.calibration.packed(entry.product, tokens, self.total, edges=not self.form.fused)

    def dense_products(self) -> float:
        """Seconds of all products, were they dense."""
        return sum(self.calibration.full(entry.shape, self.tokens) for entry in self.entries.values())

    def encoder(self, shape: EncoderShape) -> tuple[float, float]:
        """Seconds of the encoder, dense and as it is stored."""
        batch, sequence = self.setting.batch, self.setting.sequence
        rest = self.calibration.layer_rest
        dense = self.dense_products() + shape.layers * rest("dense", shape, batch, sequence)
        kind = "dense" if not self.form.fused else "int8" if self.eight_bit else "fp32"
        full_layers = shape.layers - self.form.first_only
        stored = full_layers * rest(kind, shape, batch, sequence)
        last = _last_layer(list(self.entries))
        if self.form.first_only:
            stored += rest(kind, shape, batch, sequence, queries=1)
        for name, entry in self.entries.items():
            if not self.form.first_only or name not in last:
                stored += self.product(entry)
            elif entry.shape == (shape.hidden, shape.hidden):
                # Keys and values are those of all tokens; queries and what attention gives only of the first.
                stored += (self.product(entry) + self.product(entry, batch)) / 2
            else:
                stored += self.product(entry, batch)
        return dense, stored


def _last_layer(names: Sequence[str]) -> set[str]:
    """Those of the names that are in the layer with the highest number."""
    numbers = {name: number for name in names if (number := layer_number(name)) is not None}
    return {name for name, number in numbers.items() if number == max(numbers.values())}
