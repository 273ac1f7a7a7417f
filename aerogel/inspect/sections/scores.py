"""Learned scores: their distributions over kept and pruned blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from aerogel.checkpoint import scores
from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Subject

__all__ = ["SECTION"]

_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_BINS = 80


class _Scores(Section):
    title = "Scores"
    order = 52

    def analyse(self, subject: Subject) -> Finding | None:
        learned = scores.load(subject.checkpoint)
        if learned is None:
            return None
        found: dict[str, Any] = {}
        for part in subject.parts:
            mine = subject.of(part)
            kept = np.concatenate([matrix.grid.ravel() for matrix in mine])
            values = np.concatenate([learned[matrix.name].ravel() for matrix in mine])
            found[part] = _described(values, kept)
        rows = [
            [
                part, which, f"{side['count']:,}", *(f"{q:.3g}" for q in side["quantiles"]), f"{data['overlap']:.1%}",
            ]
            for part, data in found.items()
            for which, side in (("kept", data["kept"]), ("pruned", data["pruned"]))
            if side
        ]  # fmt: skip
        header = ("part", "blocks", "count", *(f"{q:.0%}" for q in _QUANTILES), "overlap")
        notes = [
            "Scores at the end of training, one per block, all layers of a part together, rounded to float16. "
            "Overlap is the fraction of a part's pruned blocks whose score exceeds that of its lowest kept block. "
            "It can be above zero if each matrix is ranked separately, or if a rule distributes the kept weights."
        ]
        overlap = max(data["overlap"] for data in found.values())
        summary = [
            "In every part, one threshold on the scores separates kept from pruned blocks."
            if overlap == 0
            else f"Thresholds differ between the matrices of a part: up to {overlap:.1%} of a part's pruned blocks "
            "score higher than its lowest kept block."
        ]
        return Finding(found, [Table("Scores of kept and pruned blocks", header, rows, 2)], notes, summary)

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del subject
        figure, plots = figures.axes(1, len(finding.data), 2.6, 2.4)
        for plot, (part, found) in zip(plots.flat, finding.data.items(), strict=True):
            for which, colour in (("pruned", figures.COLOURS[1]), ("kept", figures.COLOURS[0])):
                if side := found[which]:
                    plot.stairs(
                        side["counts"], found["edges"], fill=True, alpha=0.7, color=colour, label=which
                    )
            plot.set_yscale("log")
            plot.set_title(part, fontsize=10)
        plots.flat[0].legend(frameon=False, fontsize=8)
        figure.supxlabel("score of a block, from the 0.01% to the 99.99% quantile", fontsize=9)
        return [Picture("scores", "Histograms of the scores (log counts), all layers together.", figure)]


def _described(values: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """Quantiles and histograms of scores ``[n]`` of kept and of pruned blocks; `kept` is boolean ``[n]``."""
    low, high = (float(q) for q in np.quantile(values, (1e-4, 1 - 1e-4)))
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    sides = {"kept": values[kept], "pruned": values[~kept]}
    found: dict[str, Any] = {
        which: {
            "count": len(side),
            "quantiles": [float(q) for q in np.quantile(side, _QUANTILES)],
            "counts": np.histogram(side, edges)[0].tolist(),
        }
        if len(side)
        else None
        for which, side in sides.items()
    }
    both = kept.any() and not kept.all()
    above = float(np.mean(sides["pruned"] > sides["kept"].min())) if both else 0.0
    return found | {"edges": edges.tolist(), "overlap": above}


SECTION = _Scores()
