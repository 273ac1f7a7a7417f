"""Agreement of two masks of the same model, compared with random masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.statistic import Deviation, overlap, total
from aerogel.inspect.subject import Matrix, Subject

__all__ = ["SECTION"]


class _Agreement(Section):
    title = "Agreement with another mask"
    order = 60

    def analyse(self, subject: Subject) -> Finding | None:
        if not subject.against:
            return None
        parts = {part: _agreement(subject, subject.of(part)) for part in subject.parts}
        whole = _agreement(subject, subject.matrices)
        rows = [
            [
                name, f"{a['jaccard']:.3f}", f"{a['random']:.3f}", f"{a['kappa']:.3f}",
                "-" if a["z"] is None else f"{a['z']:.0f}",
            ]
            for name, a in {**parts, "all": whole}.items()
        ]  # fmt: skip
        header = ("part", "both / either", "at random", "kappa", "z")
        notes = [
            f"Compared with {subject.against.path} ({subject.against.record.method}, density "
            f"{subject.against.accounting.density:.4f}). 'Both / either' is the Jaccard index of the kept weights; "
            "'at random' is its value for two random masks of these densities. Kappa is Cohen's (0: as random masks, "
            "1: equal masks). z is in standard deviations above random masks. If both masks have the same blocks, it "
            "counts blocks; if their blocks differ, it is unknown."
        ]
        z = whole["z"]
        if not _comparable(subject):
            beyond = "their blocks differ, so a comparison with random masks is not possible"
        elif z is None:
            beyond = "no other masks of these densities are possible"
        elif abs(z) < 5:
            beyond = "they agree as random masks would"
        else:
            beyond = f"they agree {'more' if z > 0 else 'less'} than random masks would"
        summary = [
            f"The two masks share {whole['jaccard']:.1%} of the weights that either keeps (random: "
            f"{whole['random']:.1%}; "
            f"kappa {whole['kappa']:.2f}): {beyond}."
        ]
        data = {"against": str(subject.against.path), "parts": parts, "all": whole}
        data["matrices"] = {m.name: _agreement(subject, [m])["jaccard"] for m in subject.matrices}
        return Finding(data, [Table("Agreement by part", header, rows)], notes, summary)

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        values = np.full((len(subject.layers), len(subject.parts)), np.nan)
        for matrix in subject.matrices:
            at = subject.layers.index(matrix.layer), subject.parts.index(matrix.part)
            values[at] = finding.data["matrices"][matrix.name]
        figure = figures.heatmap(values, subject.layers, subject.parts, "layer", "", "both / either")
        return [Picture("agreement", "Fraction of the weights kept by either mask that both keep.", figure)]


def _agreement(subject: Subject, matrices: list[Matrix]) -> dict[str, Any]:
    assert subject.against is not None
    same = subject.against.record.block == subject.checkpoint.record.block
    parts, units, kept, size = [], [], 0, 0
    for matrix in matrices:
        other = subject.against.masks[matrix.name]
        parts.append(overlap(matrix.mask, other))
        rows, cols = matrix.block if same else (1, 1)
        units.append(overlap(matrix.mask[::rows, ::cols], other[::rows, ::cols]))
        kept += int(matrix.mask.sum()) + int(other.sum())
        size += matrix.mask.size
    both = total(parts)
    return {
        "jaccard": _jaccard(both.observed, kept),
        "random": _jaccard(both.expected, kept),
        "kappa": _kappa(both, kept, size),
        "z": total(units).z if _comparable(subject) else None,
    }


def _comparable(subject: Subject) -> bool:
    """Whether z is defined: not if both masks have blocks and these differ, as entries of a block are dependent."""
    assert subject.against is not None
    sides = (subject.against.record.block, subject.checkpoint.record.block)
    return sides[0] == sides[1] or (1, 1) in sides


def _jaccard(both: float, kept: int) -> float:
    """Both over either; `kept` is the sum of the kept weights of the two masks."""
    return both / (kept - both) if kept > both else 1.0


def _kappa(both: Deviation, kept: int, size: int) -> float:
    """Cohen's kappa: (agreement - expected) / (1 - expected). Agreement counts kept and pruned weights."""
    observed, expected = ((size - kept + 2 * value) / size for value in (both.observed, both.expected))
    return (observed - expected) / (1 - expected) if expected < 1 else 1.0


SECTION = _Agreement()
