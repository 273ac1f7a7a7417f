"""Attention heads and feed-forward neurons: densities, and which are dead."""

from __future__ import annotations

from typing import Any

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Matrix, Subject

__all__ = ["SECTION"]


class _Heads(Section):
    title = "Heads and neurons"
    order = 30

    def analyse(self, subject: Subject) -> Finding | None:
        heads = [found for layer in subject.layers if (found := _heads(subject, layer))]
        neurons = [found for layer in subject.layers if (found := _neurons(subject, layer))]
        if not heads and not neurons:
            return None
        tables, summary = [], []
        dead = [(found["layer"], head) for found in heads for head in found["dead"]]
        blind = [(found["layer"], head) for found in heads for head in found["blind"]]
        if heads:
            rows = [
                [
                    str(found["layer"]), f"{min(found['density']):.2%}", f"{max(found['density']):.2%}",
                    _list(found["dead"]), _list(found["blind"]),
                ]
                for found in heads
            ]  # fmt: skip
            header = ("layer", "lowest head density", "highest", "dead heads", "blind heads")
            tables.append(Table(f"Attention heads, {subject.heads} per layer", header, rows))
            count = sum(len(found["density"]) for found in heads)
            summary.append(
                f"{len(dead)} of {count} attention heads are dead, and {len(blind)} more are blind."
                if dead or blind
                else f"All {count} attention heads are alive."
            )
        if neurons:
            rows = [
                [str(n["layer"]), str(n["neurons"]), str(n["silent"]), str(n["unread"]), str(n["dead"])]
                for n in neurons
            ]
            header = ("layer", "neurons", "no input", "not read", "dead")
            tables.append(Table("Feed-forward neurons", header, rows))
            gone, count = sum(n["dead"] for n in neurons), sum(n["neurons"] for n in neurons)
            summary.append(f"{gone:,} of {count:,} feed-forward neurons ({gone / count:.1%}) are dead.")
        notes = [
            "A head is dead if all its rows of V, or all columns of O that read it, are pruned: its output does not "
            "depend on the text. It is blind if all its rows of Q or of K are pruned: its attention does not compare "
            "tokens.",
            "A neuron is dead if its row of 'FFN in' is pruned (no input: its output is constant) or the column of "
            "'FFN out' that reads it is pruned (not read). Dead neurons can be folded into biases and removed.",
        ]
        used = notes[:1] * bool(heads) + notes[1:] * bool(neurons)
        return Finding({"heads": heads, "neurons": neurons}, tables, used, summary)

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del subject
        heads = finding.data["heads"]
        if not heads:
            return []
        count = len(heads[0]["density"])
        values = np.array([found["density"] for found in heads])
        layers = [found["layer"] for found in heads]
        figure = figures.heatmap(values, layers, range(count), "layer", "head", "fraction kept")
        plot = figure.axes[0]
        for row, found in enumerate(heads):
            for head in found["dead"]:
                plot.plot(head, row, marker="x", color=figures.COLOURS[1], markersize=12, markeredgewidth=2)
        return [
            Picture(
                "heads",
                "Fraction kept of each head's Q, K, V and O together; a cross marks a dead head.",
                figure,
            )
        ]


def _heads(subject: Subject, number: int) -> dict[str, Any] | None:
    """Heads of a layer; None if a matrix is missing or the heads do not divide its size."""
    layer = subject.layer(number)
    if subject.heads is None or not {"Q", "K", "V", "O"} <= layer.keys():
        return None
    # Consecutive rows of Q, K and V and columns of O belong to a head.
    units = {
        part: _units(layer[part], subject.heads, 1 if part == "O" else 0) for part in ("Q", "K", "V", "O")
    }
    if any(unit is None for unit in units.values()):
        return None
    kept: dict[str, np.ndarray] = {part: unit for part, unit in units.items() if unit is not None}
    dead = (kept["V"] == 0) | (kept["O"] == 0)
    blind = ((kept["Q"] == 0) | (kept["K"] == 0)) & ~dead
    return {
        "layer": number,
        "density": np.mean(list(kept.values()), axis=0).tolist(),
        "dead": [int(head) for head in np.flatnonzero(dead)],
        "blind": [int(head) for head in np.flatnonzero(blind)],
    }


def _units(matrix: Matrix, heads: int, axis: int) -> np.ndarray | None:
    """Density ``[heads]`` of the rows (axis 0) or columns (1) of each head; None if `heads` does not divide them."""
    side = matrix.mask.shape[axis]
    if side % heads:
        return None
    density: np.ndarray = matrix.mask.mean(axis=1 - axis).reshape(heads, side // heads).mean(axis=1)
    return density


def _neurons(subject: Subject, number: int) -> dict[str, int] | None:
    layer = subject.layer(number)
    into, out = layer.get("FFN in"), layer.get("FFN out")
    if into is None or out is None or into.mask.shape[0] != out.mask.shape[1]:
        return None
    silent: np.ndarray = into.mask.sum(axis=1) == 0
    unread: np.ndarray = out.mask.sum(axis=0) == 0
    return {
        "layer": number,
        "neurons": len(silent),
        "silent": int(silent.sum()),
        "unread": int(unread.sum()),
        "dead": int((silent | unread).sum()),
    }


def _list(heads: list[int]) -> str:
    return ", ".join(map(str, heads)) or "none"


SECTION = _Heads()
