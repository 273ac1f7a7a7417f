from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import aerogel
from aerogel.errors import ArtifactError, HeadError, UsageError
from aerogel.model.batch import Batch

Make = Callable[..., Path]
TEXTS = [
    "the film was good",
    "a",
    "",
    "it is not the film that was in it, it is very bad " * 2,
    "zebra 42!",
] * 3


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two results are equal bit for bit."""
    if isinstance(ours, np.ndarray):
        return np.array_equal(ours, theirs)
    return bool(ours == theirs)


@pytest.mark.parametrize(
    ("head", "config", "method"),
    [
        ("", {}, "embed"),
        ("", {}, "embed_tokens"),
        ("SequenceClassification", {"num_labels": 3}, "classify"),
        ("TokenClassification", {"num_labels": 5}, "tag"),
    ],
)
def test_results_do_not_depend_on_the_other_texts(
    exported: Make, head: str, config: dict[str, Any], method: str
) -> None:
    folder = exported(head, **config)
    call = getattr(aerogel.load(folder, threads=1), method)
    whole, backwards = call(TEXTS), call(TEXTS[::-1])[::-1]
    small = getattr(aerogel.load(folder, threads=1, batch_tokens=40), method)(TEXTS)
    for row, text in enumerate(TEXTS):
        for other in (backwards[row], small[row], call([text])[0], whole[row % 5]):
            assert _same(whole[row], other), f"{method}: {text!r} in another batch"


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_vectors_pooled_in_the_graph_do_not_depend_on_the_batch_or_the_threads(
    exported_embedder: Make, pooling: str
) -> None:
    folder = exported_embedder(pooling)
    texts = [" ".join(["film", "good", "bad"] * 21)[: 5 * length] for length in range(1, 62)]
    model = aerogel.load(folder, threads=1)
    assert model.head.kind == "embed"
    assert model.fused
    alone = np.concatenate([model.embed([text]) for text in texts])
    assert len(np.unique(alone, axis=0)) > len(texts) // 2
    for other in (model, aerogel.load(folder, threads=2)):
        np.testing.assert_array_equal(other.embed(texts), alone)
        for size in (2, 3, 5, 8):
            parts = [other.embed(texts[first : first + size]) for first in range(0, len(texts), size)]
            np.testing.assert_array_equal(np.concatenate(parts), alone)


def test_prepared_calls_of_several_callers_run_in_one_batch(exported: Make) -> None:
    model = aerogel.load(exported("SequenceClassification", num_labels=3), threads=1)
    calls = [model.prepare("classify", TEXTS[:2], top_k=1), model.prepare("classify", TEXTS[2:5])]
    batch = model.run_batch([text for call in calls for text in call.encoded])
    results = []
    for call, rows in zip(calls, (slice(0, 2), slice(2, 5)), strict=True):
        part = list(range(len(call.encoded)))
        arrays = [array[rows] for array in batch.arrays]
        results.append(call.finish([Batch(part, batch.lengths[rows], batch.longest, arrays)]))
    assert results == [model.classify(TEXTS[:2], top_k=1), model.classify(TEXTS[2:5])]
    with pytest.raises(HeadError, match="no embed"):
        model.prepare("embed", TEXTS)


def test_threads_can_share_a_model(exported: Make) -> None:
    model = aerogel.load(exported(), threads=1, batch_tokens=64)
    expected = model.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: model.embed(TEXTS), range(16)):
            np.testing.assert_array_equal(found, expected)


def test_empty_lists_of_texts_give_empty_results(exported: Make) -> None:
    encoder = aerogel.load(exported(), threads=1)
    assert encoder.embed([]).shape == (0, 32)
    assert encoder.embed([], dimensions=4).shape == (0, 4)
    assert encoder.embed_tokens(iter([])) == []
    assert encoder.tokenize([]) == encoder.run([]) == []
    assert aerogel.load(exported("SequenceClassification", num_labels=1), threads=1).rerank("a", []) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one", r"texts must be a list of strings, not str"),
        (b"one", r"texts must be a list of strings, not bytes"),
        (None, r"texts must be a list of strings, not NoneType"),
        (["one", None], r"texts\[1\] must be a string, not NoneType"),
        (["one", ("one", "two")], r"texts\[1\] must be a string, not tuple of 2"),
        (["one", "x\ud800"], r"texts\[1\] has half of a surrogate pair at character 1"),
    ],
)
def test_the_error_names_the_index_of_an_invalid_text(toy: Make, texts: Any, message: str) -> None:
    model = aerogel.load(toy())
    with pytest.raises(UsageError, match=message) as caught:
        model.embed(texts)
    assert "\n" not in str(caught.value)


def test_both_texts_of_a_pair_are_checked(toy: Make) -> None:
    model = aerogel.load(toy({"logits": 2}))
    assert len(model.classify(["one", ("one", ""), ["one", "two"]])) == 3
    for wrong in (("one",), ("one", "two", "three"), ("one", 2), ("one", "\udfff")):
        with pytest.raises(UsageError, match=r"texts\[1\]"):
            model.classify(["one", wrong])


def test_tokenized_texts_are_accepted_instead_of_texts(toy: Make) -> None:
    model = aerogel.load(toy({"last_hidden_state": 3, "pooled": 2}))
    encoded = model.tokenize(["one two", "three"])
    assert [len(item) for item in encoded] == [4, 3]
    assert encoded[0].encoding.tokens == ["[CLS]", "one", "two", "[SEP]"]
    assert model.decode(encoded[0].ids) == "one two"
    assert model.decode(encoded[0].ids, skip_special=False) == "[CLS] one two [SEP]"
    np.testing.assert_array_equal(model.embed(encoded), model.embed(["one two", "three"]))
    outputs = model.run(encoded)
    assert [row["last_hidden_state"].shape for row in outputs] == [(4, 4), (3, 4)]
    np.testing.assert_allclose(outputs[1]["pooled"], outputs[1]["last_hidden_state"].sum(0), rtol=1e-6)
    with pytest.raises(UsageError, match=r"texts\[1\] is not tokenized, but other texts are"):
        model.embed([encoded[0], "one"])
    with pytest.raises(UsageError, match=r"texts\[0\] has 6 tokens, but the model takes at most 5"):
        aerogel.load(model.path, max_length=5).embed(model.tokenize(["one two three four"]))
    with pytest.raises(UsageError, match=r"texts\[0\] is a pair of texts"):
        model.embed(model.tokenize([("one", "two")]))
    for wrong in (-1, 2**40, "1", True):
        with pytest.raises(UsageError, match=r"ids\[0\] must be a token id"):
            model.decode([wrong])


@pytest.mark.parametrize("shape", [(2, 8), ("batch", 8), (3, "sequence")])
def test_fixed_shapes_are_padded(toy: Make, shape: tuple[Any, Any]) -> None:
    texts = ["one", "two three", "", "one two three four one two three four", "four"]
    free = aerogel.load(toy(folder="free"), max_length=8)
    fixed = aerogel.load(toy(shape=shape, folder="fixed"), max_length=8)
    np.testing.assert_array_equal(fixed.embed(texts), free.embed(texts))
    for ours, theirs in zip(fixed.embed_tokens(texts), free.embed_tokens(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inputs_have_the_names_and_dtypes_of_the_session(toy: Make) -> None:
    model = aerogel.load(toy({"pooled": 2}, integer=TensorProto.INT32))
    assert {name: dtype.name for name, dtype in model.inputs.items()} == {
        "input_ids": "int32",
        "attention_mask": "int32",
    }
    assert model.embed(["one", "two three"]).shape == (2, 4)
    typed = aerogel.load(
        toy({"logits": 2}, inputs=("input_ids", "attention_mask", "token_type_ids"), folder="typed")
    )
    (alone,) = typed.classify(["one"], raw_scores=True)
    (pair,) = typed.classify([("one", "two")], raw_scores=True)
    assert alone != pair
    assert typed.tokenize([("one", "two")])[0].types.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(ArtifactError, match="input position_ids cannot be filled from texts"):
        aerogel.load(toy(inputs=("input_ids", "position_ids"), folder="positions"))


def test_a_model_without_a_mask_is_never_padded(toy: Make) -> None:
    model = aerogel.load(toy({"pooled": 2}, inputs=("input_ids",)))
    texts = ["one", "two three four", "", "two"]
    whole = model.embed(texts)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(whole[row], model.embed([text])[0])


def test_embed_sparse_pools_logits_but_not_vectors(toy: Make) -> None:
    def load(rank: int) -> aerogel.Model:
        folder = toy({"weights": rank}, folder=f"rank{rank}")
        head = {"kind": "sparse_embed", "output": "weights"}
        (folder / "model.manifest.json").write_text(json.dumps({"schema": 1, "head": head}))
        return aerogel.load(folder)

    given, pooled = load(2), load(3)
    for row, sparse in enumerate(given.embed_sparse(["one two", "three"])):
        vector = given.run(given.tokenize(["one two", "three"]))[row]["weights"]
        assert sparse.indices.tolist() == np.flatnonzero(vector > 0).tolist()
        np.testing.assert_array_equal(sparse.values, vector[vector > 0])
    (sparse,) = pooled.embed_sparse(["one two"])
    (row,) = pooled.run(pooled.tokenize(["one two"]))
    expected = np.log1p(np.maximum(row["weights"], 0)).max(0)
    assert sparse.indices.tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(sparse.values, expected[expected > 0], rtol=1e-6)
    assert pooled.embed_sparse([]) == []


def test_embed_follows_prompts_and_normalization_of_the_head(toy: Make) -> None:
    folder = toy({"sentence_embedding": 2})
    head = {"kind": "embed", "output": "sentence_embedding", "normalized": True, "dimensions": 4}
    head |= {"prompts": {"query": "two "}, "default_prompt": "query"}
    (folder / "model.manifest.json").write_text(json.dumps({"schema": 1, "head": head}))
    model = aerogel.load(folder)
    np.testing.assert_array_equal(model.embed(["one"]), model.embed(["two one"], prompt=""))
    np.testing.assert_allclose(np.linalg.norm(model.embed(["one"], dimensions=2), axis=1), 1, rtol=1e-6)
    with pytest.raises(UsageError, match="normalize=False: the model normalizes"):
        model.embed(["one"], normalize=False)
    with pytest.raises(UsageError, match="pooling='mean': the model pools"):
        model.embed(["one"], pooling="mean")
    with pytest.raises(UsageError, match="prompt='query': these texts are tokenized already"):
        model.embed(model.tokenize(["one"]), prompt="query")


def test_progress_counts_texts(toy: Make, capsys: pytest.CaptureFixture[str]) -> None:
    model = aerogel.load(toy(), batch_tokens=8)
    seen: list[tuple[int, int]] = []
    model.embed(["one"] * 5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    model.embed(["one"] * 5, progress=True)
    assert "5/5" in capsys.readouterr().err
    with pytest.raises(UsageError, match="progress must be True, False or a function, not int"):
        model.embed(["one"], progress=3)  # type: ignore[arg-type]


def test_a_closed_model_raises_an_error(toy: Make) -> None:
    with aerogel.load(toy()) as model:
        assert model.embed(["one"]).shape == (1, 4)
    with pytest.raises(UsageError, match=r"model\.onnx is closed; load it again"):
        model.embed(["one"])


def test_a_token_id_beyond_the_vocabulary_is_a_one_line_error(toy: Make) -> None:
    folder = toy()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["one"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ArtifactError, match=r"model\.onnx failed: ") as caught:
        aerogel.load(folder).embed(["one"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"max_length": 0}, {"batch_tokens": 0}, {"threads": 0}, {"max_length": "9"}]
)
def test_load_refuses_invalid_options(toy: Make, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        aerogel.load(toy(), **options)


def test_a_loaded_model_does_not_import_training_packages(toy: Make) -> None:
    folder = toy()
    heavy = ("torch", "transformers", "onnx", "scipy", "safetensors")
    code = (
        f"import aerogel, sys; aerogel.load({str(folder)!r}).embed(['one']);"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_output_with_an_unexpected_shape_is_refused(toy: Make) -> None:
    folder = toy({"start_logits": 2, "end_logits": 2})
    with pytest.raises(
        ArtifactError, match=r"output start_logits has shape \(1, 4\) for 5 tokens; a head of kind"
    ):
        aerogel.load(folder).answer("one", "two")
