"""Structure in rows and columns: whether kept weights concentrate in some, and whether connected matrices agree.

Guo et al. (2019) observed that columns of Q and rows of K become sparse together. Papers and code that multiply x W
store W as ``[in, out]``; here W is ``[out, in]``, so their columns are rows here. Both are tested for every part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aerogel.inspect import figures
from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.statistic import Deviation, correlation, dispersion, total
from aerogel.inspect.subject import Subject

__all__ = ["SECTION"]

_AXES = ("rows", "columns")
# Pairs of rows (0) or columns (1) that are connected: q_i k_i, v_i o_i and h_i are products of these units, and Q and K
# read the same input.
_PAIRS = (("Q", 0, "K", 0), ("Q", 1, "K", 1), ("Q", 0, "K", 1), ("V", 0, "O", 1), ("FFN in", 0, "FFN out", 1))
# z above which structure is reported. With a dozen tests, random masks sometimes exceed 3 but practically never 5.
_SIGNIFICANT = 5.0
_PICTURE = 96


class _Structure(Section):
    title = "Rows and columns"
    order = 20

    def analyse(self, subject: Subject) -> Finding:
        spread = {
            part: {
                axis: total(dispersion(m.grid, at) for m in subject.of(part)) for at, axis in enumerate(_AXES)
            }
            for part in subject.parts
        }
        empty = {
            part: {axis: _empty(subject, part, 1 - at) for at, axis in enumerate(_AXES)}
            for part in subject.parts
        }
        pairs = [pair for pair in (_pair(subject, *names) for names in _PAIRS) if pair]
        rows = [
            [
                part, axis, _number(found.ratio, ".2f"), _number(found.z, ".1f"), _number(found.log10_p, ".1f"),
                f"{empty[part][axis][0]:,} of {empty[part][axis][1]:,}",
            ]
            for part, axes in spread.items() for axis, found in axes.items()
        ]  # fmt: skip
        tables = [
            Table(
                "How unevenly kept weights are distributed over rows (outputs) and columns (inputs)",
                ("part", "over", "variance / random", "z", "log10 p", "empty"), rows, words=2,
            )
        ]  # fmt: skip
        if pairs:
            rows = [[p["pair"], f"{p['r']:.3f}", f"{p['z']:.1f}", str(p["layers"])] for p in pairs]
            tables.append(
                Table(
                    "Whether connected matrices are sparse in the same rows and columns",
                    ("densities of", "mean r", "z", "layers"),
                    rows,
                )
            )
        notes = [
            "W is [out, in]: each row computes one output. The random mask keeps as many weights (or blocks) of each "
            "matrix at random positions; its mean and variance are exact. z is in standard deviations, with statistics "
            "summed over the layers. p is from a gamma distribution: accurate near chance, rough far from it.",
            "r is Pearson's correlation between the densities of two matrices' rows or columns (of rows or columns "
            "of the same block together); z is in standard deviations under random permutations.",
        ]
        return Finding(
            _data(subject, spread, empty, pairs), tables, notes[: len(tables)], _summary(spread, pairs, empty)
        )

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        del finding
        return [_curves(subject), _masks(subject)]


def _data(
    subject: Subject,
    spread: dict[str, dict[str, Deviation]],
    empty: dict[str, dict[str, tuple[int, int]]],
    pairs: list[dict[str, Any]],
) -> dict[str, Any]:
    parts = {
        part: {
            axis: {
                "ratio": d.ratio, "z": d.z, "log10_p": d.log10_p,
                "empty": empty[part][axis][0], "of": empty[part][axis][1],
            }
            for axis, d in axes.items()
        }
        for part, axes in spread.items()
    }  # fmt: skip
    matrices = {
        m.name: {axis: {"ratio": d.ratio, "z": d.z} for axis, d in zip(_AXES, _both(m.grid), strict=True)}
        for m in subject.matrices
    }
    return {"parts": parts, "pairs": pairs, "matrices": matrices}


def _both(grid: np.ndarray) -> tuple[Deviation, Deviation]:
    return dispersion(grid, 0), dispersion(grid, 1)


def _empty(subject: Subject, part: str, axis: int) -> tuple[int, int]:
    """Number of empty rows (axis 1) or columns (axis 0), and number of all."""
    kept = [matrix.mask.sum(axis=axis) for matrix in subject.of(part)]
    return sum(len(some) - int(np.count_nonzero(some)) for some in kept), sum(len(some) for some in kept)


def _pair(subject: Subject, one: str, axis: int, other: str, across: int) -> dict[str, Any] | None:
    """Correlation of the row or column densities of two parts, over the layers with both; None without any."""
    found = []
    for layer in map(subject.layer, subject.layers):
        if one in layer and other in layer:
            a, b = layer[one], layer[other]
            # Rows or columns of a block are one unit, as z is under permutations of independent units.
            side = math.lcm(a.block[axis], b.block[across])
            if a.mask.shape[axis] != b.mask.shape[across] or a.mask.shape[axis] % side:
                continue
            first, second = _densities(a.mask, axis, side), _densities(b.mask, across, side)
            if value := correlation(first, second):
                found.append(value)
    if not found:
        return None
    return {
        "pair": f"{one} {_AXES[axis]} and {other} {_AXES[across]}",
        "r": float(np.mean([r for r, _ in found])),
        "z": float(sum(z for _, z in found) / math.sqrt(len(found))),
        "layers": len(found),
    }


def _densities(mask: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Densities of groups of `side` adjacent rows (axis 0) or columns (1), ``[mask.shape[axis] / side]``."""
    means: np.ndarray = mask.mean(axis=1 - axis).reshape(-1, side).mean(axis=1)
    return means


def _summary(
    spread: dict[str, dict[str, Deviation]],
    pairs: list[dict[str, Any]],
    empty: dict[str, dict[str, tuple[int, int]]],
) -> list[str]:
    found = [
        (d, part, axis)
        for part, axes in spread.items()
        for axis, d in axes.items()
        if (d.z or 0) > _SIGNIFICANT
    ]
    if not found:
        sentences = ["Kept weights are distributed over rows and columns as in a random mask: no structure."]
    else:
        # Ordered by ratio, as z grows with the size of a matrix and the number of layers.
        found.sort(key=lambda item: -(item[0].ratio or 0))
        strongest = ", ".join(f"{axis} of {part} ({d.ratio:.1f} times)" for d, part, axis in found[:3])
        sentences = [
            f"Kept weights concentrate in rows or columns in {len(found)} of {2 * len(spread)} cases; the variance "
            f"compared with a random mask is largest in {strongest}."
        ]
    agree = [pair for pair in pairs if pair["z"] > _SIGNIFICANT]
    if agree:
        sentences.append(
            "Sparse together: " + "; ".join(f"{pair['pair']} (r = {pair['r']:.2f})" for pair in agree) + "."
        )
    gone = [f"{n:,} {axis} of {part}" for part, axes in empty.items() for axis, (n, _) in axes.items() if n]
    sentences.append(f"Empty: {', '.join(gone)}." if gone else "No row and no column is empty.")
    return sentences


def _curves(subject: Subject) -> Picture:
    """Sorted densities of all rows and columns, with those of a random mask of the same counts."""
    figure, plots = figures.axes(2, len(subject.parts), 2.6, 2.4, sharex=True)
    random = np.random.default_rng(subject.seed)
    for col, part in enumerate(subject.parts):
        for row, axis in enumerate(_AXES):
            plot = plots[row, col]
            grids = [matrix.grid for matrix in subject.of(part)]
            shuffled = [random.permutation(grid.reshape(-1)).reshape(grid.shape) for grid in grids]
            for masks, colour, label in (
                (shuffled, figures.COLOURS[6], "random"),
                (grids, figures.COLOURS[0], "mask"),
            ):
                densities = np.sort(np.concatenate([grid.mean(axis=1 - row) for grid in masks]))
                plot.plot(np.linspace(0, 1, len(densities)), densities, color=colour, label=label)
            plot.set_title(f"{part}: {axis}", fontsize=10)
            plot.set_ylim(bottom=0)
    plots[0, 0].legend(frameon=False, fontsize=8)
    figure.supxlabel("fraction of the rows or columns, sparsest first", fontsize=9)
    figure.supylabel("density", fontsize=9)
    caption = "Sorted densities of the rows and columns of all layers, for the mask and for a random mask."
    return Picture("structure", caption, figure)


def _masks(subject: Subject) -> Picture:
    """Images of the masks of one layer, the layer with the strongest structure."""
    scores = {
        layer: max((d.z or 0.0) for matrix in subject.layer(layer).values() for d in _both(matrix.grid))
        for layer in subject.layers
    }
    layer = max(scores, key=scores.__getitem__)
    found = subject.layer(layer)
    cols = min(3, len(found))
    figure, plots = figures.axes(-(-len(found) // cols), cols, 3.2, 3.2)
    for plot in plots.flat[len(found) :]:
        plot.set_axis_off()
    for plot, (part, matrix) in zip(plots.flat, found.items(), strict=False):
        tiles = _tiles(matrix.mask)
        # The color scale ends at twice the density of the matrix, so that structure is visible at any density.
        plot.imshow(tiles, cmap="magma", aspect="auto", vmin=0, vmax=min(1.0, max(2 * matrix.density, 1e-9)))
        plot.set_title(f"{part}, {matrix.mask.shape[0]} x {matrix.mask.shape[1]}", fontsize=10)
        plot.set_xticks([])
        plot.set_yticks([])
    figure.supxlabel("inputs (columns)", fontsize=9)
    figure.supylabel("outputs (rows)", fontsize=9)
    caption = (
        f"Masks of layer {layer}, which has the strongest structure. Each pixel is the density of a tile: black is "
        "empty, the brightest color is at least twice the density of the matrix."
    )
    return Picture("masks", caption, figure)


def _tiles(mask: np.ndarray) -> np.ndarray:
    """Mean of `mask` over tiles, fewer than twice `_PICTURE` per side; incomplete tiles at the ends are dropped."""
    rows, cols = (max(1, side // _PICTURE) for side in mask.shape)
    r, c = mask.shape[0] // rows, mask.shape[1] // cols
    tiles: np.ndarray = mask[: r * rows, : c * cols].reshape(r, rows, c, cols).mean(axis=(1, 3))
    return tiles


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


SECTION = _Structure()
