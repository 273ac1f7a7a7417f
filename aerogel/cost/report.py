"""Print cost models and predictions on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aerogel.cost.check import Comparison, summarize
from aerogel.cost.grid import packed_kernels
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
    "spread",
    "table",
    "verdict",
    "workload",
]

# The example layer of `calibration_table`; its row lengths and segments are typical of this shape.
_SHAPE, _TOKENS, _FRACTION = (768, 768), 128, 0.1
_ROW_LENGTHS, _SEGMENTS = 100, 8


def calibration_table(cost_model: CostModel) -> Table:
    """Predicted time and break-even of an example layer, for every kernel."""
    from rich.table import Table

    machine = cost_model.machine
    rows = Table(
        title=f"{machine.cpu}, {machine.isa}, {_threads(machine.threads)}: a 768x768 layer, {_TOKENS} tokens"
    )
    rows.add_column("weights")
    for title in ("block rows", f"microseconds at {_FRACTION:.0%}", "times dense", "break-even"):
        rows.add_column(title, justify="right")
    dense = cost_model.dense_seconds(_SHAPE, _TOKENS)
    rows.add_row("dense fp32", "", f"{1e6 * dense:.0f}", "1.00", "")
    for kernel in packed_kernels():
        packed = PackedShape(
            _SHAPE, kernel.weights, kernel.panel_rows, slot_fraction=_FRACTION, stored_fraction=_FRACTION,
            block_features=column_features(kernel.weights), row_lengths=_ROW_LENGTHS, segments=_SEGMENTS,
        )  # fmt: skip
        seconds = cost_model.packed_seconds(packed, _TOKENS)
        rows.add_row(
            kernel.weights, str(kernel.panel_rows), f"{1e6 * seconds:.0f}", f"{dense / seconds:.2f}",
            f"{cost_model.break_even(packed, _TOKENS):.0%}",
        )  # fmt: skip
    return rows


def check_table(comparisons: Sequence[Comparison]) -> Table:
    """Predicted and measured time of each matrix."""
    from rich.table import Table

    rows = Table(title="microseconds of a layer")
    rows.add_column("matrix")
    for title in ("shape", "stored as", "stored", "tokens", "predicted", "measured", "ratio"):
        rows.add_column(title, justify="right")
    for c in comparisons:
        rows.add_row(
            c.name, "x".join(map(str, c.shape)), c.storage, f"{c.stored_fraction:.0%}", str(c.tokens),
            f"{1e6 * c.predicted:.0f}", f"{1e6 * c.measured:.0f}", f"{c.ratio:.2f}",
        )  # fmt: skip
    return rows


def check_verdict(comparisons: Sequence[Comparison]) -> str:
    """Errors of the predictions, one line for each number of tokens."""
    lines = []
    for tokens in sorted({c.tokens for c in comparisons}):
        of_tokens = [c for c in comparisons if c.tokens == tokens]
        errors = summarize(of_tokens)
        lines.append(
            f"{tokens} tokens: predicted over measured {errors.ratio:.3f} in total, {errors.mean_error:.1%} off on "
            f"average, {errors.within_15_percent:.0%} of {len(of_tokens)} within 15%"
        )
    return "\n".join(lines)


def table(prediction: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> Table | None:
    """Predicted times of the pruned matrices, one row for the same matrix of all layers; None without a prediction."""
    from rich.table import Table

    if "reason" in prediction:
        return None
    groups: dict[tuple[str, tuple[int, int]], list[dict[str, Any]]] = {}
    for name, matrix in prediction["matrices"].items():
        groups.setdefault((name_inside(name), shapes[name]), []).append(matrix)
    rows = Table(title=f"predicted microseconds of a layer: {workload(prediction)}")
    rows.add_column("matrix", overflow="fold")
    for title in ("shape", "count", "packed", "dense", "break-even, stored"):
        rows.add_column(title, justify="right")
    for (name, (out, inside)), group in groups.items():
        rows.add_row(name, f"{out}x{inside}", str(len(group)), *ranges(group))
    return rows


def verdict(prediction: Mapping[str, Any]) -> str:
    """Predicted speed of the linear layers and of the encoder, a line each; or why there is no prediction."""
    if "reason" in prediction:
        return f"speed not predicted: {prediction['reason']}"
    lines = [_total(prediction["linear"], "pruned linear layers", prediction)]
    if prediction["encoder"]:
        part = "encoder, fused" if prediction["fused"] else "encoder"
        lines.append(_total(prediction["encoder"], part, prediction))
    else:
        lines.append(f"encoder not predicted: {prediction['encoder_reason']}")
    return "\n".join(lines)


_COLUMNS = {"packed_us": "{:.0f}", "dense_us": "{:.0f}", "break_even": "{:.0%}"}


def ranges(matrices: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Ranges over some matrices of a prediction: microseconds packed, microseconds dense, break-even."""
    return [spread([matrix[key] for matrix in matrices], template) for key, template in _COLUMNS.items()]


def workload(prediction: Mapping[str, Any]) -> str:
    """Batch, tokens and threads of a prediction, as text."""
    return f"batch {prediction['batch']}, {prediction['sequence']} tokens, {_threads(prediction['threads'])}"


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _total(times: Mapping[str, float], part: str, prediction: Mapping[str, Any]) -> str:
    dense, stored = times["dense_us"] / 1e3, times["stored_us"] / 1e3
    return (
        f"{part}: predicted {stored:.3g} ms, {times['ratio']:.2f} times as fast as dense ({dense:.3g} ms); "
        f"{workload(prediction)}, calibrated {prediction['calibration']['time'][:10]}"
    )


def spread(values: Sequence[float | None], template: str) -> str:
    """Minimum and maximum as "low-high", or one number if both print alike; "-" if every value is None."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = template.format(min(known)), template.format(max(known))
    return low if low == high else f"{low}-{high}"
