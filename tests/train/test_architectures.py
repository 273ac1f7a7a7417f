"""Every type of task on every encoder family: train, prune and load with plain transformers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from aerogel.data.tasks import TASKS
from aerogel.hf.encoder import prunable
from aerogel.train.evaluate import evaluate
from aerogel.train.pretraining.config import PretrainConfig
from aerogel.train.pretraining.run import pretrain
from aerogel.train.run import TrainConfig, train

WORDS = ["the", "film", "is", "good", "bad", "very", "not"]

# Family, changes to its configuration, matrices of a layer, number of layers. ALBERT uses one layer twice.
ENCODERS = {
    "bert": ("bert", {}, ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"), 2),
    "distilbert": ("distilbert", {}, ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"), 2),
    "roberta": (
        "roberta", {}, ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"), 2,
    ),
    "electra": (
        "electra", {}, ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"), 2,
    ),
    "minilm": (
        "bert",
        {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96},
        ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
        3,
    ),
    "mpnet": ("mpnet", {}, ("attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"), 2),
    "albert": ("albert", {}, ("query", "key", "value", "attention.dense", "ffn", "ffn_output"), 1),
}  # fmt: skip


def sentences(count: int) -> list[list[str]]:
    draw = random.Random(count)
    return [draw.choices(WORDS, k=draw.randint(4, 9)) for _ in range(count)]


def classes(folder: Path) -> str:
    for name, count in (("train", 24), ("dev", 12)):
        rows = [f"{' '.join(words)}\t{int('good' in words)}" for words in sentences(count)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return "sst2"


def spans(folder: Path) -> str:
    for name, count in (("train", 24), ("dev", 12)):
        paragraphs = []
        for number, words in enumerate(sentences(count)):
            context = " ".join(words)
            answer = {"text": words[2], "answer_start": len(" ".join(words[:2])) + 1}
            asked = {"id": str(number), "question": "is it good", "answers": [answer]}
            paragraphs.append({"context": context, "qas": [asked]})
        made = {"data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"{name}-v1.1.json").write_text(json.dumps(made))
    return "squad"


def spans_or_none(folder: Path) -> str:
    spans(folder)
    for name in ("train", "dev"):
        document = json.loads((folder / f"{name}-v1.1.json").read_text())
        for paragraph in document["data"][0]["paragraphs"][::2]:
            paragraph["qas"][0]["answers"] = []
        for paragraph in document["data"][0]["paragraphs"]:
            paragraph["qas"][0]["is_impossible"] = not paragraph["qas"][0]["answers"]
        (folder / f"{name}-v2.0.json").write_text(json.dumps(document))
    return "squad-v2"


def parts_of_speech(folder: Path) -> str:
    tags(folder)
    return "conll"


def tags(folder: Path) -> str:
    for name, count in (("train", 24), ("dev", 12)):
        rows = [
            "\n".join(f"{word} {'B-X' if word == 'film' else 'O'}" for word in words)
            for words in sentences(count)
        ]
        (folder / f"{name}.txt").write_text("\n\n".join(rows) + "\n")
    return "ner"


@pytest.mark.parametrize(
    ("encoder", "write_task"),
    [
        *((encoder, write_task) for encoder in ENCODERS for write_task in (classes, spans, tags)),
        ("bert", spans_or_none),
        ("bert", parts_of_speech),
    ],
)
def test_trained_checkpoint_loads_in_transformers(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], encoder: str, write_task: Callable[[Path], str]
) -> None:
    family, config, matrices, layers = ENCODERS[encoder]
    data = tmp_path / "data"
    data.mkdir()
    name = write_task(data)
    options = {"stride": 2} if name.startswith("squad") else {}
    # The initial model has the head of another task.
    given = tiny_checkpoint(family, density=1.0, num_labels=3, **config)
    result = train(
        TrainConfig(
            task=name, out=tmp_path / "out", model=str(given), data=data, task_options=options, method="magnitude",
            density=0.25, epochs=2, batch=8, max_length=12, lr=1e-3, initial_warmup=0, final_warmup=1, threads=1,
            device="cpu",
        )
    )  # fmt: skip
    assert len(result.masks) == len(matrices) * layers
    for mask in result.masks:
        assert mask.removesuffix(".weight").endswith(matrices), mask
        assert "pooler" not in mask

    task = TASKS.get(name).configured(options, name)
    kinds: Any = getattr(transformers, f"AutoModelFor{task.head}")
    model, notes = kinds.from_pretrained(result.path, output_loading_info=True)
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    assert not notes["mismatched_keys"]
    assert {f"{path}" for path in prunable(model)} == set(result.masks)
    loaded = task.load(data)
    if loaded.labels:
        assert model.config.id2label == dict(enumerate(loaded.labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.path)
    splits = {"": task.encode(loaded.evaluation[""], tokenizer, 12)}
    assert evaluate(model, task, splits, 4) == pytest.approx(result.record.metrics)


@pytest.mark.parametrize("write_task", [classes, spans, tags])
def test_pruned_student_learns_from_teacher_without_labels(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], write_task: Callable[[Path], str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    name = write_task(data)
    options = {"stride": 2} if name == "squad" else {}
    settings: dict[str, Any] = {
        "task": name, "data": data, "task_options": options, "batch": 8, "max_length": 12, "threads": 1,
        "device": "cpu",
    }  # fmt: skip
    start = str(tiny_checkpoint("bert", density=1.0))
    teacher = str(
        train(TrainConfig(out=tmp_path / "teacher", model=start, epochs=10, lr=3e-3, **settings)).path
    )

    def distance(seen: Path) -> float:
        """Mean squared difference between the last hidden states and those of the teacher."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(teacher)
        given = tokenizer([" ".join(words) for words in sentences(8)], padding=True, return_tensors="pt")
        with torch.inference_mode():
            one, two = (
                transformers.AutoModel.from_pretrained(path).eval()(**given).last_hidden_state
                for path in (teacher, seen)
            )
        return float((one - two).square().mean())

    distances = {
        weight: distance(
            train(
                TrainConfig(
                    out=tmp_path / f"student{weight}", model=start, method="movement", density=0.5, epochs=30, lr=3e-3,
                    teacher=teacher, kd_weight=1.0, ce_weight=0.0, hidden_weight=weight, **settings,
                )
            ).path
        )
        for weight in (0.0, 10.0)
    }  # fmt: skip
    assert distances[10.0] < distances[0.0] / 2


@pytest.mark.parametrize("write_task", [classes, spans, spans_or_none, tags, parts_of_speech])
def test_saved_tokenizer_is_unchanged(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], write_task: Callable[[Path], str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    name = write_task(data)
    given = own_tokenizer(tiny_checkpoint("bert", density=1.0), tmp_path / "given")
    options = {"stride": 2} if name.startswith("squad") else {}
    made = train(
        TrainConfig(
            task=name, out=tmp_path / "out", model=str(given), data=data, task_options=options, epochs=1, batch=12,
            max_length=12, warmup=0.0, threads=1, device="cpu",
        )
    )  # fmt: skip
    assert settings(made.path) == settings(given)


def test_pretraining_saves_unchanged_tokenizer(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    given = own_tokenizer(tiny_checkpoint("bert", "PreTraining", density=1.0), tmp_path / "given")
    words = [" ".join(sentence) for sentence in sentences(200)]
    (tmp_path / "text.txt").write_text("\n\n".join("\n".join(words[at : at + 4]) for at in range(0, 200, 4)))
    made = pretrain(
        PretrainConfig(
            text=(tmp_path / "text.txt",), out=tmp_path / "out", model=str(given), eval_fraction=0.2, steps=2, batch=4,
            max_length=24, warmup=0.0, threads=1, device="cpu",
        )
    )  # fmt: skip
    assert settings(made.path) == settings(given)


def own_tokenizer(checkpoint: Path, to: Path) -> Path:
    """A model whose tokenizer has its own settings for truncation and padding."""
    folder = Path(shutil.copytree(checkpoint, to))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(40)
    tokenizer.enable_padding(length=30, pad_id=0, pad_token="[PAD]")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def settings(folder: Path) -> Any:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer.truncation, tokenizer.padding
