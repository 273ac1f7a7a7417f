from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from aerogel.data.tasks.synthetic import BAD, CONTRAST, FILLERS, GOOD, NEGATORS, TASK, Synthetic, favourable
from aerogel.errors import UsageError

G, B, F, N = GOOD[0], BAD[0], FILLERS[0], NEGATORS[0]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([G], True),
        ([B], False),
        ([N, G], False),
        ([N, F, B], True),
        ([G, N, G, B], False),  # + - -
        ([G, B, G], True),
        ([B, B, B, CONTRAST, G], True),
        ([N, CONTRAST, G], True),  # the contrast word cancels the negator as well
        ([G, G, G, CONTRAST, N, F, G], False),
    ],
)
def test_labelling_rule(words: list[str], answer: bool) -> None:
    assert favourable(words) is answer


def test_word_classes_do_not_overlap() -> None:
    words = [*GOOD, *BAD, *FILLERS, *NEGATORS, CONTRAST]
    assert len(words) == len(set(words)) == 84


def test_labels_follow_the_rule_and_are_balanced() -> None:
    data = TASK.load(None)
    for split in (data.train, data.evaluation[""]):
        assert split.labels == [int(favourable(text.split())) for (text,) in split.texts]
        assert abs(np.mean(split.labels) - 0.5) < 0.03
    assert (len(data.train), len(data.evaluation[""])) == TASK.rows


def test_data_is_the_same_every_time() -> None:
    assert TASK.load(None) == TASK.load(None)
    # Pinned, so that published numbers stay comparable.
    assert TASK.load(None).evaluation[""].sha256.startswith("e170e8efc9fa1f89")


def test_bag_of_words_does_not_solve_the_task() -> None:
    data = TASK.load(None)
    count = CountVectorizer(token_pattern=r"\S+")
    train, labels = count.fit_transform([text for (text,) in data.train.texts]), data.train.labels
    model = LogisticRegression(max_iter=300).fit(train, labels)
    evaluation = data.evaluation[""]
    score = model.score(count.transform([text for (text,) in evaluation.texts]), evaluation.labels)
    assert 0.5 < score < 0.68


def test_the_tokenizer_knows_every_word_and_rows_fit_the_model() -> None:
    model, tokenizer = TASK.fresh_model(0)
    data = TASK.load(None)
    ids = tokenizer([text for (text,) in data.train.texts])["input_ids"]
    assert tokenizer.unk_token_id not in {token for row in ids for token in row}
    assert len(ids[0]) == len(data.train.texts[0][0].split()) + 2
    assert max(map(len, ids)) <= model.config.max_position_embeddings


def test_fresh_models_depend_on_the_seed() -> None:
    weights = [next(Synthetic().fresh_model(seed)[0].parameters()) for seed in (1, 1, 2)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_rejects_a_data_directory() -> None:
    with pytest.raises(UsageError, match="generates its own data"):
        TASK.load(Path("data"))
