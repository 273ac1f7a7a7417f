"""Density by layer and part."""

from __future__ import annotations

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Matrix, Subject

__all__ = ["SECTION"]


class _Density(Section):
    title = "Density"
    order = 10

    def analyse(self, subject: Subject) -> Finding:
        accounting, record = subject.checkpoint.accounting, subject.checkpoint.record
        parts = {part: _density(subject.of(part)) for part in subject.parts}
        layers = {layer: _density(list(subject.layer(layer).values())) for layer in subject.layers}
        rows = []
        for layer in subject.layers:
            found = subject.layer(layer)
            cells = [f"{found[part].density:.2%}" if part in found else "-" for part in parts]
            rows.append([str(layer), *cells, f"{layers[layer]:.2%}"])
        rows.append(["all", *(f"{value:.2%}" for value in parts.values()), f"{accounting.density:.2%}"])
        size = sum(matrix.mask.size for matrix in subject.matrices)
        blocks = "" if record.block == (1, 1) else f" in blocks of {record.block[0]}x{record.block[1]}"
        summary = [
            f"{record.method} keeps {accounting.density:.2%} of {size:,} weights in "
            f"{len(subject.matrices)} matrices{blocks}: "
            f"{accounting.encoder_density:.2%} of the encoder's parameters, counting biases and LayerNorm as kept."
        ]
        low, high = min(parts, key=parts.__getitem__), max(parts, key=parts.__getitem__)
        if parts[high] > 1.05 * parts[low]:
            summary.append(
                f"By part, {low} keeps the least ({parts[low]:.2%}) and {high} the most ({parts[high]:.2%})."
            )
        return Finding(
            {
                "density": accounting.density,
                "encoder_density": accounting.encoder_density,
                "parts": parts,
                "layers": {str(layer): value for layer, value in layers.items()},
                "matrices": {matrix.name: matrix.density for matrix in subject.matrices},
            },
            [Table("Fraction kept, by layer and part", ("layer", *parts, "all"), rows)],
            summary=summary,
        )

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del finding
        values = np.full((len(subject.layers), len(subject.parts)), np.nan)
        for row, layer in enumerate(subject.layers):
            for part, matrix in subject.layer(layer).items():
                values[row, subject.parts.index(part)] = matrix.density
        figure = figures.heatmap(values, subject.layers, subject.parts, "layer", "", "fraction kept")
        return [Picture("density", "Fraction of weights kept, by layer and part.", figure)]


def _density(matrices: list[Matrix]) -> float:
    return float(sum(m.mask.sum() for m in matrices) / sum(m.mask.size for m in matrices))


SECTION = _Density()
