from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from aerogel.data.features import IGNORED, Features
from aerogel.data.split import Split
from aerogel.data.tagging.entities import OUTSIDE
from aerogel.data.tasks import TASKS
from aerogel.errors import DataError, UsageError

CLASSES = (OUTSIDE, "B-X", "I-X")


@pytest.fixture
def tokenizer(tiny_checkpoint: Callable[..., Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_checkpoint())


def split(*rows: tuple[str, list[int]]) -> Split:
    return Split(
        [tuple(words.split(" ")) for words, _ in rows], [tuple(tags) for _, tags in rows], "", CLASSES
    )


def perfect(features: Features, change: Callable[[np.ndarray], object] = lambda _: None) -> dict[str, Any]:
    """Logits that predict each target, and class 1 for tokens without a target."""
    rows = []
    for target in features.targets["labels"]:
        logits = np.eye(3, dtype=np.float32)[[1 if tag == IGNORED else tag for tag in target]]
        change(logits)
        rows.append(logits)
    return {"logits": rows}


def test_first_token_of_a_word_carries_its_tag(tokenizer: Any) -> None:
    # film, the: one token; xy, U.S.: two and four; [CLS] and [SEP] at the ends.
    features = TASKS.get("ner").encode(split(("xy film U.S. the", [1, 2, 1, 0])), tokenizer, 32)
    tokens = tokenizer.convert_ids_to_tokens(features.inputs["input_ids"][0])
    assert tokens == ["[CLS]", "x", "##y", "film", "u", ".", "s", ".", "the", "[SEP]"]
    none = IGNORED
    assert features.targets["labels"] == [[none, 1, none, 2, 1, none, none, none, 0, none]]
    assert features.origin == [(0, [(0, 1), (1, 3), (2, 4), (3, 8)])]


def test_targets_of_a_batch_are_padded_with_the_ignored_index(tokenizer: Any) -> None:
    features = TASKS.get("ner").encode(split(("film", [1]), ("the film", [0, 2])), tokenizer, 32)
    assert features.target_batch([0, 1])["labels"].tolist() == [
        [IGNORED, 1, IGNORED, IGNORED],
        [IGNORED, 0, 2, IGNORED],
    ]


def test_only_first_tokens_count_in_predictions(tokenizer: Any) -> None:
    task, rows = TASKS.get("ner"), split(("xy film U.S. the", [1, 2, 1, 0]), ("the good", [0, 0]))
    features = task.encode(rows, tokenizer, 32)
    outputs = perfect(features)
    assert task.predict(outputs, features) == [[1, 2, 1, 0], [0, 0]]
    assert task.score({"": outputs}, {"": features}) == {
        "f1": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "accuracy": 1.0,
    }


def test_truncated_words_are_outside_of_entities(tokenizer: Any) -> None:
    task, rows = TASKS.get("ner"), split(("xy film U.S. the", [1, 2, 1, 0]))
    # Room for x ##y film.
    features = task.encode(rows, tokenizer, 5)
    outputs = perfect(features)
    predictions = task.predict(outputs, features)
    assert predictions == [[1, 2, -1, -1]]
    assert task.measure(predictions, rows) == {
        "f1": pytest.approx(2 / 3),
        "precision": 1.0,
        "recall": 0.5,
        "accuracy": 0.75,
    }
    # Without an outside tag, a truncated word is wrong.
    assert TASKS.get("conll").measure(predictions, rows) == {"accuracy": 0.5}


def test_words_and_sentences_without_tokens(tokenizer: Any) -> None:
    task = TASKS.get("ner")
    rows = split(("\u200b", [1]), ("a \x00 film", [0, 1, 2]))
    features = task.encode(rows, tokenizer, 32)
    assert features.origin == [(1, [(0, 1), (2, 2)])]
    assert task.predict(perfect(features), features) == [[-1], [0, -1, 2]]
    with pytest.raises(DataError, match="makes no token for any sentence"):
        task.encode(split(("\u200b", [0])), tokenizer, 32)


def test_rejects_max_length_without_room_and_slow_tokenizers(tokenizer: Any) -> None:
    with pytest.raises(UsageError, match=r"--max-length 2: must be at least 3"):
        TASKS.get("ner").encode(split(("film", [0])), tokenizer, 2)
    with pytest.raises(UsageError, match="token classification needs a fast tokenizer"):
        TASKS.get("ner").encode(split(("film", [0])), object(), 8)


def test_a_byte_level_tokenizer_marks_words_by_their_blanks() -> None:
    # Like RoBERTa: the first token of a word includes the blank, its offsets may not.
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(["the café film"] * 3, trainer)
    for trim in (True, False):
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", 1), ("<s>", 0), trim_offsets=trim, add_prefix_space=False
        )
        made = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>",
            model_input_names=["input_ids", "attention_mask"],
        )  # fmt: skip
        features = TASKS.get("ner").encode(split(("the café zöo", [0, 1, 2])), made, 32)
        ids = features.inputs["input_ids"][0]
        first = [made.convert_ids_to_tokens(ids[token]).lstrip("Ġ") for _, token in features.origin[0][1]]
        assert [word for word, _ in features.origin[0][1]] == [0, 1, 2]
        assert first[0] == "the"
        assert first[1].startswith("caf")
        assert first[2] in ("", "z")
        assert sorted(tag for tag in features.targets["labels"][0] if tag != IGNORED) == [0, 1, 2]
