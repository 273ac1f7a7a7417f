from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.system.toml_config import read_recipe
from aerogel.train.config import TrainConfig


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_converted_to_field_types(tmp_path: Path) -> None:
    text = """
        task = "mnli"
        data = "glue/MNLI"
        block = "4x1"
        density = 1
        lr = 3e-5
        train_rows = 100
        freeze_embeddings = false
        [options]
        lambda = 100
        adaptive = true
    """
    values = read_recipe(written(tmp_path, text), TrainConfig)
    assert values == {
        "task": "mnli", "data": Path("glue/MNLI"), "block": (4, 1), "density": 1.0, "lr": 3e-5, "train_rows": 100,
        "freeze_embeddings": False, "options": {"lambda": 100, "adaptive": True},
    }  # fmt: skip
    assert type(values["density"]) is float
    TrainConfig(out=tmp_path / "out", **values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"recipe.toml: unknown key 'epoch'; did you mean epochs\? known: accumulate, "),
        ("score-lr = 3", r"unknown key 'score-lr'; did you mean score_lr\?"),
        ("restart = true", "unknown key 'restart'"),
        ("epochs = 3.0", r"recipe.toml: epochs must be a whole number, not 3.0"),
        ("epochs = true", "epochs must be a whole number, not True"),
        ("epochs = [3]", r"epochs must be a whole number, not \[3\]"),
        ("lr = '3e-5'", "lr must be a number, not '3e-5'"),
        ("lr = nan", "lr must be a number, not nan"),
        ("lr = inf", "lr must be a number, not inf"),
        ("block = [4, 1]", r'block must be a block in quotes, such as "4x1", not \[4, 1\]'),
        ("block = '0x1'", "block must be a block in quotes"),
        ("data = ''", "data must be a path in quotes, not ''"),
        ("data = 3", "data must be a path in quotes, not 3"),
        ("compile = 'yes'", "compile must be true or false, not 'yes'"),
        ("task = 1979-05-27", "task must be a string"),
        ("options = 3", "options must be a table, not 3"),
        ("options.x = {y = 1}", "options.x must be one value"),
        ("epochs = 3\nepochs = 4", "not valid TOML"),
        ("epochs =", "not valid TOML"),
        (b"task = '\xff'", "not valid TOML"),
        ("a = " + "[" * 10_000, "not valid TOML"),
    ],
)
def test_invalid_recipe_is_rejected(tmp_path: Path, text: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(written(tmp_path, text), TrainConfig)
    assert "\n" not in str(caught.value).strip() or "not valid TOML" in str(caught.value)


def test_missing_recipe_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config .*none.toml cannot be read"):
        read_recipe(tmp_path / "none.toml", TrainConfig)
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path, TrainConfig)
