"""Suitability of the mask for block formats: how many blocks are not empty, and how full those are."""

from __future__ import annotations

import math

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.subject import Matrix, Subject
from aerogel.sparse.masks import block_scores

__all__ = ["SECTION"]

# Blocks (rows, cols) that kernels use: int8 and fp32 on CPUs, tensor cores.
_BLOCKS = ((1, 4), (2, 1), (4, 1), (8, 1), (16, 16), (32, 32), (64, 64))
# Fraction of kept weights in the stored blocks from which a block format is recommended.
_FULL = 0.7


class _Blocks(Section):
    title = "Blocks"
    order = 40

    def analyse(self, subject: Subject) -> Finding | None:
        found = {}
        for block in _BLOCKS:
            matrices = [
                m for m in subject.matrices if not (m.mask.shape[0] % block[0] or m.mask.shape[1] % block[1])
            ]
            # Means over different sets of matrices would not be comparable.
            if len(matrices) < len(subject.matrices):
                continue
            size, kept = block[0] * block[1], sum(int(m.mask.sum()) for m in matrices)
            stored = sum(
                int(np.count_nonzero(block_scores(m.mask.astype(np.int32), block))) for m in matrices
            )
            count = sum(m.mask.size for m in matrices) // size
            chance = sum(_chance(m, block) * m.mask.size / size for m in matrices) / count
            found[f"{block[0]}x{block[1]}"] = {
                "stored": stored / count, "fill": kept / (stored * size) if stored else 0.0, "random": chance
            }  # fmt: skip
        if not found:
            return None
        rows = [
            [name, f"{b['stored']:.2%}", f"{b['fill']:.2%}", f"{b['random']:.2%}"]
            for name, b in found.items()
        ]
        header = ("block", "blocks stored", "kept in them", "blocks stored, random mask")
        notes = [
            "A block format stores each block with a kept weight. 'Blocks stored' is the fraction of blocks "
            "that it would store and multiply; 'kept in them' is the fraction of kept weights in these blocks, the "
            "rest is padding. The last column is the expectation for a random mask of the same density and blocks."
        ]
        return Finding(
            found, [Table("Blocks of rows x columns", header, rows)], notes, _summary(found, subject)
        )

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        figure, plots = figures.axes(1, 1, 7, 3.2)
        plot, at = plots[0, 0], np.arange(len(finding.data))
        stored = [block["stored"] for block in finding.data.values()]
        random = [block["random"] for block in finding.data.values()]
        plot.bar(at - 0.2, stored, 0.4, label="mask", color=figures.COLOURS[0])
        plot.bar(at + 0.2, random, 0.4, label="random", color=figures.COLOURS[6])
        plot.axhline(subject.checkpoint.accounting.density, color=figures.COLOURS[1], label="weights kept")
        plot.set_xticks(at, list(finding.data))
        plot.set_ylabel("fraction of blocks stored")
        plot.set_ylim(0, 1.05)
        plot.legend(frameon=False, fontsize=8, loc="upper left")
        caption = (
            "Fraction of blocks stored, for the mask and for a random mask. Near the line: little padding."
        )
        return [Picture("blocks", caption, figure)]


def _chance(matrix: Matrix, block: tuple[int, int]) -> float:
    """Probability that a tile of shape `block` has a kept weight, if K of the N blocks of the mask are kept at random.

    A tile that overlaps n blocks has none of them with probability (N - K choose n) / (N choose n). If tiles and blocks
    are not aligned, n varies between tiles, and its mean is used.
    """
    units, kept = matrix.grid.size, int(np.count_nonzero(matrix.grid))
    rows, cols = (_covered(tile, own) for tile, own in zip(block, matrix.block, strict=True))
    n = min(units, round(rows * cols))
    if units - kept < n:
        return 1.0
    g = math.lgamma
    return 1.0 - math.exp(g(units - kept + 1) - g(units - kept - n + 1) - g(units + 1) + g(units - n + 1))


def _covered(tile: int, own: int) -> float:
    """Mean number of blocks of side `own` that an aligned tile of side `tile` overlaps."""
    starts = range(0, math.lcm(tile, own), tile)
    return sum((start + tile - 1) // own - start // own + 1 for start in starts) / len(starts)


def _summary(found: dict[str, dict[str, float]], subject: Subject) -> list[str]:
    good = [name for name, block in found.items() if block["fill"] >= _FULL]
    rows, cols = subject.checkpoint.record.block
    if good:
        text = f"Blocks of {', '.join(good)} are at least {_FULL:.0%} full: BSR wastes little."
    else:
        name = max(found, key=lambda name: found[name]["fill"])
        text = (
            f"No block size is {_FULL:.0%} full (the fullest, {name}, is {found[name]['fill']:.0%}): use CSR"
            + ("; to use BSR, prune with --block." if (rows, cols) == (1, 1) else ".")
        )
    return [text]


SECTION = _Blocks()
