"""The inspected checkpoint: its masked matrices, each with its layer and its part in the layer."""

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
        name: name of the weight in model.safetensors.
        layer: number of the layer.
        part: part in the layer: one of `PARTS`, or the name of the module.
        mask: boolean ``[out, in]``, True where a weight is kept.
        block: (rows, cols) that were kept or pruned together.
    """

    name: str
    layer: int
    part: str
    mask: np.ndarray
    block: tuple[int, int]

    @property
    def density(self) -> float:
        """Fraction of weights kept."""
        return float(np.count_nonzero(self.mask) / self.mask.size)

    @property
    def grid(self) -> np.ndarray:
        """The mask with one entry per block: boolean ``[out / r, in / c]``."""
        rows, cols = self.block
        return self.mask[::rows, ::cols]


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the models that it is compared with.

    Attributes:
        checkpoint: the verified checkpoint.
        matrices: its masked matrices, ordered by layer, then by `PARTS`.
        heads: attention heads per layer; None if config.json does not say.
        against: another checkpoint of the same model.
        dense: directory of the model before pruning.
        texts: texts whose last hidden states are compared; if empty, word embeddings are compared.
        seed: random seed of samples.
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
        """Names of the parts that occur, in the order of `PARTS`."""
        return sorted({matrix.part for matrix in self.matrices}, key=_rank)

    def of(self, part: str) -> list[Matrix]:
        """The matrices of one part, one per layer."""
        return [matrix for matrix in self.matrices if matrix.part == part]

    def layer(self, number: int) -> dict[str, Matrix]:
        """The matrices of one layer by part."""
        return {matrix.part: matrix for matrix in self.matrices if matrix.layer == number}

    def weights(self) -> Iterator[tuple[Matrix, np.ndarray]]:
        """Each matrix with its weight ``[out, in]``; weights are read one at a time.

        Raises:
            CheckpointError: a weight is not finite.
        """
        file = self.checkpoint.path / WEIGHTS_FILE
        with require("safetensors", "inspect").safe_open(str(file), framework="numpy") as stored:
            for matrix in self.matrices:
                weight = stored.get_tensor(matrix.name)
                if not np.isfinite(weight).all():
                    raise CheckpointError(
                        f"{file}: {matrix.name} has NaN or infinite values; train the model again"
                    )
                yield matrix, weight


def load(
    path: Path,
    *,
    against: Path | None = None,
    dense: Path | None = None,
    texts: tuple[str, ...] = (),
    seed: int = 0,
) -> Subject:
    """Read and verify a checkpoint and the checkpoint that it is compared with.

    Raises:
        CheckpointError: a checkpoint is damaged.
        UsageError: the checkpoint has no masks, or the masks of `against` have other names or shapes.
    """
    require("safetensors", "inspect")
    made = checkpoint.load(path)
    if not made.masks:
        raise UsageError(
            f"{path} has no masks (its method is {made.record.method}); give a pruned checkpoint"
        )
    other = checkpoint.load(against) if against else None
    if other:
        _check_same_model(made, other)
    matrices = [_matrix(name, mask, made.record.block) for name, mask in made.masks.items()]
    matrices.sort(key=lambda matrix: (matrix.layer, *_rank(matrix.part)))
    return Subject(made, matrices, _heads(path), other, dense, texts, seed)


def _matrix(name: str, mask: np.ndarray, block: tuple[int, int]) -> Matrix:
    words = name.removesuffix(".weight").split(".")
    position = next((index for index, word in enumerate(words) if word.isdecimal()), None)
    layer = 0 if position is None else int(words[position][:9])
    module = ".".join(words if position is None else words[position + 1 :])
    part = next((part for part, endings in PARTS.items() if module.endswith(endings)), module)
    return Matrix(name, layer, part, mask, block)


def _rank(part: str) -> tuple[int, str]:
    return (list(PARTS).index(part) if part in PARTS else len(PARTS), part)


def _heads(path: Path) -> int | None:
    config = checkpoint.read_config(path)
    return head_count(config)


def _check_same_model(one: Checkpoint, other: Checkpoint) -> None:
    for name in sorted(one.masks.keys() | other.masks.keys()):
        shapes = [made.masks[name].shape if name in made.masks else None for made in (one, other)]
        if shapes[0] != shapes[1]:
            shown = ["missing" if shape is None else "x".join(map(str, shape)) for shape in shapes]
            raise UsageError(
                f"--against {other.path}: mask of {name} is {shown[1]}, in {one.path} it is {shown[0]}; "
                "give two checkpoints of the same model"
            )
