"""Magnitudes of the kept weights."""

from __future__ import annotations

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Subject

__all__ = ["SECTION"]

_QUANTILES = (0.05, 0.5, 0.95)
_BINS = 60
# End of the histogram, as a multiple of the 95% quantile.
_SHOWN = 1.6


class _Weights(Section):
    title = "Weights"
    order = 50

    def analyse(self, subject: Subject) -> Finding:
        found: dict[str, dict[str, float | list[float]]] = {}
        magnitudes = _magnitudes(subject)
        for part, values in magnitudes.items():
            low, middle, high = (float(q) for q in np.quantile(values, _QUANTILES))
            # The full range would compress most weights into a few bins.
            counts, edges = np.histogram(values, bins=_BINS, range=(0.0, _SHOWN * high or 1.0))
            found[part] = {
                "count": len(values), "zero": float(np.mean(values == 0)), "p5": low, "median": middle, "p95": high,
                "largest": float(values.max()), "counts": counts.tolist(), "edges": edges.tolist(),
            }  # fmt: skip
        rows = [
            [
                part, f"{w['count']:,}", *(f"{w[name]:.4f}" for name in ("p5", "median", "p95", "largest")),
                f"{w['zero']:.2%}",
            ]
            for part, w in found.items()
        ]  # fmt: skip
        header = ("part", "kept", "5%", "median", "95%", "largest", "kept zeros")
        notes = [
            "Absolute values. Magnitude pruning leaves a gap below its threshold; movement pruning also keeps small "
            "weights."
        ]
        return Finding(found, [Table("Magnitudes |w| of the kept weights", header, rows)], notes)

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del subject
        if not finding.data:
            return []
        figure, plots = figures.axes(1, len(finding.data), 2.6, 2.4)
        for plot, (part, found) in zip(plots.flat, finding.data.items(), strict=True):
            plot.stairs(found["counts"], found["edges"], fill=True, color=figures.COLOURS[0])
            plot.set_title(part, fontsize=10)
            plot.set_yticks([])
        figure.supxlabel(f"|w| of the kept weights, up to {_SHOWN} times the 95% quantile", fontsize=9)
        return [
            Picture(
                "weights", "Histograms of the magnitudes of the kept weights, all layers together.", figure
            )
        ]


def _magnitudes(subject: Subject) -> dict[str, np.ndarray]:
    """|w| of the kept weights of each part, all layers together; parts without kept weights are omitted."""
    kept: dict[str, list[np.ndarray]] = {part: [] for part in subject.parts}
    for matrix, weight in subject.weights():
        kept[matrix.part].append(np.abs(weight[matrix.mask].astype(np.float32)))
    joined = {part: np.concatenate(values) for part, values in kept.items()}
    return {part: values for part, values in joined.items() if len(values)}


SECTION = _Weights()
