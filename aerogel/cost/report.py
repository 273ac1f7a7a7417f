"""Predictions, told on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aerogel.cost.check import Checked, totals
from aerogel.cost.grid import kinds
from aerogel.cost.model import CostModel
from aerogel.cost.packed_shape import PackedShape, column_features
from aerogel.hf.names import name_inside

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "calibration_table",
    "check_table",
    "check_verdict",
    "ranges",
    "setting",
    "spread",
    "table",
    "verdict",
]

_SHAPE, _TOKENS, _SHARE = (768, 768), 128, 0.1
_LENGTHS, _SEGMENTS = 100, 8  # of such a layer, about


def calibration_table(calibration: CostModel) -> Table:
    """What a calibration says of one layer, for every kind of kernel."""
    from rich.table import Table

    host = calibration.host
    rows = Table(
        title=f"{host.cpu}, {host.isa}, {_threads(host.threads)}: a layer of 768x768, {_TOKENS} tokens"
    )
    rows.add_column("weights")
    for title in ("rows of a block", f"microseconds at {_SHARE:.0%}", "times dense", "break-even"):
        rows.add_column(title, justify="right")
    dense = calibration.full(_SHAPE, _TOKENS)
    rows.add_row("dense fp32", "", f"{1e6 * dense:.0f}", "1.00", "")
    for kind in kinds():
        product = PackedShape(
            _SHAPE,
            kind.weights,
            kind.height,
            _SHARE,
            _SHARE,
            column_features(kind.weights),
            _LENGTHS,
            _SEGMENTS,
        )
        packed = calibration.packed(product, _TOKENS)
        even = calibration.break_even(product, _TOKENS)
        rows.add_row(
            kind.weights, str(kind.height), f"{1e6 * packed:.0f}", f"{dense / packed:.2f}", f"{even:.0%}"
        )
    return rows


def check_table(found: Sequence[Checked]) -> Table:
    """Predictions beside measurements."""
    from rich.table import Table

    rows = Table(title="microseconds of a layer")
    rows.add_column("matrix")
    for title in ("shape", "stored as", "stored", "tokens", "predicted", "measured", "ratio"):
        rows.add_column(title, justify="right")
    for c in found:
        rows.add_row(
            c.name, "x".join(map(str, c.shape)), c.kind, f"{c.stored:.0%}", str(c.tokens),
            f"{1e6 * c.predicted:.0f}", f"{1e6 * c.measured:.0f}", f"{c.ratio:.2f}",
        )  # fmt: skip
    return rows


def check_verdict(found: Sequence[Checked]) -> str:
    """How far all predictions are off, and those of each number of tokens."""
    lines = []
    for tokens in sorted({c.tokens for c in found}):
        total = totals([c for c in found if c.tokens == tokens])
        lines.append(
            f"{tokens} tokens: predicted over measured {total.ratio:.3f} in total, {total.mean:.1%} off on average, "
            f"{total.within:.0%} of {sum(c.tokens == tokens for c in found)} within 15%"
        )
    return "\n".join(lines)


def table(prediction: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> Table | None:
    """The pruned matrices, a row for the same matrix of all layers; None where nothing is predicted."""
    from rich.table import Table

    if "why" in prediction:
        return None
    groups: dict[tuple[str, tuple[int, int]], list[dict[str, Any]]] = {}
    for name, matrix in prediction["matrices"].items():
        groups.setdefault((name_inside(name), shapes[name]), []).append(matrix)
    rows = Table(title=f"predicted microseconds of a layer: {setting(prediction)}")
    rows.add_column("matrix", overflow="fold")
    for title in ("shape", "count", "packed", "dense", "break-even, stored"):
        rows.add_column(title, justify="right")
    for (name, (out, inside)), group in groups.items():
        rows.add_row(
            name, f"{out}x{inside}", str(len(group)),
            *ranges(group),
        )  # fmt: skip
    return rows


def verdict(prediction: Mapping[str, Any]) -> str:
    """What is predicted of the whole, in a line or two."""
    if "why" in prediction:
        return f"speed not predicted: {prediction['why']}"
    lines = [_total(prediction["linear"], "pruned linear layers", prediction)]
    if prediction["encoder"]:
        how = "encoder, fused" if prediction["fused"] else "encoder"
        lines.append(_total(prediction["encoder"], how, prediction))
    else:
        lines.append(f"encoder not predicted: {prediction['encoder_why']}")
    return "\n".join(lines)


_COLUMNS = {"packed_us": "{:.0f}", "dense_us": "{:.0f}", "break_even": "{:.0%}"}


def ranges(matrices: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Of some matrices of a prediction: microseconds packed and dense, and break-even."""
    return [spread([matrix[key] for matrix in matrices], form) for key, form in _COLUMNS.items()]


def setting(prediction: Mapping[str, Any]) -> str:
    """What is predicted, in words: batch, tokens and threads."""
    return f"batch {prediction['batch']}, {prediction['sequence']} tokens, {_threads(prediction['threads'])}"


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _total(times: Mapping[str, float], what: str, prediction: Mapping[str, Any]) -> str:
    dense, stored = times["dense_us"] / 1e3, times["stored_us"] / 1e3
    return (
        f"{what}: predicted {stored:.3g} ms, {times['ratio']:.2f} times as fast as dense ({dense:.3g} ms); "
        f"{setting(prediction)}, calibrated {prediction['calibration']['time'][:10]}"
    )


def spread(values: Sequence[float | None], form: str) -> str:
    """Least and greatest, as one figure where they agree."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = form.format(min(known)), form.format(max(known))
    return low if low == high else f"{low}-{high}"
