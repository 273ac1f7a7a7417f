"""One matrix: the mask has the density and blocks asked for, and the kept weights are the best ones for it."""

from __future__ import annotations

import pytest
import torch

from aerogel.errors import TrainingError
from aerogel.prune.moments import Moments
from aerogel.prune.solve import prune_matrix
from aerogel.sparse.masks import kept_count, top_masks


def correlated(tokens: int = 400, width: int = 24, seed: int = 0) -> torch.Tensor:
    """Inputs ``[tokens, width]`` with strong correlations, as those of a network are."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, width, generator=draw) @ torch.randn(width, width, generator=draw)


def sums_of(x: torch.Tensor, z: torch.Tensor) -> Moments:
    return Moments(x.T @ x, x.T @ z, z.T @ z)


def error(weight: torch.Tensor, other: torch.Tensor, x: torch.Tensor, z: torch.Tensor) -> float:
    return float((x @ weight.T - z @ other.T).square().sum() / (x @ weight.T).square().sum())


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block", [(1, 1), (4, 1), (1, 4), (2, 2)])
@pytest.mark.parametrize("density", [0.5, 0.1])
def test_density_and_blocks(weight: torch.Tensor, block: tuple[int, int], density: float) -> None:
    x = correlated()
    found = prune_matrix("w", weight, sums_of(x, x), density, block, 0.01)
    tiles = found.mask.reshape(16 // block[0], block[0], 24 // block[1], block[1])
    assert torch.equal(tiles.any(3).any(1), tiles.all(3).all(1))
    assert int(tiles.any(3).any(1).sum()) == kept_count(density, 16 * 24 // (block[0] * block[1]))
    assert not found.weight[~found.mask].any()


def test_kept_weights_minimise_the_error_for_their_mask(weight: torch.Tensor) -> None:
    x, z = correlated(), correlated() + 0.3 * correlated(seed=5)
    found = prune_matrix("w", weight, sums_of(x, z), 0.4, (1, 1), 1e-6)
    expected = torch.zeros_like(weight, dtype=torch.float64)
    for row in range(len(weight)):
        support = found.mask[row]
        wanted = (x @ weight[row]).double()
        expected[row, support] = torch.linalg.lstsq(z[:, support].double(), wanted[:, None]).solution[:, 0]
    assert error(weight, found.weight, x, z) == pytest.approx(error(weight, expected.float(), x, z), rel=1e-3)


def test_the_reported_error_is_that_of_the_outputs(weight: torch.Tensor) -> None:
    x, z = correlated(), correlated(seed=3)
    found = prune_matrix("w", weight, sums_of(x, z), 0.3, (1, 1), 0.01)
    assert found.error == pytest.approx(error(weight, found.weight, x, z), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_less_error_than_magnitude_even_with_its_weights_refitted(weight: torch.Tensor, seed: int) -> None:
    x = correlated(seed=seed + 10)
    found = prune_matrix("w", weight, sums_of(x, x), 0.3, (1, 1), 1e-4)
    magnitude = top_masks({"w": weight.abs()}, 0.3)["w"]
    refitted = torch.zeros_like(weight)
    for row in range(len(weight)):
        support = magnitude[row]
        refitted[row, support] = torch.linalg.lstsq(x[:, support], (x @ weight[row])[:, None]).solution[:, 0]
    assert found.error < error(weight, refitted, x, x)


def test_dead_inputs_keep_the_solution_finite(weight: torch.Tensor) -> None:
    x = correlated()
    x[:, ::3] = 0
    found = prune_matrix("w", weight, sums_of(x, x), 0.5, (1, 1), 0.01)
    assert bool(torch.isfinite(found.weight).all())
    assert found.error < 0.05  # all that is pruned may be pruned where nothing comes in


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_useless_inputs_are_refused_by_name(weight: torch.Tensor, bad: float) -> None:
    x = torch.full((10, 24), bad)
    with pytest.raises(TrainingError, match=r"^encoder\.0\.w: "):
        prune_matrix("encoder.0.w", weight, sums_of(x, x), 0.5, (1, 1), 0.01)
