"""The task type of token classification: entity tags or any other tags."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from aerogel.data.features import IGNORED, Features, Outputs, check_fast_tokenizer, padding
from aerogel.data.files import check_name, find_file
from aerogel.data.hub import Hub, is_saved_dataset
from aerogel.data.split import Split, TaskData
from aerogel.data.tagging.entities import OUTSIDE, entity_classes, entity_scores, to_iob2
from aerogel.data.tagging.read import Tagged, read_columns, read_dataset
from aerogel.data.task import Task
from aerogel.errors import DataError, UsageError

__all__ = ["TaggingOptions", "TaggingTask"]

# Prediction for a word that was truncated.
_UNSEEN = -1


@dataclass(frozen=True)
class TaggingOptions:
    """Options of a tagging task.

    Attributes:
        train: name of the training file.
        dev: name of the evaluation file.
        test: name of a second evaluation file; only the default file may be absent.
        token_column: column of the words, from 0, or from the end if negative.
        tag_column: column of the tags, counted likewise.
    """

    train: str = "train.txt"
    dev: str = "dev.txt"
    test: str = "test.txt"
    token_column: int = 0
    tag_column: int = -1

    def __post_init__(self) -> None:
        for name in ("train", "dev", "test"):
            check_name(name, getattr(self, name))


@dataclass(frozen=True)
class TaggingTask(Task):
    """Token classification.

    Attributes:
        entities: whether the tags mark entities. Entities are trained as IOB2 and measured as a whole; other tags are
            independent classes.
        hub: the same data on the hub, with the columns `tokens` and `ner_tags`; None if there is no such dataset.
        options: see `TaggingOptions`.
    """

    entities: bool
    hub: Hub | None = None
    options: TaggingOptions = TaggingOptions()

    head = "TokenClassification"
    per_token = True

    def load(self, data: Path | None) -> TaskData:
        """Read the files in `data` or a dataset saved there; without `data`, load the dataset from the hub.

        The classes are the tags of the training split.
        """
        if data is None or is_saved_dataset(data):
            if self.hub is None:
                raise UsageError("--data is missing; give the directory of the task's column files")

            def parse(table: Any, where: str, train: bool) -> Split:
                del train
                return self._split(read_dataset(table, where, "tokens", "ner_tags"))

            return self._indexed(self.hub.read(data, parse))

        def read(name: str) -> Split:
            columns = self.options.token_column, self.options.tag_column
            return self._split(read_columns(find_file(data, name), *columns, entities=self.entities))

        evaluation = {"": read(self.options.dev)}
        name = self.options.test
        if name != TaggingOptions.test or any((data / f"{name}{ending}").exists() for ending in ("", ".gz")):
            evaluation["test"] = read(name)
        return self._indexed(TaskData(read(self.options.train), evaluation))

    def _split(self, tagged: Tagged) -> Split:
        """Make a split whose labels are (location, tags); `_indexed` replaces them when the classes are known."""
        tags = [to_iob2(row) if self.entities else row for row in tagged.tags]
        return Split(tagged.words, list(zip(tagged.locations, tags, strict=True)), tagged.sha256)

    def _indexed(self, data: TaskData) -> TaskData:
        """Replace tags by class indices."""
        rows = [tags for _, tags in data.train.labels]
        classes = (
            entity_classes(rows) if self.entities else tuple(sorted({tag for tags in rows for tag in tags}))
        )
        index = {tag: number for number, tag in enumerate(classes)}

        def indexed(split: Split) -> Split:
            for where, tags in split.labels:
                if unknown := [tag for tag in tags if tag not in index]:
                    raise DataError(
                        f"{where}: tag {unknown[0]!r} in this sentence does not occur in the training file; "
                        "add training data with this tag"
                    )
            labels = [tuple(index[tag] for tag in tags) for _, tags in split.labels]
            return replace(split, labels=labels, classes=classes)

        return TaskData(
            indexed(data.train), {name: indexed(split) for name, split in data.evaluation.items()}
        )

    def encode(self, split: Split, tokenizer: Any, max_length: int) -> Features:
        """Make one feature per sentence, its words joined by blanks. The first token of a word carries its tag.

        Words beyond `max_length`, and words for which the tokenizer makes no token, are ignored.
        """
        check_fast_tokenizer(tokenizer, "token classification")
        least = tokenizer.num_special_tokens_to_add(pair=False) + 1
        if max_length < least:
            raise UsageError(
                f"--max-length {max_length}: must be at least {least}, to fit the special tokens and one token of text"
            )
        encoded = tokenizer(
            [" ".join(words) for words in split.texts],
            truncation=True, max_length=max_length, return_offsets_mapping=True,
        )  # fmt: skip
        names = [name for name in tokenizer.model_input_names if name in encoded]
        inputs: dict[str, list[list[int]]] = {name: [] for name in names}
        targets: list[list[int]] = []
        origin: list[tuple[int, list[tuple[int, int]]]] = []
        for row, (words, offsets) in enumerate(zip(split.texts, encoded["offset_mapping"], strict=True)):
            shown = _first_tokens(words, offsets)
            # A sentence without tokens contributes nothing to the loss.
            if not shown:
                continue
            for name in names:
                inputs[name].append(encoded[name][row])
            target = [IGNORED] * len(offsets)
            for word, token in shown:
                target[token] = split.labels[row][word]
            targets.append(target)
            origin.append((row, shown))
        if not origin:
            raise DataError("the tokenizer makes no token for any sentence; use a model for this language")
        return Features(split, inputs, {"labels": targets}, padding(tokenizer), origin)

    def predict(self, outputs: Outputs, features: Features) -> list[list[int]]:
        """Return the class index of each word by sentence; -1 for a word that was truncated."""
        result = [[_UNSEEN] * len(words) for words in features.split.texts]
        for (row, shown), logits in zip(features.origin, outputs["logits"], strict=True):
            best = logits.argmax(-1)
            for word, token in shown:
                result[row][word] = int(best[token])
        return result

    def measure(self, predictions: list[list[int]], split: Split) -> dict[str, float]:
        """Compute F1, precision and recall of the entities, and accuracy over words; accuracy only without entities.

        A truncated word counts as outside of every entity; in tasks without entities it counts as wrong.
        """
        classes = split.classes or ()
        if self.entities:
            predictions = [[max(0, tag) for tag in row] for row in predictions]
        pairs = [
            pair
            for predicted, true in zip(predictions, split.labels, strict=True)
            for pair in zip(predicted, true, strict=True)
        ]
        accuracy = {"accuracy": sum(predicted == true for predicted, true in pairs) / len(pairs)}
        if not self.entities:
            return accuracy
        assert classes[0] == OUTSIDE, "entity_classes puts O first"
        named = [[[classes[tag] for tag in row] for row in rows] for rows in (predictions, split.labels)]
        return entity_scores(*named) | accuracy


def _first_tokens(words: tuple[str, ...], offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (word, token) of each word's first token; `offsets` are characters of the words joined by blanks."""
    starts = list(accumulate((len(word) + 1 for word in words[:-1]), initial=0))
    result: list[tuple[int, int]] = []
    for token, (begin, end) in enumerate(offsets):
        if begin == end:  # a special token
            continue
        # The first character of a token may be the blank before a word; its last character never is.
        word = bisect_right(starts, end - 1) - 1
        if not result or word > result[-1][0]:
            result.append((word, token))
    return result
