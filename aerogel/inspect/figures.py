"""Plotting helpers of the sections. matplotlib is imported only here, and only when something is plotted."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "axes", "data_uri", "heatmap", "png"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
"""The palette of Okabe and Ito, which is readable with color vision deficiency."""

_DPI = 110
# Largest number of cells of a heat map whose values are written into the cells.
_MAX_LABELED = 200


def axes(rows: int, cols: int, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure and its axes ``[rows, cols]``, each `width` by `height` inches, without top and right spines."""
    figure: Figure = require("matplotlib.figure", "inspect").Figure(
        figsize=(cols * width, rows * height), layout="constrained"
    )
    plots: np.ndarray = figure.subplots(rows, cols, squeeze=False, **options)
    for plot in plots.flat:
        plot.spines[["top", "right"]].set_visible(False)
    return figure, plots


def heatmap(
    values: np.ndarray,
    rows: Sequence[Any],
    cols: Sequence[Any],
    down: str,
    across: str,
    meaning: str,
    width: float = 7.0,
) -> Figure:
    """Heat map of values ``[rows, cols]``: NaN is gray, and small maps show the numbers.

    Args:
        values: float ``[rows, cols]``.
        rows: labels of the rows.
        cols: labels of the columns.
        down: label of the vertical axis.
        across: label of the horizontal axis.
        meaning: label of the color bar.
        width: inches.
    """
    figure, plots = axes(1, 1, width, 1.4 + 0.3 * len(rows))
    plot = plots[0, 0]
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    image = plot.imshow(values, aspect="auto", cmap="viridis", vmin=0.0, vmax=top or 1.0)
    plot.set_facecolor("#dddddd")
    if len(cols) <= _MAX_LABELED // 4:
        plot.set_xticks(range(len(cols)), [str(col) for col in cols])
    plot.set_yticks(range(len(rows)), [str(row) for row in rows])
    plot.set_ylabel(down)
    plot.set_xlabel(across)
    if values.size <= _MAX_LABELED:
        for (row, col), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value < 0.6 * top else "black"
                plot.text(col, row, f"{value:.1%}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=plot, label=meaning)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    require("matplotlib.backends.backend_agg", "inspect").FigureCanvasAgg(figure)
    # Without the library's version in the metadata, equal figures give equal files.
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def data_uri(image: bytes) -> str:
    """A data URI that contains the PNG file `image`."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
