from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from aerogel import checkpoint
from aerogel.cost.model import CostModel
from aerogel.errors import CheckpointError, ExportError, UsageError
from aerogel.export.plan import AUTO, StoragePlan, make_plan, read_weights
from aerogel.ops.functions import op_for
from aerogel.sparse.formats import FORMATS

Checkpoints = Callable[..., Path]


def test_weights_are_those_of_the_file(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    weights = read_weights(loaded.path, list(loaded.masks))
    for name, mask in loaded.masks.items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name] != 0, mask)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    sound, odd = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    odd[1, 2] = value
    safetensors.numpy.save_file({"sound": sound, "odd.weight": odd}, tmp_path / "model.safetensors")
    assert list(read_weights(tmp_path, ["sound"])) == ["sound"]
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: odd\.weight has values that are not finite; restore it"
    ):
        read_weights(tmp_path, ["sound", "odd.weight"])


def test_a_matrix_too_large_for_the_function_is_named(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    monkeypatch.setattr("aerogel.export.plan.op_for", lambda *kind: replace(op_for(*kind), max_elements=10))
    name = next(iter(loaded.masks))
    with pytest.raises(
        ExportError, match=f"{name} is .* more than the 10 elements that CsrLinear_v1 supports"
    ):
        make_plan(loaded, "csr")


def test_sparse_matrices_are_packed(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.1))
    plan = make_plan(loaded, "csr")
    assert list(plan) == list(loaded.masks)
    for name, choice in plan.items():
        assert choice.format == "csr"
        assert choice.stored == choice.kept == loaded.masks[name].sum()
        # float32 value and uint16 column for each entry, int32 for each row and one more
        assert choice.bytes == 6 * choice.kept + 4 * (choice.shape[0] + 1)
        np.testing.assert_array_equal(FORMATS.get("csr").decode(choice.arrays, choice.shape), choice.weight)


def test_matrices_denser_than_the_limit_stay_dense(tiny_checkpoint: Checkpoints) -> None:
    # Scores ranked over all matrices together give each a density of its own.
    loaded = checkpoint.load(tiny_checkpoint(density=0.5, scope="global"))
    densities = loaded.accounting.matrices
    limit = sorted(m.density for m in densities.values())[len(densities) // 2]
    plan = make_plan(loaded, "csr", max_density=limit)
    for name, choice in plan.items():
        assert choice.format == ("csr" if densities[name].density <= limit else "dense")
        assert choice.reason == f"{'at most' if choice.format == 'csr' else 'more than'} {limit:.0%} stored"
    assert {choice.format for choice in plan.values()} == {"csr", "dense"}


def test_limit_counts_what_blocks_store_beside_what_is_kept(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.1))
    by_entry, by_block = make_plan(loaded, "csr"), make_plan(loaded, "bsr", block=(4, 4), max_density=0.3)
    assert {choice.format for choice in by_entry.values()} == {"csr"}
    # One in ten entries at random touches 1 - 0.9^16 = 81% of 4x4 blocks.
    assert {choice.format for choice in by_block.values()} == {"dense"}
    for choice in by_block.values():
        assert 0.7 < choice.stored / choice.weight.size < 0.9
        assert choice.kept == by_entry[choice.name].kept
        assert choice.bytes == choice.weight.nbytes


def test_blocks_are_the_checkpoints_unless_told(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.25, block=(4, 2)))
    for block, shape in ((None, (4, 2)), ((2, 2), (2, 2))):
        plan = make_plan(loaded, "bsr", block=block)
        assert {choice.arrays["data"].shape[1:] for choice in plan.values()} == {shape}
    assert {choice.kept for choice in plan.values()} == {mask.sum() for mask in loaded.masks.values()}


def test_dense_is_dense(tiny_checkpoint: Checkpoints) -> None:
    plan = make_plan(checkpoint.load(tiny_checkpoint()), "dense")
    assert {(choice.format, choice.reason) for choice in plan.values()} == {("dense", "asked for")}


def test_checkpoint_without_masks_has_nothing_to_choose(tiny_checkpoint: Checkpoints) -> None:
    assert make_plan(checkpoint.load(tiny_checkpoint(density=1)), "csr") == {}


def test_bad_requests(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    with pytest.raises(UsageError, match=r"unknown format 'cssr'.*bsr.*did you mean csr"):
        make_plan(loaded, "cssr")
    with pytest.raises(UsageError, match=r"block 5x1 does not divide bert\.encoder.*32x32"):
        make_plan(loaded, "bsr", block=(5, 1))
    for form in ("csr", "dense"):
        with pytest.raises(UsageError, match=f"--block does not apply to --format {form}"):
            make_plan(loaded, form, block=(4, 1))
    for limit in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="--max-density"):
            make_plan(loaded, "csr", max_density=limit)


@pytest.mark.parametrize(
    ("block", "limit"), [((1, 4), 0.5), ((6, 2), 0.55), ((4, 1), 0.9), ((8, 8), 0.9), ((3, 1), 0.5)]
)
def test_the_break_even_follows_the_height_of_blocks(block: tuple[int, int], limit: float) -> None:
    assert op_for("bsr").max_density(block) == limit
    assert op_for("csr").max_density(block) == 0.5


def test_choosing_needs_no_torch(tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    monkeypatch.setitem(sys.modules, "torch", None)
    plan = make_plan(loaded, "csr")
    assert {choice.weight.dtype.name for choice in plan.values()} == {"float32"}


@pytest.mark.parametrize("weights", ["fp16", "int8"])
@pytest.mark.parametrize(("form", "block"), [("csr", None), ("bsr", (1, 4))])
def test_values_are_stored_as_asked(
    tiny_checkpoint: Checkpoints, weights: str, form: str, block: tuple[int, int] | None
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=0.1, block=(1, 4)))
    for choice in make_plan(loaded, form, block, weights=weights).values():
        assert (choice.format, choice.weights) == (form, weights)
        assert choice.arrays["data"].dtype == {"fp16": np.float16, "int8": np.int8}[weights]
        assert choice.arrays["data"].shape[1:] == (block or ())
        beside = {"scale": choice.shape[0]} if weights == "int8" else {}
        assert {name: len(choice.arrays[name]) for name in choice.arrays.keys() & {"scale"}} == beside
        step = 2**-11 if weights == "fp16" else 0.5 / 127
        largest = np.abs(choice.weight).max(1, keepdims=True)
        error = np.abs(choice.rounded() - choice.weight)
        assert (error <= 1.0001 * step * largest).all()
        assert error.max() > 0.1 * step * largest.max()
        np.testing.assert_array_equal(choice.rounded()[choice.weight == 0], 0)


@pytest.mark.parametrize(
    ("hidden", "block"), [(32, (16, 16)), (12, (4, 4)), (6, (1, 1))], ids=["16x16", "4x4", "1x1"]
)
def test_8_bits_store_whole_what_does_not_pay_sparse(
    tiny_checkpoint: Checkpoints, hidden: int, block: tuple[int, int]
) -> None:
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 1}
    loaded = checkpoint.load(tiny_checkpoint(density=0.5, **sizes))
    for choice in make_plan(loaded, "csr", max_density=0.4, weights="int8").values():
        assert (choice.format, choice.weights, choice.reason) == ("bsr", "int8", "more than 40% stored")
        assert choice.arrays["data"].shape[1:] == block
        assert choice.stored == choice.arrays["data"].size == choice.weight.size
        assert np.count_nonzero(choice.rounded()) <= choice.kept
    for choice in make_plan(loaded, "csr", max_density=0.4, weights="fp16").values():
        assert (choice.format, choice.weights, choice.arrays) == ("dense", "fp32", {})


@pytest.mark.parametrize(
    ("density", "block", "own", "weights", "expected"),
    [
        (0.1, (1, 1), None, "fp32", "csr"),
        (0.1, (1, 4), None, "fp32", "bsr 1x4"),  # as fast as csr, and smaller
        (0.4, (4, 1), None, "fp32", "bsr 4x1"),
        (0.7, (4, 1), None, "fp32", "bsr 4x1"),  # above the break-even of csr
        (0.7, (1, 1), None, "fp32", "dense"),
        (0.7, (1, 1), None, "int8", "bsr 16x16"),
        (0.1, (1, 1), (4, 4), "fp32", "csr"),  # blocks that are mostly empty
        (0.1, (4, 4), (1, 1), "fp32", "bsr 1x1"),
    ],
)
def test_auto_selects_the_fastest_format(
    tiny_checkpoint: Checkpoints,
    density: float,
    block: tuple[int, int],
    own: tuple[int, int] | None,
    weights: str,
    expected: str,
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=density, block=block, num_hidden_layers=1))
    for choice in make_plan(loaded, AUTO, own, weights=weights).values():
        shape = choice.arrays["data"].shape[1:] if choice.arrays else ()
        assert " ".join([choice.format, *["x".join(map(str, shape))] * bool(shape)]) == expected


def test_bitmask_is_predicted_as_csr(
    tiny_checkpoint: Checkpoints, fake_cost_model: Callable[..., CostModel]
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(num_hidden_layers=1))
    bits, csr = (make_plan(loaded, form, calibration=fake_cost_model()) for form in ("bitmask", "csr"))
    for name, choice in bits.items():
        assert (choice.format, choice.product) == ("bitmask", csr[name].product)
        rows, columns = choice.shape
        assert choice.bytes == 4 * choice.kept + rows * columns // 8


def test_auto_looks_at_each_matrix(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint(num_hidden_layers=1))
    names = list(loaded.masks)
    weights = {name: np.ones(mask.shape, np.float32) for name, mask in loaded.masks.items()}
    weights[names[0]][8:] = 0  # whole rows
    weights[names[1]][::2, ::2] = 0  # 75% of the entries, in no block
    weights[names[2]] *= loaded.masks[names[2]]
    masks = {name: weight != 0 for name, weight in weights.items()}
    plan = make_plan(replace(loaded, masks=masks), read=lambda _: weights)
    assert [plan[name].format for name in names[:4]] == ["bsr", "dense", "csr", "dense"]
    assert plan[names[0]].reason == "at most 90% stored; not slower than csr"
    assert [plan[name].reason for name in names[1:4]] == [
        "more than 50% stored", "at most 50% stored", "not pruned",
    ]  # fmt: skip


@pytest.mark.parametrize("weights", ["fp32", "int8"])
@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 1), (4, 4)])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.8])
def test_auto_is_predicted_no_slower_than_either_format(
    tiny_checkpoint: Checkpoints,
    fake_cost_model: Callable[..., CostModel],
    density: float,
    block: tuple[int, int],
    weights: str,
) -> None:
    loaded = checkpoint.load(tiny_checkpoint(density=density, block=block, num_hidden_layers=1))
    costs = fake_cost_model(overhead=(1, 0, 0, 0, 3), slot=3.0, dense=(0, 0, 0, 2.0))

    def seconds(plan: dict[str, StoragePlan]) -> dict[str, float]:
        return {
            name: costs.dense_seconds(choice.shape, 128)
            if choice.format == "dense"
            else costs.packed_seconds(choice.product, 128)
            for name, choice in plan.items()
        }

    auto, csr, bsr = (
        seconds(make_plan(loaded, form, weights=weights, calibration=costs)) for form in (AUTO, "csr", "bsr")
    )
    for name in auto:
        assert auto[name] <= min(csr[name], bsr[name]) * 1.0001


def test_bad_requests_for_types_of_values(tiny_checkpoint: Checkpoints) -> None:
    loaded = checkpoint.load(tiny_checkpoint())
    with pytest.raises(UsageError, match=r"unknown value type 'int9'; known: fp16, fp32, int8; did you mean"):
        make_plan(loaded, "csr", weights="int9")
    with pytest.raises(UsageError, match="--weights int8 does not apply to --format dense"):
        make_plan(loaded, "dense", weights="int8")
    with pytest.raises(UsageError, match=r"--weights fp16: .* has no pruned matrices"):
        make_plan(checkpoint.load(tiny_checkpoint(density=1)), "csr", weights="fp16")
