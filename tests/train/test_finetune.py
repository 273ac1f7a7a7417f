from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aerogel.data.tasks import TASKS
from aerogel.system.atomic_io import sha256
from aerogel.train import finetune
from aerogel.train.run import TrainConfig, train


@pytest.mark.parametrize(("method", "frozen"), [("movement", True), ("dense", False)])
def test_embeddings_are_frozen_when_given_model_is_pruned(
    config: Callable[..., TrainConfig], method: str, frozen: bool
) -> None:
    run = config(method=method, density=0.25 if frozen else 1.0, epochs=1, final_warmup=1.0)
    before = load_file(Path(run.model) / "model.safetensors")
    after = load_file(train(run).path / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[name])}
    embeddings = {name for name in before if name.startswith("bert.embeddings.")}
    assert len(embeddings) == 5
    # Unused rows of the word embeddings get no gradient in any case, so whole tables are compared.
    assert same == (embeddings if frozen else set())


def test_half_precision_model_is_trained_in_float32(
    config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = config()
    half = tmp_path / "half"
    AutoModelForSequenceClassification.from_pretrained(run.model).half().save_pretrained(half)
    AutoTokenizer.from_pretrained(run.model).save_pretrained(half)
    written = train(config(model=str(half), epochs=1, final_warmup=1.0)).path
    assert {tensor.dtype for tensor in load_file(written / "model.safetensors").values()} == {torch.float32}


def test_evaluation_rows_do_not_depend_on_seed(config: Callable[..., TrainConfig]) -> None:
    task, (first, other) = (
        TASKS.get("sst2"),
        (config(eval_rows=5, seed=seed, epochs=1) for seed in (0, 1)),
    )
    rows = [finetune._subset(task.load(run.data), run).evaluation[""].texts for run in (first, other)]
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == 5
    record = train(first).record
    assert record.data["evaluation"]["rows"] == record.config["eval_rows"] == 5
    assert record.metrics["accuracy"] in {n / 5 for n in range(6)}


def test_skipped_rows_are_recorded(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = tmp_path / "qqp"
    folder.mkdir()
    for name in ("train", "dev"):
        rows = [f"film {n}\tgood {n}\t{n % 2}" for n in range(8)]
        lines = ["question1\tquestion2\tis_duplicate", *rows, "broken"]
        (folder / f"{name}.tsv").write_text("\n".join(lines))
    record = train(config(task="qqp", data=folder, method="dense", density=1.0, epochs=1)).record
    assert record.data["train"] == {"rows": 8, "skipped": 1, "sha256": sha256(folder / "train.tsv")}


def test_train_rows_samples_a_subset(config: Callable[..., TrainConfig]) -> None:
    record = train(config(train_rows=20, epochs=8)).record
    assert record.data["train"]["rows"] == 20
