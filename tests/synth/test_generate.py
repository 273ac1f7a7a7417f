from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from aerogel import checkpoint
from aerogel.errors import UsageError
from aerogel.synth import archs
from aerogel.synth.generate import generate


def test_names_are_the_json_files() -> None:
    files = {file.stem for file in Path(archs.__file__).parent.glob("*.json")}
    assert {"bert-base", "bert-tiny", "minilm-l6"} <= files
    assert archs.names() == sorted(files)


@pytest.mark.parametrize("name", archs.names())
def test_transformers_accepts_every_architecture(name: str) -> None:
    from transformers import AutoConfig

    fields = archs.load(name)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    assert config.hidden_size % config.num_attention_heads == 0
    assert getattr(config, "hidden_dim", None) or config.intermediate_size == 4 * config.hidden_size
    assert all(getattr(config, field) == value for field, value in fields.items())


def test_checkpoint_has_exact_density_zeros_and_a_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    made = generate("bert-tiny", tmp_path / "c", density=0.1, block=(4, 1), seed=3)
    assert made.record.method == "random"
    assert made.record.block == (4, 1)
    weights = safetensors.numpy.load_file(tmp_path / "c" / checkpoint.WEIGHTS_FILE)
    # Six linear layers in each of two encoder layers; embeddings, pooler and head stay dense.
    assert len(made.masks) == 12
    for name, mask in made.masks.items():
        blocks = mask.reshape(mask.shape[0] // 4, 4, mask.shape[1])
        assert (blocks == blocks[:, :1]).all()
        assert np.count_nonzero(mask) == 4 * int(0.1 * mask.size / 4 + 0.5)
        assert (weights[name][~mask] == 0).all()
        assert np.count_nonzero(weights[name]) == np.count_nonzero(mask)
    assert np.count_nonzero(weights["bert.pooler.dense.weight"]) == 128 * 128
    inside = sum(w.size for name, w in weights.items() if ".layer." in name)
    assert made.record.encoder_parameters == inside
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "c").config.hidden_size == 128
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "c")
    ids = tokenizer("Plain text, 42!", "and a pair")
    assert tokenizer.unk_token_id not in ids["input_ids"]
    assert max(ids["input_ids"]) < 30522
    assert set(ids["token_type_ids"]) == {0, 1}
    assert tokenizer.pad_token_id == 0


def test_the_seed_determines_the_checkpoint(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate("bert-tiny", tmp_path / name, density=0.5, seed=seed)
        files.append((tmp_path / name / checkpoint.WEIGHTS_FILE).read_bytes())
    assert files[0] == files[1] != files[2]


def test_global_scope_varies_by_matrix_and_is_exact_in_total(tmp_path: Path) -> None:
    accounting = generate("bert-tiny", tmp_path / "c", density=0.25, scope="global").accounting
    assert accounting.density == 0.25
    assert len({m.density for m in accounting.matrices.values()}) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "bert-huge"}, "unknown --arch 'bert-huge'; known: .*bert-base"),
        ({"density": 0.0}, "density 0.0: must be above 0 and at most 1"),
        ({"block": (5, 1)}, "block 5x1 does not divide bert.encoder.layer.0"),
    ],
)
def test_invalid_arguments_write_nothing(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    arguments = {"arch": "bert-tiny", "density": 0.1} | changes
    with pytest.raises(UsageError, match=message):
        generate(arguments.pop("arch"), tmp_path / "c", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
