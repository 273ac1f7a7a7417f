"""The report of an export on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aerogel.cost import report as speed
from aerogel.hf.names import name_inside

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["speed_table", "table", "verdict"]

_RUNNERS = {
    "onnxruntime": "stock ONNX Runtime",
    "aerogel": "with the sparse kernels",
    "unrounded": "stock ONNX Runtime, activations not rounded",
}


def table(document: dict[str, Any]) -> Table:
    """The pruned matrices and the totals, a row for the same matrix of all layers; the manifest has each by itself."""
    from rich.table import Table

    matrices = document["matrices"]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for name, m in matrices.items():
        groups.setdefault((name_inside(name), "x".join(map(str, m["shape"])), _kind(m)), []).append(m)

    rows = Table(title=f"{document['file']}: pruned matrices", show_footer=True)
    rows.add_column("matrix", overflow="fold")
    rows.add_column("shape", justify="right")
    rows.add_column("count", str(len(matrices)), justify="right")
    rows.add_column("density", f"{document['density']:.1%}", justify="right")
    rows.add_column("stored", justify="right")
    rows.add_column("format")
    rows.add_column("why")
    rows.add_column("dense", _size(_total(matrices.values(), "dense_bytes")), justify="right")
    rows.add_column("as stored", _size(_total(matrices.values(), "bytes")), justify="right")
    for (name, shape, form), group in groups.items():
        rows.add_row(
            name, shape, str(len(group)), _range(group, "kept"), _range(group, "stored"), form, group[0]["why"],
            _size(_total(group, "dense_bytes")), _size(_total(group, "bytes")),
        )  # fmt: skip
    return rows


def speed_table(document: dict[str, Any]) -> Table | None:
    """What is predicted of the pruned matrices; None where nothing is."""
    shapes = {name: (m["shape"][0], m["shape"][1]) for name, m in document["matrices"].items()}
    return speed.table(document["prediction"], shapes)


def verdict(document: dict[str, Any]) -> str:
    """What was written and how it compares with PyTorch, a line for each way to run it."""
    lines = [
        f"{document['file']}: {_size(document['bytes'])}, sequences up to {document['max_length']} tokens"
    ]
    for name, fused in document["fusions"].items():
        why = f"; {fused['why']}" if fused["why"] else ""
        lines.append(
            f"{name} fusion: {fused['layers'] or 'none'} of {fused['found']} layers in one node{why}"
        )
    if not document["fusions"]:
        lines.append("no layers fused, --no-fuse")
    lines += _left_out(document["left_out"])
    lines += _embeddings(document["embeddings"])
    lines.append(speed.verdict(document["prediction"]))
    for name, result in document["parity"].items():
        if name == "tolerance":
            continue
        title = _RUNNERS.get(name, name)
        if "not_checked" in result:
            lines.append(f"{title}: not checked, {result['not_checked']}")
        for kind, c in result.items():
            if kind == "not_checked":
                continue
            what = "the given file" if kind == "file" else f"{c['shapes']} shapes"
            lines.append(
                f"{title}: agrees with PyTorch over {c['texts']} texts ({what}), largest difference "
                f"{c['difference']:.2g} ({c['relative']:.1g} of the output's scale){_labels(c)}"
            )
            if drift := c.get("drift"):
                lines.append(
                    f"{title}: from the unrounded checkpoint, largest difference {drift['difference']:.2g} "
                    f"({drift['relative']:.1g} of the output's scale), mean {drift['mean']:.2g}{_labels(drift)}"
                )
    if task := document["task"]:
        title = _RUNNERS.get(task["runner"], task["runner"])
        for metric, value in task["metrics"].items():
            lines.append(
                f"{task['name']}, {title}: {metric} {100 * value:.2f} where the checkpoint has "
                f"{100 * task['checkpoint'][metric]:.2f} (by {task['checkpoint_from']})"
            )
    return "\n".join(lines)


def _labels(comparison: dict[str, Any]) -> str:
    """How many decisions are the same, where there are any."""
    if not comparison["labels"]:
        return ""
    return f", {comparison['agreeing']} of {comparison['labels']} labels agree"


def _left_out(found: dict[str, dict[str, str]]) -> list[str]:
    """A line for each output that is not exported, and for the weights that are left out for the same reason."""
    lines = [f"output {name} is left out: {why}" for name, why in found["outputs"].items()]
    reasons: dict[str, list[str]] = {}
    for name, why in found["weights"].items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        lines.append(f"{len(names)} weight{'s' * (len(names) > 1)} left out: {shown}; {why}")
    return lines


def _embeddings(tables: dict[str, dict[str, Any]]) -> list[str]:
    """One line for the embedding tables, if there are any."""
    if not tables:
        return []
    kinds: dict[str, list[str]] = {}
    for name, t in tables.items():
        kinds.setdefault(t["weights"], []).append(name.removesuffix(".weight").rpartition(".")[2])
    told = "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items())
    stored, dense = _size(_total(tables.values(), "bytes")), _size(_total(tables.values(), "dense_bytes"))
    return [f"embeddings: {stored}{f' for {dense}' if stored != dense else ''}: {told}"]


def _kind(matrix: dict[str, Any]) -> str:
    """Format of a matrix and, unless it is the usual one, type of its values."""
    weights = matrix["weights"]
    return str(matrix["format"]) + (f"-{weights}" if weights != "fp32" else "")


def _total(matrices: Iterable[dict[str, Any]], key: str) -> int:
    return sum(m[key] for m in matrices)


def _range(matrices: list[dict[str, Any]], key: str) -> str:
    """Least and greatest share of entries, as one figure where they agree."""
    shares = [m[key] / (m["shape"][0] * m["shape"][1]) for m in matrices]
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low}-{high}"


def _size(count: int) -> str:
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
