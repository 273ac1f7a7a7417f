"""Format the manifest of an export, or the preview of one, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aerogel.cost import report as speed
from aerogel.hf.names import name_inside

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["outlook", "speed_table", "table", "verdict"]

_RUNNERS = {
    "onnxruntime": "stock ONNX Runtime",
    "aerogel": "with the sparse kernels",
    "unrounded": "stock ONNX Runtime, activations not rounded",
    "normalized": "the graph in its normal form",
}


def table(document: dict[str, Any]) -> Table:
    """The pruned matrices, one row for the same matrix of all layers, and the totals."""
    from rich.table import Table

    matrices = document["matrices"]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for name, m in matrices.items():
        groups.setdefault((name_inside(name), "x".join(map(str, m["shape"])), _storage(m)), []).append(m)

    rows = Table(title=f"{document['file']}: pruned matrices", show_footer=True)
    rows.add_column("matrix", overflow="fold")
    rows.add_column("shape", justify="right")
    rows.add_column("count", str(len(matrices)), justify="right")
    rows.add_column("density", f"{document['density']:.1%}", justify="right")
    rows.add_column("stored", justify="right")
    rows.add_column("format")
    rows.add_column("reason")
    rows.add_column("dense", _size(_total(matrices.values(), "dense_bytes")), justify="right")
    rows.add_column("as stored", _size(_total(matrices.values(), "bytes")), justify="right")
    for (name, shape, storage), group in groups.items():
        rows.add_row(
            name, shape, str(len(group)), _range(group, "kept"), _range(group, "stored"), storage, group[0]["reason"],
            _size(_total(group, "dense_bytes")), _size(_total(group, "bytes")),
        )  # fmt: skip
    return rows


def speed_table(document: dict[str, Any]) -> Table | None:
    """Predicted times of the pruned matrices; None without a prediction."""
    shapes = {name: (m["shape"][0], m["shape"][1]) for name, m in document["matrices"].items()}
    return speed.table(document["prediction"], shapes)


def verdict(document: dict[str, Any]) -> str:
    """What was written, what was skipped, and how each runner compares with PyTorch; one fact a line."""
    lines = [
        f"{document['file']}: {_size(document['bytes'])}, sequences up to {document['max_length']} tokens"
    ]
    lines += _contents(document)
    if document.get("fusions") is None:
        lines.append(
            "read back: every parameter is equal, bit for bit, to the model's or to its rounded value"
        )
    else:
        lines.append(speed.verdict(document["prediction"]))
    reference = "the file" if document["source"]["kind"] == "onnx" else "PyTorch"
    for name, result in document["parity"].items():
        if name == "tolerance":
            continue
        title = _RUNNERS.get(name, name)
        if "not_checked" in result:
            lines.append(f"{title}: not checked, {result['not_checked']}")
        for source, c in result.items():
            if source == "not_checked":
                continue
            texts = "the given file" if source == "file" else f"{c['shapes']} shapes"
            lines.append(
                f"{title}: agrees with {reference} on {c['texts']} texts ({texts}), largest difference "
                f"{c['difference']:.2g} ({c['relative']:.1g} of the output's scale){_labels(c)}"
            )
            if drift := c.get("drift"):
                lines.append(
                    f"{title}: compared with the unrounded checkpoint, largest difference {drift['difference']:.2g} "
                    f"({drift['relative']:.1g} of the output's scale), mean {drift['mean']:.2g}{_labels(drift)}"
                )
    if task := document["task"]:
        title = _RUNNERS.get(task["runner"], task["runner"])
        for metric, value in task["metrics"].items():
            lines.append(
                f"{task['name']}, {title}: {metric} {100 * value:.2f}, checkpoint "
                f"{100 * task['checkpoint'][metric]:.2f} (from {task['checkpoint_from']})"
            )
    return "\n".join(lines)


def outlook(document: dict[str, Any]) -> str:
    """What an export would write, its parts, and its speed with and without the library; one fact a line."""
    sizes, prediction = document["sizes"], document["prediction"]
    lines = [
        f"dry run, nothing written. {document['file']} would have {_size(document['bytes'])}: encoder "
        f"{_size(sizes['encoder'])}, embeddings {_size(sizes['embeddings'])}, other {_size(sizes['other'])}"
    ]
    lines += _contents(document)
    lines.append(speed.verdict(prediction))
    if "reason" not in prediction:
        part = "encoder" if prediction["encoder"] else "linear"
        times = prediction[part]
        title = "encoder" if part == "encoder" else "linear layers"
        lines.append(
            f"{title}: predicted {times['stored_us'] / 1e3:.3g} ms with the library, "
            f"{times['dense_us'] / 1e3:.3g} ms without it (dense speed)"
        )
    return "\n".join(lines)


def _contents(document: dict[str, Any]) -> list[str]:
    """What is fused, what is skipped, and how embeddings are stored."""
    lines = []
    if removed := document.get("removed"):
        lines.append(
            f"removed: {removed['heads']} of {removed['all_heads']} attention heads and {removed['neurons']} of "
            f"{removed['all_neurons']} neurons"
        )
    fusions = document.get("fusions")
    for name, fused in (fusions or {}).items():
        reason = f"; {fused['reason']}" if fused["reason"] else ""
        lines.append(f"{name} fusion: {fused['layers']} of {fused['found']} layers in one node{reason}")
    if fusions == {}:
        lines.append("no layers fused (--no-fuse, or --format dense or compact)")
    return (
        lines
        + _skipped(document.get("left_out", {"outputs": {}, "weights": {}}))
        + _embeddings(document["embeddings"])
    )


def _labels(comparison: dict[str, Any]) -> str:
    """How many predicted labels agree; empty for outputs without labels."""
    if not comparison["labels"]:
        return ""
    return f", {comparison['agreeing']} of {comparison['labels']} labels agree"


def _skipped(skipped: dict[str, dict[str, str]]) -> list[str]:
    """A line for each output that is not exported, and for each reason why weights are not exported."""
    lines = [f"output {name} skipped: {reason}" for name, reason in skipped["outputs"].items()]
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped["weights"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        lines.append(f"{len(names)} weight{'s' * (len(names) > 1)} skipped: {shown}; {reason}")
    return lines


def _embeddings(tables: dict[str, dict[str, Any]]) -> list[str]:
    """One line for the embedding tables, or none if there are no tables."""
    if not tables:
        return []
    by_type: dict[str, list[str]] = {}
    for name, t in tables.items():
        by_type.setdefault(t["weights"], []).append(name.removesuffix(".weight").rpartition(".")[2])
    types = "; ".join(f"{value_type} {', '.join(names)}" for value_type, names in by_type.items())
    stored, dense = _size(_total(tables.values(), "bytes")), _size(_total(tables.values(), "dense_bytes"))
    return [f"embeddings: {stored}{f' instead of {dense}' if stored != dense else ''}: {types}"]


def _storage(matrix: dict[str, Any]) -> str:
    """Storage format of a matrix, with its block, and the value type unless it is fp32."""
    weights = matrix["weights"]
    block = matrix["arrays"].get("data", {}).get("shape", [])[1:]
    format = f"{matrix['format']}{f'-{weights}' if weights != 'fp32' else ''}"
    return f"{format} {block[0]}x{block[1]}" if len(block) == 2 else format


def _total(matrices: Iterable[dict[str, Any]], key: str) -> int:
    return sum(m[key] for m in matrices)


def _range(matrices: list[dict[str, Any]], key: str) -> str:
    """Minimum and maximum fraction of entries, as one number if both print alike."""
    fractions = [m[key] / (m["shape"][0] * m["shape"][1]) for m in matrices]
    low, high = f"{min(fractions):.1%}", f"{max(fractions):.1%}"
    return low if low == high else f"{low}-{high}"


def _size(count: int) -> str:
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
