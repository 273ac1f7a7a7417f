"""What is inspected: the masked matrices of a checkpoint, each with its place and its part in a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerogel import checkpoint
from aerogel.checkpoint import WEIGHTS_FILE, Checkpoint
from aerogel.errors import CheckpointError, UsageError, require
from aerogel.hf.families import PARTS, head_count

__all__ = ["Matrix", "Subject", "load"]


@dataclass(frozen=True)
class Matrix:
    """One masked weight.

    Attributes:
        name: of the weight in model.safetensors.
        layer: number of its layer.
        part: its part in the layer: one of `PARTS`, or the module's own name.
        mask: boolean ``[out, in]``, True where a weight is kept.
        block: (rows, cols) that were kept or dropped together.
    """

    name: str
    layer: int
    part: str
    mask: np.ndarray
    block: tuple[int, int]

    @property
    def density(self) -> float:
        """Fraction kept."""
        return float(np.count_nonzero(self.mask) / self.mask.size)

    @property
    def grid(self) -> np.ndarray:
        """The mask as it was decided: boolean ``[out / r, in / c]``, one entry a block."""
        rows, cols = self.block
        return self.mask[::rows, ::cols]


@dataclass(frozen=True)
class Subject:
    """A checkpoint and what it is compared with.

    Attributes:
        checkpoint: verified.
        matrices: in the order of layers, then of `PARTS`.
        heads: attention heads of a layer; None where config.json does not say.
        against: another checkpoint of the same model.
        dense: directory of the model before pruning.
        texts: sentences whose embeddings are compared; without any, the table of word embeddings is.
        seed: of samples.
    """

    checkpoint: Checkpoint
    matrices: list[Matrix]
    heads: int | None
    against: Checkpoint | None = None
    dense: Path | None = None
    texts: tuple[str, ...] = ()
    seed: int = 0

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers that have a masked matrix."""
        return sorted({matrix.layer for matrix in self.matrices})

    @property
    def parts(self) -> list[str]:
        """Names of the parts that occur, in their order."""
        return sorted({matrix.part for matrix in self.matrices}, key=_rank)

    def of(self, part: str) -> list[Matrix]:
        """The matrices of one part, a layer each."""
        return [matrix for matrix in self.matrices if matrix.part == part]

    def layer(self, number: int) -> dict[str, Matrix]:
        """The matrices of one layer by part."""
        return {matrix.part: matrix for matrix in self.matrices if matrix.layer == number}

    def weights(self) -> Iterator[tuple[Matrix, np.ndarray]]:
        """Every matrix with its weight ``[out, in]``, read one at a time.

        Raises:
            CheckpointError: a weight is not finite.
        """
        file = self.checkpoint.path / WEIGHTS_FILE
        with require("safetensors", "inspect").safe_open(str(file), framework="numpy") as stored:
            for matrix in self.matrices:
                weight = stored.get_tensor(matrix.name)
                if not np.isfinite(weight).all():
                    raise CheckpointError(f"{file}: {matrix.name} has values that are not finite; train anew")
                yield matrix, weight


def load(
    path: Path,
    *,
    against: Path | None = None,
    dense: Path | None = None,
    texts: tuple[str, ...] = (),
    seed: int = 0,
) -> Subject:
    """Read and verify a checkpoint and the one it is compared with.

    Raises:
        CheckpointError: a checkpoint is damaged.
        UsageError: it has no masks, or `against` has others than this one's.
    """
    require("safetensors", "inspect")
    made = checkpoint.load(path)
    if not made.masks:
        raise UsageError(
            f"{path} has no masks: it was made with method {made.record.method}; give a pruned checkpoint"
        )
    other = checkpoint.load(against) if against else None
    if other:
        _demand_same(made, other)
    matrices = [_matrix(name, mask, made.record.block) for name, mask in made.masks.items()]
    matrices.sort(key=lambda matrix: (matrix.layer, *_rank(matrix.part)))
    return Subject(made, matrices, _heads(path), other, dense, texts, seed)


def _matrix(name: str, mask: np.ndarray, block: tuple[int, int]) -> Matrix:
    words = name.removesuffix(".weight").split(".")
    place = next((at for at, word in enumerate(words) if word.isdecimal()), None)
    layer = 0 if place is None else int(words[place][:9])
    module = ".".join(words if place is None else words[place + 1 :])
    part = next((part for part, endings in PARTS.items() if module.endswith(endings)), module)
    return Matrix(name, layer, part, mask, block)


def _rank(part: str) -> tuple[int, str]:
    return (list(PARTS).index(part) if part in PARTS else len(PARTS), part)


def _heads(path: Path) -> int | None:
    config = checkpoint.read_config(path)
    return head_count(config)


def _demand_same(one: Checkpoint, other: Checkpoint) -> None:
    for name in sorted(one.masks.keys() | other.masks.keys()):
        shapes = [made.masks[name].shape if name in made.masks else None for made in (one, other)]
        if shapes[0] != shapes[1]:
            said = ["none" if shape is None else "x".join(map(str, shape)) for shape in shapes]
            raise UsageError(
                f"--against {other.path}: its mask of {name} is {said[1]}, that of {one.path} {said[0]}; "
                "give two checkpoints of one model"
            )
