"""Results of exported models compared with PyTorch on the same texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import aerogel
from aerogel.errors import HeadError, UsageError

Make = Callable[..., Path]
TEXTS = [
    "The film was good and very bad.",
    "a",
    "",
    "it is not the film that was good, it is very bad; and in it that was of a good film",
    "good film",
    "zebra 42!",
]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "LOC"]


def _torch(kind: str, path: Path) -> tuple[Any, Any]:
    model = getattr(transformers, kind).from_pretrained(path).eval()
    return model, transformers.AutoTokenizer.from_pretrained(path)


def _hidden(path: Path, text: str) -> np.ndarray:
    model, tokenizer = _torch("AutoModel", path)
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()


def test_embeddings_are_pooled_token_vectors(exported: Make, tiny_checkpoint: Make) -> None:
    model = aerogel.load(exported(), threads=1)
    assert (model.head.kind, model.head.dimensions, model.fused) == ("tokens", 32, True)
    assert model.density == pytest.approx(0.1, abs=1e-3)
    assert model.methods == ("embed", "embed_tokens")
    hidden = [_hidden(tiny_checkpoint("bert", ""), text) for text in TEXTS]
    poolings = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "max": lambda h: h.max(0)}
    for pooling, pool in poolings.items():
        expected = np.array([pool(h) for h in hidden])
        found = model.embed(TEXTS, pooling=pooling)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_array_equal(model.embed(TEXTS), model.embed(TEXTS, pooling="mean"))
    for found, expected in zip(model.embed_tokens(TEXTS), hidden, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_embeddings_are_shortened_before_normalization(exported: Make) -> None:
    model = aerogel.load(exported(), threads=1)
    whole = model.embed(TEXTS)
    short = model.embed(TEXTS, dimensions=5, normalize=True)
    expected = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, rtol=1e-6)
    for options in ({"dimensions": 0}, {"dimensions": 33}, {"dimensions": True}, {"pooling": "last"}):
        with pytest.raises(UsageError, match=next(iter(options))):
            model.embed(TEXTS, **options)


def test_classify_matches_the_pipeline(exported: Make, tiny_checkpoint: Make) -> None:
    model = aerogel.load(exported("SequenceClassification", num_labels=3), threads=1)
    reference, tokenizer = _torch(
        "AutoModelForSequenceClassification", tiny_checkpoint("bert", "SequenceClassification", num_labels=3)
    )
    pipe = transformers.pipeline("text-classification", model=reference, tokenizer=tokenizer)
    found = model.classify(TEXTS)
    for ours, theirs in zip(found, pipe(TEXTS, top_k=None), strict=True):
        assert [item.label for item in ours] == [item["label"] for item in theirs]
        np.testing.assert_allclose(
            [item.score for item in ours], [item["score"] for item in theirs], atol=1e-5
        )
    assert model.classify(TEXTS, top_k=1) == [labels[:1] for labels in found]
    pair = ("good film", "bad film")
    expected = pipe({"text": pair[0], "text_pair": pair[1]}, top_k=None)
    assert [item.label for item in model.classify([pair])[0]] == [item["label"] for item in expected]
    raw = {item.label: item.score for item in model.classify([list(pair)], raw_scores=True)[0]}
    with torch.inference_mode():
        logits = reference(**tokenizer(*pair, return_tensors="pt")).logits[0].numpy()
    np.testing.assert_allclose([raw[f"LABEL_{number}"] for number in range(3)], logits, atol=2e-5)


def test_rerank_sorts_by_the_single_logit(exported: Make, tiny_checkpoint: Make) -> None:
    model = aerogel.load(exported("SequenceClassification", num_labels=1), threads=1)
    assert (model.head.kind, model.head.activation) == ("rerank", "sigmoid")
    reference, tokenizer = _torch(
        "AutoModelForSequenceClassification", tiny_checkpoint("bert", "SequenceClassification", num_labels=1)
    )
    with torch.inference_mode():
        logits = [
            # As lists, because transformers drops an empty second string.
            float(reference(**tokenizer(["good film"], [text], return_tensors="pt")).logits)
            for text in TEXTS
        ]
    order = sorted(range(len(TEXTS)), key=lambda row: -logits[row])
    raw = model.rerank("good film", TEXTS, raw_scores=True)
    assert [item.index for item in raw] == order
    np.testing.assert_allclose([item.score for item in raw], [logits[row] for row in order], atol=2e-5)
    top = model.rerank("good film", TEXTS, top_n=2)
    assert [index for index, _ in top] == order[:2]
    assert top[0].score == pytest.approx(1 / (1 + np.exp(-logits[order[0]])), abs=1e-5)
    ((label,),) = model.classify([("good film", TEXTS[0])])
    assert label.score == pytest.approx(1 / (1 + np.exp(-logits[0])), abs=1e-5)


@pytest.mark.parametrize("mode", ["simple", "first", "none"])
def test_tag_matches_the_pipeline(exported: Make, tiny_checkpoint: Make, tmp_path: Path, mode: str) -> None:
    # The exported folder is shared with other tests.
    folder = tmp_path / "tagger"
    shutil.copytree(exported("TokenClassification", num_labels=len(TAGS)), folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): tag for number, tag in enumerate(TAGS)}
    (folder / "config.json").write_text(json.dumps(config))
    model = aerogel.load(folder, threads=1)
    reference, tokenizer = _torch(
        "AutoModelForTokenClassification",
        tiny_checkpoint("bert", "TokenClassification", num_labels=len(TAGS)),
    )
    reference.config.id2label = dict(enumerate(TAGS))
    pipe = transformers.pipeline(
        "token-classification", model=reference, tokenizer=tokenizer, aggregation_strategy=mode
    )
    texts = [text for text in TEXTS if text] + ["Zebras were not in Paris-Nord, it was xylophone42 and film."]
    spans = 0
    for text, ours in zip(texts, model.tag(texts, aggregate=mode), strict=True):
        theirs = pipe(text)
        key = "entity" if mode == "none" else "entity_group"
        assert [(span.label, span.start, span.end) for span in ours] == [
            (span[key], span["start"], span["end"]) for span in theirs
        ]
        np.testing.assert_allclose(
            [span.score for span in ours], [span["score"] for span in theirs], atol=1e-5
        )
        assert all(text[span.start : span.end] == span.text for span in ours)
        spans += len(ours)
    assert spans > 5
    assert model.tag([""]) == [[]]
    for flag, same in ((True, "first"), (False, "none")):
        assert model.tag(texts, aggregate=flag) == model.tag(texts, aggregate=same)
    with pytest.raises(UsageError, match="aggregate='max' is not known"):
        model.tag(texts, aggregate="max")


def _best(path: Path, question: str, context: str, longest: int) -> tuple[float, int, int]:
    """(probability, start, end) of the best span in one window, in characters."""
    model, tokenizer = _torch("AutoModelForQuestionAnswering", path)
    encoded = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        result = model(**encoded)
    inside = [part == 1 for part in encoded.sequence_ids(0)]
    counted = torch.tensor([index == 0 or part for index, part in enumerate(inside)])
    start, end = (
        torch.where(counted, values[0], -torch.inf).softmax(0).numpy()
        for values in (result.start_logits, result.end_logits)
    )
    spans = [
        (float(start[first] * end[last]), offsets[first][0], offsets[last][1])
        for first in range(len(inside))
        for last in range(first, min(first + longest, len(inside)))
        if inside[first] and inside[last]
    ]
    return max(spans, key=lambda span: span[0])


def test_answer_returns_the_most_probable_spans(exported: Make, tiny_checkpoint: Make) -> None:
    model = aerogel.load(exported("QuestionAnswering"), threads=1)
    path = tiny_checkpoint("bert", "QuestionAnswering")
    for longest in (1, 4, 30):
        for context in (TEXTS[3], TEXTS[0]):
            score, first, last = _best(path, "is it good?", context, longest)
            (answer,) = model.answer("is it good?", context, max_answer_length=longest)
            assert (answer.start, answer.end, answer.text) == (first, last, context[first:last])
            assert answer.score == pytest.approx(score, rel=1e-3)
    several = model.answer("is it good?", TEXTS[3], top_k=4)
    assert several[0] == model.answer("is it good?", TEXTS[3])[0]
    assert [item.score for item in several] == sorted((item.score for item in several), reverse=True)
    assert len({(item.start, item.end) for item in several}) == 4


def test_answer_splits_a_long_context_into_windows(exported: Make) -> None:
    model = aerogel.load(exported("QuestionAnswering"), threads=1)
    needle = TEXTS[3]
    long = " ".join([needle, "the a and of to is was in it that"] * 12)
    answers = model.answer("is it good?", long, top_k=3, stride=16)
    assert len(answers) == 3
    assert all(long[item.start : item.end] == item.text for item in answers)
    assert len(model.tokenize([long])[0]) == model.max_length == 64
    # Every token is in `best` of exactly one window.
    from aerogel.model.heads._windows import make_windows

    windows = make_windows(model._core.tokenizer, "is it good?", long, 16, types=True)
    owned = [tuple(span) for w in windows for span, best in zip(w.offsets, w.best, strict=True) if best]
    assert sorted(owned) == [span for span in model._core.tokenizer.encode_whole(long).offsets]
    assert all(len(w.encoded) <= 64 for w in windows)
    assert model.answer("is it good?", "", top_k=2) == []
    assert model.answer("is it good?", "", null_threshold=0.0)[0].text == ""
    assert model.answer("is it good?", long, null_threshold=-1e9, top_k=2)[0][1:] == ("", 0, 0)
    assert model.answer("is it good?", long, null_threshold=1e9)[0].text
    with pytest.raises(UsageError, match="leaves none for the context"):
        model.answer("good " * 64, "film")


def test_fill_mask_matches_the_pipeline(exported: Make, tiny_checkpoint: Make) -> None:
    model = aerogel.load(exported("MaskedLM"), threads=1)
    reference, tokenizer = _torch("AutoModelForMaskedLM", tiny_checkpoint("bert", "MaskedLM"))
    pipe = transformers.pipeline("fill-mask", model=reference, tokenizer=tokenizer)
    text = "the film was [MASK] and good"
    found = model.fill_mask(text, top_k=4)
    theirs = pipe(text, top_k=4)
    assert [(item.token_id, item.sequence) for item in found] == [
        (item["token"], item["sequence"]) for item in theirs
    ]
    np.testing.assert_allclose([item.score for item in found], [item["score"] for item in theirs], atol=1e-5)
    for wrong, count in (("the film", 0), ("[MASK] [MASK]", 2)):
        with pytest.raises(UsageError, match=rf"has {count} mask tokens; write \[MASK\] once"):
            model.fill_mask(wrong)


def test_a_method_of_another_head_is_refused(exported: Make) -> None:
    model = aerogel.load(exported(), threads=1)
    calls = {
        "classify": lambda: model.classify(["a"]),
        "rerank": lambda: model.rerank("a", ["a"]),
        "tag": lambda: model.tag(["a"]),
        "answer": lambda: model.answer("a", "a"),
        "fill_mask": lambda: model.fill_mask("a"),
        "embed_sparse": lambda: model.embed_sparse(["a"]),
    }
    for name, call in calls.items():
        with pytest.raises(HeadError, match=rf"kind tokens and no {name}\(\); it has embed, embed_tokens"):
            call()
