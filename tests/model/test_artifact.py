from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.errors import AerogelError, ArtifactError, RuntimeLoadError, UsageError
from aerogel.system.atomic_io import sha256

Make = Callable[..., Path]
# Ids 2 5 3: [CLS] one [SEP].
HEAD = {"kind": "embed", "output": "sentence_embedding"}


def _manifest(folder: Path, **fields: Any) -> None:
    model = folder / "model.onnx"
    document = {"schema": 1, "bytes": model.stat().st_size, "sha256": sha256(model), "head": HEAD}
    document["companions"] = {"tokenizer.json": sha256(folder / "tokenizer.json")}
    (folder / "model.manifest.json").write_text(json.dumps(document | fields))


def test_a_folder_with_several_models_needs_a_name(toy: Make) -> None:
    folder = toy(file="onnx/model.onnx")
    assert aerogel.load(folder).path == folder / "onnx" / "model.onnx"
    assert aerogel.load(folder / "onnx" / "model.onnx").name == "toy"
    toy(file="onnx/model_sparse.onnx", width=6)
    with pytest.raises(UsageError, match=r"has 2 models; choose with name=: onnx/model, onnx/model_sparse"):
        aerogel.load(folder)
    for name in ("model_sparse", "model_sparse.onnx", "onnx/model_sparse"):
        assert aerogel.load(folder, name=name).embed(["one"]).shape == (1, 6)
    with pytest.raises(UsageError, match=r"has no model '\.\./x'; it has onnx/model, onnx/model_sparse"):
        aerogel.load(folder, name="../x")
    with pytest.raises(UsageError, match=r"name='x' chooses a file of a folder"):
        aerogel.load(folder / "onnx" / "model.onnx", name="x")


def test_the_error_names_a_missing_file(toy: Make, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent does not exist"):
        aerogel.load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"empty has no \.onnx file"):
        aerogel.load(tmp_path / "empty")
    folder = toy()
    with pytest.raises(ArtifactError, match=r"config\.json is not an \.onnx file"):
        aerogel.load(folder / "config.json")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json does not exist"):
        aerogel.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[]", r"config\.json: the document is \[\], not an object"),
        ("config.json", "{", r"config\.json: it is not JSON"),
        ("config.json", "[" * 100_000, r"config\.json: it is nested deeper than 64"),
        ("config.json", '{"max_position_embeddings": "12"}', r'max_position_embeddings is "12", not an integer'),
        ("config.json", '{"model_type": "roberta", "max_position_embeddings": 2}', "more than pad_token_id"),
        ("tokenizer.json", "{}", r"tokenizer\.json cannot be loaded"),
        ("tokenizer_config.json", '{"model_max_length": 0}', "model_max_length is 0, not a number from 1"),
        (
            "tokenizer_config.json",
            '{"model_max_length": %s}' % ("9" * 400),
            r"tokenizer_config\.json: the number 999.* is not finite",
        ),
        ("tokenizer_config.json", '{"pad_token": 3}', "pad_token is 3, not text or an object"),
        ("tokenizer_config.json", '{"truncation_side": "up"}', r'truncation_side is "up", not one of right, left'),
        ("modules.json", "{}", r"modules\.json: the document is an object of 0 fields, not a list"),
        ("modules.json", '[{"type": "a.Pooling", "path": "../x"}]', r"\[0\]\.path is '\.\./x', not a folder inside"),
        ("modules.json", '[{"type": "a.Pooling", "path": "1_Pooling"}]', "cannot read .*1_Pooling"),
        ("model.manifest.json", '{"schema": 2}', "schema is 2 and this version reads 1"),
        ("model.manifest.json", '{"schema": 1, "bytes": 3}', "has .* bytes, but 3 in its manifest"),
        ("model.manifest.json", '{"schema": 1, "density": 2}', "density is 2, not a number from 0 up to 1"),
        ("model.manifest.json", '{"schema": 1, "fusions": {"a": 1}}', r"fusions\.a is 1, not an object"),
        ("model.manifest.json", '{"schema": 1, "max_length": 1.5}', "max_length is 1.5, not an integer"),
        ("model.manifest.json", '{"schema": 1, "head": {"kind": "tag", "output": "x"}}', "has no output x"),
        (
            "model.manifest.json",
            '{"schema": 1, "head": {"kind": "tag", "output": "last_hidden_state", "labels": ["O"]}}',
            "the head has 1 labels, but output last_hidden_state has 4",
        ),
        (
            "model.manifest.json",
            '{"schema": 1, "head": {"kind": "classify", "output": "last_hidden_state"}}',
            "has 3 dimensions; a head of kind classify reads 2",
        ),
    ],
)  # fmt: skip
def test_the_error_names_a_malformed_file_in_one_line(
    toy: Make, file: str, content: str, message: str
) -> None:
    folder = toy()
    (folder / file).write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        aerogel.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_damaged_files_raise_an_aerogel_error(toy: Make) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        folder = toy(folder=f"noise{number}")
        _manifest(folder, head={"kind": "tokens", "output": "last_hidden_state"})
        file = folder / ["model.onnx", "config.json", "tokenizer.json", "model.manifest.json"][number % 4]
        content = bytearray(file.read_bytes())
        for position in random.integers(0, len(content), 3):
            content[position] = int(random.integers(0, 256))
        file.write_bytes(bytes(content[: int(random.integers(1, len(content) + 1))]))
        with contextlib.suppress(AerogelError):
            aerogel.load(folder, threads=1).embed(["one two", "three"])


def test_verify_compares_hashes(toy: Make) -> None:
    folder = toy({"sentence_embedding": 2})
    with pytest.raises(ArtifactError, match=r"manifest\.json does not exist, so there are no hashes"):
        aerogel.load(folder, verify=True)
    _manifest(folder)
    assert aerogel.load(folder, verify=True).head.kind == "embed"
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    aerogel.load(folder)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json differs from its SHA-256 in"):
        aerogel.load(folder, verify=True)
    _manifest(folder, companions={"../escape": "0"})
    with pytest.raises(ArtifactError, match=r"'\.\./escape' is not the name of a file in the folder"):
        aerogel.load(folder, verify=True)
    _manifest(folder, sha256="0")
    with pytest.raises(ArtifactError, match=r"model\.onnx differs from its SHA-256 in"):
        aerogel.load(folder, verify=True)


def test_texts_are_truncated_to_the_shortest_limit(toy: Make) -> None:
    folder = toy(config={"max_position_embeddings": 12})
    long = "one two three four " * 9
    model = aerogel.load(folder)
    (encoded,) = model.tokenize([long])
    assert (model.max_length, len(encoded), encoded.truncated) == (12, 12, True)
    assert encoded.ids[-1] == 3
    # What transformers writes for a tokenizer without a limit; it does not fit into 64 bits.
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert aerogel.load(folder).max_length == 12
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    assert aerogel.load(folder).max_length == 9
    assert len(aerogel.load(folder, max_length=7).tokenize([long])[0]) == 7
    with pytest.raises(UsageError, match=r"max_length=10: .* takes at most 9 tokens"):
        aerogel.load(folder, max_length=10)
    with pytest.raises(UsageError, match="max_length 4 is below 5"):
        aerogel.load(folder, max_length=4)
    _manifest(folder, head={"kind": "tokens", "output": "last_hidden_state"}, max_length=11)
    assert aerogel.load(folder).max_length == 11
    (folder / "config.json").write_text(
        json.dumps({"model_type": "roberta", "max_position_embeddings": 12, "pad_token_id": 1})
    )
    assert aerogel.load(folder).max_length == 10


def test_a_sentence_transformers_folder_sets_pooling_and_prompts(toy: Make) -> None:
    folder = toy(file="onnx/model.onnx")
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{number}_{kind}" if number else ""}
        for number, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    settings = {"prompts": {"query": "two ", "none": ""}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    model = aerogel.load(folder, threads=1)
    assert model.max_length == 8
    (vector,) = model.embed(["one"])
    (tokens,) = model.embed_tokens(["one"])
    assert len(tokens) == 4
    np.testing.assert_allclose(vector, tokens[0] / np.linalg.norm(tokens[0]), rtol=1e-6)
    assert len(model.embed_tokens(["one"], prompt="none")[0]) == 3
    assert len(model.embed_tokens(["one"], prompt="")[0]) == 3
    with pytest.raises(
        UsageError, match=r"prompt='passage' is not a prompt of the model; it has query, none"
    ):
        model.embed(["one"], prompt="passage")
    np.testing.assert_array_equal(model.embed(["one"], normalize=False)[0], tokens[0])
    pooling.write_text('{"pooling_mode": "lasttoken"}')
    with pytest.raises(
        UsageError, match=r"the pooling in the folder of .* is not supported; choose with pooling="
    ):
        aerogel.load(folder).embed(["one"])
    assert aerogel.load(folder).embed(["one"], pooling="max").shape == (1, 4)


def test_a_model_that_is_not_onnx_is_refused(toy: Make) -> None:
    folder = toy()
    shutil.copy(folder / "config.json", folder / "model.onnx")
    with pytest.raises(RuntimeLoadError, match="cannot be loaded"):
        aerogel.load(folder)
