from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aerogel import checkpoint
from aerogel.errors import AerogelError, CheckpointError, UsageError
from aerogel.system.atomic_io import sha256
from aerogel.train.gradients import Gradients
from aerogel.train.run import TrainConfig, train


@pytest.fixture
def config(tmp_path: Path, sentiment: Callable[..., Path]) -> Callable[..., TrainConfig]:
    def make(model: Path | None, **values: Any) -> TrainConfig:
        settings = {
            "task": "sst2", "data": sentiment(), "freeze_mask": True, "epochs": 2, "batch": 16, "max_length": 16,
            "lr": 1e-2, "threads": 1, "device": "cpu",
        }  # fmt: skip
        return TrainConfig(out=tmp_path / "out", model=model and str(model), **settings | values)

    return make


@pytest.mark.parametrize("head", ["PreTraining", "MaskedLM", "SequenceClassification", ""])
@pytest.mark.parametrize("block", [(1, 1), (4, 1)])
def test_mask_is_unchanged_and_kept_weights_are_trained(
    tiny_checkpoint: Callable[..., Path],
    config: Callable[..., TrainConfig],
    head: str,
    block: tuple[int, int],
) -> None:
    given = checkpoint.load(tiny_checkpoint("bert", head, density=0.3, block=block))
    made = train(config(given.path))
    # The names in a plain encoder lack the first component.
    bare = {name.removeprefix("bert."): mask for name, mask in made.masks.items()}
    assert bare.keys() == {name.removeprefix("bert.") for name in given.masks}
    before, after = (load_file(c.path / checkpoint.WEIGHTS_FILE) for c in (given, made))
    for name, mask in given.masks.items():
        np.testing.assert_array_equal(bare[name.removeprefix("bert.")], mask)
        weight = after[f"bert.{name.removeprefix('bert.')}"]
        assert not weight[torch.from_numpy(~mask)].any()
        moved = weight != before[name]
        assert moved[torch.from_numpy(mask)].float().mean() > 0.85
    if head != "":
        packed = [(c.path / checkpoint.MASKS_FILE).read_bytes() for c in (given, made)]
        assert packed[0] == packed[1]
    # Embeddings are trained: the downstream runs of the paper freeze only the mask.
    assert not torch.equal(*(next(t for n, t in w.items() if "word_emb" in n) for w in (before, after)))
    record = made.record
    assert (record.method, record.block, record.scope) == ("frozen", block, given.record.scope)
    assert record.config["options"] == {"mask": str(given.path)}
    assert made.accounting.density == given.accounting.density


def test_kept_weight_with_value_zero_stays_kept(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], config: Callable[..., TrainConfig]
) -> None:
    given = checkpoint.load(tiny_checkpoint(density=0.3))
    name, mask = next(iter(given.masks.items()))

    def write(folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model = AutoModelForSequenceClassification.from_pretrained(given.path)
        model.get_parameter(name).data[np.nonzero(mask)[0][0]] = 0.0
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(given.path).save_pretrained(folder)

    zeroed = checkpoint.save(tmp_path / "zeroed", given.record, given.masks, write)
    np.testing.assert_array_equal(train(config(zeroed.path)).masks[name], mask)


def test_mask_can_come_from_another_model(
    tiny_checkpoint: Callable[..., Path], config: Callable[..., TrainConfig]
) -> None:
    mask = checkpoint.load(tiny_checkpoint(density=0.3))
    dense = tiny_checkpoint(density=1.0, seed=5)
    made = train(config(dense, freeze_mask=False, method="frozen", options={"mask": str(mask.path)}))
    for name, kept in mask.masks.items():
        np.testing.assert_array_equal(made.masks[name], kept)


def test_run_does_not_resume_with_another_mask(
    tmp_path: Path,
    tiny_checkpoint: Callable[..., Path],
    config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "mask"
    shutil.copytree(tiny_checkpoint(density=0.3), folder)
    run = config(
        tiny_checkpoint(density=1.0, seed=5), freeze_mask=False, method="frozen", options={"mask": str(folder)},
        save_every=3,
    )  # fmt: skip
    compute = Gradients.compute

    def stop(gradients: Gradients, batch: Any, at: int) -> torch.Tensor:
        if at == 5:
            raise KeyboardInterrupt
        return compute(gradients, batch, at)

    with monkeypatch.context() as patch:
        patch.setattr(Gradients, "compute", stop)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    shutil.rmtree(folder)
    shutil.copytree(tiny_checkpoint(density=0.3, seed=1), folder)
    with pytest.raises(
        UsageError, match=r"state of a run with mask masks.safetensors '.*', not .*use restart"
    ):
        train(run)
    shutil.rmtree(folder)
    given = checkpoint.load(Path(shutil.copytree(tiny_checkpoint(density=0.3), folder)))
    made = train(run)
    assert made.record.data["mask"] == {checkpoint.MASKS_FILE: sha256(given.path / checkpoint.MASKS_FILE)}
    assert made.accounting.density == given.accounting.density


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"density": 0.5}, UsageError, r"a frozen mask has its own density.*; drop density"),
        ({"method": "movement"}, UsageError, r"freeze_mask: keeps the masks of model; drop method"),
        (
            {"freeze_mask": False, "method": "frozen"},
            UsageError,
            r"method frozen needs a mask; give option mask=CKPT",
        ),
    ],
)
def test_contradicting_settings_are_rejected(
    tiny_checkpoint: Callable[..., Path],
    config: Callable[..., TrainConfig],
    values: dict[str, Any],
    error: type[AerogelError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        train(config(tiny_checkpoint(density=0.3), **values))


def test_missing_masks_and_masks_of_other_models_are_rejected(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], config: Callable[..., TrainConfig]
) -> None:
    with pytest.raises(UsageError, match="has no masks; give"):
        train(config(tiny_checkpoint(density=1.0)))
    with pytest.raises(UsageError, match=r"freeze_mask: model no/such is not a directory with aerogel.json"):
        train(config(Path("no/such")))
    with pytest.raises(UsageError, match=r"freeze_mask: model  is not a directory"):
        train(config(None, task="synthetic", data=None))
    for family, sizes, message in (
        (
            "bert",
            {"num_hidden_layers": 1},
            r"has a mask for bert.encoder.layer.1.*, which the model lacks",
        ),
        (
            "bert",
            {"intermediate_size": 32},
            r"the mask of .*intermediate.dense.weight has shape 64x32, the matrix has shape 32x32",
        ),
    ):
        other = tiny_checkpoint(family, density=1.0, **sizes)
        options = {"mask": str(tiny_checkpoint(density=0.3))}
        with pytest.raises(UsageError, match=message):
            train(config(other, freeze_mask=False, method="frozen", options=options))
    with pytest.raises(CheckpointError, match=r"nowhere is not a directory"):
        train(
            config(
                tiny_checkpoint(density=1.0), freeze_mask=False, method="frozen",
                options={"mask": str(tmp_path / "nowhere")},
            )
        )  # fmt: skip
