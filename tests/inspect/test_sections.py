from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel.checkpoint import SCORES_FILE, scores
from aerogel.errors import UsageError
from aerogel.inspect.report import inspect
from aerogel.inspect.section import Finding
from aerogel.inspect.sections import SECTIONS
from aerogel.inspect.sections.blocks import _covered
from aerogel.inspect.sections.embeddings import neighbours_kept
from aerogel.inspect.subject import load

Masked = Callable[..., Path]


def section(name: str, path: Path, **options: object) -> Finding:
    found = SECTIONS.get(name).analyse(load(path, **options))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_densities_by_hand(masked: Masked) -> None:
    def edit(name: str, mask: np.ndarray) -> None:
        mask[:] = False
        # A quarter of every matrix, and all of the first layer's query.
        mask[:, : mask.shape[1] // 4] = True
        if "0.attention.self.query" in name:
            mask[:] = True

    data = section("density", masked(edit)).data
    assert data["parts"] == {"Q": 0.625, "K": 0.25, "V": 0.25, "O": 0.25, "FFN in": 0.25, "FFN out": 0.25}
    # Four of 32 x 32 and two of 32 x 64: 8192 weights a layer.
    assert data["layers"] == {"0": (2048 + 768) / 8192, "1": 0.25}


def test_structure_in_columns_of_q_and_rows_of_k_is_found(masked: Masked) -> None:
    random = np.random.default_rng(0)

    def edit(name: str, mask: np.ndarray) -> None:
        mask[:] = random.random(mask.shape) < 0.3
        uneven = np.where(np.arange(32) < 16, 0.05, 0.55)
        if "query" in name:
            mask[:] = random.random(mask.shape) < uneven[None, :]
            mask[:, 3] = False
        if "key" in name:
            mask[:] = random.random(mask.shape) < uneven[:, None]

    found = section("structure", masked(edit))
    z = {
        (part, axis): values["z"]
        for part, axes in found.data["parts"].items()
        for axis, values in axes.items()
    }
    assert {key for key, value in z.items() if value > 5} == {("Q", "columns"), ("K", "rows")}
    assert all(abs(value) < 5 for key, value in z.items() if key not in (("Q", "columns"), ("K", "rows")))
    assert found.data["parts"]["Q"]["columns"]["empty"] >= 2
    pairs = {pair["pair"]: pair for pair in found.data["pairs"]}
    assert abs(pairs["Q rows and K rows"]["z"]) < 5
    assert any("columns of Q" in line and "rows of K" in line for line in found.summary)


def test_a_random_mask_has_no_structure(tiny_checkpoint: Callable[..., Path]) -> None:
    for block in ((1, 1), (4, 1)):
        found = section("structure", tiny_checkpoint(density=0.3, block=block))
        assert "no structure" in found.summary[0]


def test_correlation_counts_each_block_once(masked: Masked) -> None:
    random = np.random.default_rng(0)
    z = []
    for number in range(12):

        def edit(_: str, mask: np.ndarray) -> None:
            kept = random.permutation(mask.size // 64 * 8) < mask.size // 64 * 4
            mask[:] = np.repeat(kept.reshape(len(mask) // 8, -1), 8, axis=0)

        made = masked(edit, f"m{number}", block=(8, 1))
        z += [
            pair["z"]
            for pair in section("structure", made).data["pairs"]
            if pair["pair"] == "Q rows and K rows"
        ]
    # z is standard normal. If every row counted, its deviation would be about 2.9.
    assert 0.5 < float(np.std(z)) < 1.6


def test_dead_and_blind_heads_and_neurons(masked: Masked) -> None:
    def edit(name: str, mask: np.ndarray) -> None:
        mask[:] = True
        if "layer.0." in name and "value" in name:
            mask[:16] = False  # head 0
        if "layer.0." in name and "query" in name:
            mask[:] = False  # both heads, of which one is dead already
        if "layer.1." in name and "attention.output" in name:
            mask[:, 16:] = False  # head 1
        if "intermediate" in name:
            mask[:5] = False
        if name.endswith("1.output.dense.weight"):
            mask[:, 4:7] = False

    found = section("heads", masked(edit))
    assert [(layer["dead"], layer["blind"]) for layer in found.data["heads"]] == [([0], [1]), ([1], [])]
    assert found.data["heads"][0]["density"] == [(0 + 1 + 0 + 1) / 4, (0 + 1 + 1 + 1) / 4]
    neurons = [(n["silent"], n["unread"], n["dead"]) for n in found.data["neurons"]]
    assert neurons == [(5, 0, 5), (5, 3, 7)]
    assert found.summary[0] == "2 of 4 attention heads are dead, and 1 more are blind."


def test_an_encoder_without_known_parts_has_no_heads(tiny_checkpoint: Callable[..., Path]) -> None:
    subject = load(tiny_checkpoint("modernbert"))
    assert SECTIONS.get("heads").analyse(subject) is None
    assert inspect(subject).summary


def test_blocks_by_hand(masked: Masked) -> None:
    def edit(_: str, mask: np.ndarray) -> None:
        mask[:] = False
        mask[0:4, ::2] = True  # 4 rows, every other column

    data = section("blocks", masked(edit)).data
    # In a 32-row matrix: an eighth of the rows, half of the columns.
    assert data["4x1"]["fill"] == 1.0
    assert data["8x1"]["fill"] == 0.5
    assert data["1x4"]["fill"] == 0.5
    assert "64x64" not in data


def test_blocks_expected_of_random_masks(tiny_checkpoint: Callable[..., Path]) -> None:
    for block in ((1, 1), (4, 1), (2, 2)):
        path = tiny_checkpoint(density=0.2, block=block)
        data = section("blocks", path).data
        for name in ("1x4", "4x1", "8x1"):
            assert data[name]["random"] == pytest.approx(data[name]["stored"], abs=0.04), (block, name)


def test_blocks_overlapped_by_unaligned_tiles() -> None:
    assert _covered(4, 1) == 4
    assert _covered(1, 4) == 1
    assert _covered(8, 4) == 2
    # Tiles of 2 over blocks of 3: at 0 one, at 2 two, at 4 one.
    assert _covered(2, 3) == pytest.approx(4 / 3)


def test_weight_quantiles_and_histograms(masked: Masked) -> None:
    found = section("weights", masked(lambda _, mask: mask.fill(True)))
    assert found.data["Q"]["count"] == 2048
    edge = found.data["Q"]["edges"][-1]
    assert edge == pytest.approx(1.6 * found.data["Q"]["p95"])
    assert 0.95 * 2048 < sum(found.data["Q"]["counts"]) <= 2048
    assert (
        found.data["Q"]["p5"]
        < found.data["Q"]["median"]
        < found.data["Q"]["p95"]
        <= found.data["Q"]["largest"]
    )
    empty = section("weights", masked(lambda name, mask: mask.fill("query" not in name), "empty"))
    assert "Q" not in empty.data
    path = masked(lambda _, mask: mask.fill(False), "nothing")
    assert SECTIONS.get("weights").draw(load(path), section("weights", path)) == []


def test_scores_by_hand(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], reseal: Callable[[Path, str], None]
) -> None:
    path = Path(shutil.copytree(tiny_checkpoint(density=0.25), tmp_path / "scored"))
    assert SECTIONS.get("scores").analyse(load(path)) is None
    masks = load(path).checkpoint.masks
    learned = {name: np.where(mask, 3.0, -1.0) for name, mask in masks.items()}
    scores.save(path, learned)
    reseal(path, SCORES_FILE)
    found = section("scores", path)
    query = found.data["Q"]
    assert (query["kept"]["count"], query["pruned"]["count"]) == (512, 1536)
    assert query["kept"]["quantiles"] == [3.0] * 5
    assert query["pruned"]["quantiles"] == [-1.0] * 5
    assert (sum(query["kept"]["counts"]), sum(query["pruned"]["counts"])) == (512, 1536)
    assert {part["overlap"] for part in found.data.values()} == {0.0}
    assert "one threshold" in found.summary[0]
    assert [picture.name for picture in SECTIONS.get("scores").draw(load(path), found)] == ["scores"]
    # A quarter of the pruned weights score higher than one kept weight.
    name = next(name for name in masks if "0.attention.self.query" in name)
    pruned = np.argwhere(~masks[name])
    learned[name][tuple(pruned[:384].T)] = 1.0
    learned[name][tuple(np.argwhere(masks[name])[0])] = 0.0
    scores.save(path, learned)
    reseal(path, SCORES_FILE)
    found = section("scores", path)
    assert found.data["Q"]["overlap"] == 384 / 1536
    assert "up to 25.0%" in found.summary[0]


def test_agreement_by_hand(masked: Masked) -> None:
    def one(_: str, mask: np.ndarray) -> None:
        mask[:] = False
        mask[: len(mask) // 2] = True

    def other(_: str, mask: np.ndarray) -> None:
        mask[:] = False
        mask[: len(mask) // 4] = True

    found = section("agreement", masked(one, "one"), against=masked(other, "other"))
    whole = found.data["all"]
    assert whole["jaccard"] == 0.5
    # Of N, N / 2 and N / 4 are kept: N / 8 by both at random, 5 N / 8 by either.
    assert whole["random"] == pytest.approx(0.2)
    # They agree on 3 / 4, at random on 1 / 8 + 3 / 8.
    assert whole["kappa"] == pytest.approx(0.5)
    same = section("agreement", masked(one, "three"), against=masked(one, "four")).data["all"]
    assert (same["jaccard"], same["kappa"]) == (1, 1)


def test_independent_masks_agree_as_random_masks(tiny_checkpoint: Callable[..., Path]) -> None:
    found = section("agreement", tiny_checkpoint(density=0.3), against=tiny_checkpoint(density=0.3, seed=5))
    assert abs(found.data["all"]["z"]) < 4
    assert "as random masks would" in found.summary[0]
    # Entries of a block are dependent, so z is undefined if the blocks differ.
    first = tiny_checkpoint(density=0.3, block=(4, 1))
    found = section("agreement", first, against=tiny_checkpoint(density=0.3, block=(8, 1), seed=5))
    assert found.data["all"]["z"] is None
    assert "not possible" in found.summary[0]
    found = section("agreement", first, against=tiny_checkpoint(density=0.3, seed=5))
    assert abs(found.data["all"]["z"]) < 4


def test_embeddings_before_and_after(tiny_checkpoint: Callable[..., Path], masked: Masked) -> None:
    dense = tiny_checkpoint(density=1.0)
    path = masked(lambda *_: None)
    table = section("embeddings", path, dense=dense).data
    assert table["identical"]
    assert table["neighbours_kept"] == 1
    texts = (
        "the film was good",
        "a film that is not very good",
        "bad, in that it was bad",
        "to the film, of a film: it was very very good",
        "is it not a bad and good film, that",
    )
    states = section("embeddings", path, dense=dense, texts=texts)
    assert not states.data["identical"]
    assert 0 < states.data["neighbours_kept"] < 1
    assert np.array(states.data["before"]).shape == (states.data["points"], 2)


def test_too_few_embeddings_are_rejected(tiny_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"distinct last hidden states are too few; at least 40 are needed"):
        section("embeddings", tiny_checkpoint(), dense=tiny_checkpoint(density=1.0), texts=("good",) * 50)
    with pytest.raises(UsageError, match=r"word embeddings of 84x16 and 84x32|word embeddings of"):
        section("embeddings", tiny_checkpoint(), dense=tiny_checkpoint("electra", density=1.0))


def test_kept_neighbours_by_hand() -> None:
    before = np.array([[0.0], [1.0], [3.0], [7.0]])
    after = np.array([[0.0], [9.0], [3.0], [8.0]])
    # Nearest before: 1, 0, 1, 2; after: 2, 3, 0, 1.
    assert neighbours_kept(before, after, 1) == 0
    assert neighbours_kept(before, before * 2, 1) == 1


@pytest.mark.parametrize("name", SECTIONS.names())
def test_every_section_has_a_title_and_its_own_order(name: str) -> None:
    orders = [SECTIONS.get(other).order for other in SECTIONS.names()]
    assert orders.count(SECTIONS.get(name).order) == 1
    assert SECTIONS.get(name).title
