from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aerogel.bench.inputs import Input, check_length, feeds, vocabulary
from aerogel.errors import UsageError

MODEL = Path("model.onnx")


def fill(
    *inputs: Input, batch: int = 2, seq: int = 5, vocab: int = 7, seed: int = 0
) -> dict[str, np.ndarray]:
    return feeds(MODEL, inputs, batch=batch, seq=seq, vocab=vocab, seed=seed)


def open_input(name: str, type: str = "tensor(int64)") -> Input:
    return Input(name, type, ("batch", None))


@pytest.mark.parametrize("config", ["{}", '{"vocab_size": "9"}', '{"vocab_size": 0}'])
def test_a_config_without_a_valid_size_means_a_thousand_ids(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert vocabulary(tmp_path / "model.onnx") == 1000


def test_a_link_uses_the_config_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3/model.onnx").touch()
    (tmp_path / "v3/config.json").write_text('{"vocab_size": 7, "max_position_embeddings": 5}')
    link = tmp_path / "current.onnx"
    link.symlink_to("v3/model.onnx")
    (tmp_path / "config.json").write_text('{"vocab_size": 9, "max_position_embeddings": 50}')
    assert vocabulary(link) == 7
    (tmp_path / "v3/model.manifest.json").write_text('{"max_length": 6}')
    check_length(link, 6)
    with pytest.raises(UsageError, match=r"takes at most 6 tokens; give --seq 6 or less, not 7"):
        check_length(link, 7)


def test_values_of_each_input() -> None:
    filled = fill(
        open_input("input_ids"),
        open_input("attention_mask", "tensor(int32)"),
        open_input("token_type_ids"),
        open_input("position_ids"),
        batch=3,
        seq=400,
    )
    assert set(np.unique(filled["input_ids"])) == set(range(7))
    assert (filled["attention_mask"] == 1).all()
    assert filled["attention_mask"].dtype == np.int32
    assert (filled["token_type_ids"] == 0).all()
    assert (filled["position_ids"] == np.arange(400)).all()
    assert all(array.shape == (3, 400) for array in filled.values())


def test_masks_end_with_their_sequences() -> None:
    filled = feeds(
        MODEL,
        [open_input("input_ids"), open_input("attention_mask")],
        batch=2,
        seq=4,
        vocab=7,
        seed=0,
        lengths=[4, 1],
    )
    assert filled["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert (filled["input_ids"] == fill(open_input("input_ids"), batch=2, seq=4)["input_ids"]).all()


def test_the_seed_decides_the_ids() -> None:
    item = open_input("input_ids")
    assert (fill(item, seed=1)["input_ids"] == fill(item, seed=1)["input_ids"]).all()
    assert (fill(item, seed=1)["input_ids"] != fill(item, seed=2)["input_ids"]).any()


@pytest.mark.parametrize(
    "odd",
    [
        Input("pixel_values", "tensor(float)", ("batch", 3, 224, 224)),
        Input("input_ids", "tensor(float)", ("batch", "sequence")),
        Input("input_ids", "tensor(int64)", ("batch",)),
        Input("lengths", "tensor(int64)", ("batch", "sequence")),
    ],
)
def test_other_inputs_are_refused_by_name(odd: Input) -> None:
    with pytest.raises(UsageError, match=rf"model\.onnx: bench cannot fill input '{odd.name}'"):
        fill(odd)


@pytest.mark.parametrize(("shape", "flag"), [((1, "s"), "--batch 1"), (("b", 128), "--seq 128")])
def test_fixed_shapes_name_the_flag(shape: tuple[int | str, ...], flag: str) -> None:
    with pytest.raises(UsageError, match=f"give {flag}"):
        fill(Input("input_ids", "tensor(int64)", shape))


def test_fixed_shapes_that_match_are_filled() -> None:
    assert fill(Input("input_ids", "tensor(int64)", (2, 5)))["input_ids"].shape == (2, 5)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('{"vocab_size": 77}', 77),
        ('{"vocab_size": -1}', 1000),
        ('{"vocab_size": "9"}', 1000),
    ],
)
def test_vocabulary_is_that_of_the_config(tmp_path: Path, text: str, size: int) -> None:
    (tmp_path / "config.json").write_text(text)
    assert vocabulary(tmp_path / "model.onnx") == size


def test_vocabulary_without_a_config(tmp_path: Path) -> None:
    assert vocabulary(tmp_path / "model.onnx") == 1000


def test_an_impossibly_large_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"vocab_size": {10**18}}}')
    with pytest.raises(UsageError, match=r"config\.json: vocab_size 1000000000"):
        vocabulary(tmp_path / "model.onnx")


@pytest.mark.parametrize("text", ["[]", "{", "[" * 200_000, f'{{"vocab_size": {10**30}}}'])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json as JSON"):
        vocabulary(tmp_path / "model.onnx")


def test_the_maximum_length_is_of_the_manifest_or_else_of_the_config(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    check_length(model, 100_000)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 80}')
    check_length(model, 80)
    with pytest.raises(
        UsageError, match=r"model\.onnx takes at most 80 tokens; give --seq 80 or less, not 81"
    ):
        check_length(model, 81)
    (tmp_path / "model.manifest.json").write_text('{"max_length": 64}')
    check_length(model, 64)
    with pytest.raises(UsageError, match="--seq 64 or less"):
        check_length(model, 65)
