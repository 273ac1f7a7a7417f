from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel import checkpoint

Edit = Callable[[str, np.ndarray], None]


@pytest.fixture
def masked(tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> Callable[..., Path]:
    """Factory of copies of a tiny checkpoint; ``edit(name, mask)`` changes each mask in place."""

    def make(edit: Edit, name: str = "edited", **options: object) -> Path:
        from safetensors.numpy import load_file, save_file

        source = tiny_checkpoint(**{"density": 0.5, **options})
        made = checkpoint.load(source)
        weights = load_file(source / checkpoint.WEIGHTS_FILE)
        for key, mask in made.masks.items():
            edit(key, mask)
            weights[key] = np.where(mask, np.where(weights[key] == 0, 0.1, weights[key]), 0).astype(
                np.float32
            )

        def write(folder: Path) -> None:
            for file in source.iterdir():
                if file.name not in (checkpoint.RECORD_FILE, checkpoint.MASKS_FILE):
                    shutil.copy(file, folder)
            save_file(weights, folder / checkpoint.WEIGHTS_FILE, {"format": "pt"})

        return checkpoint.save(tmp_path / name, made.record, made.masks, write).path

    return make


@pytest.fixture
def reseal() -> Callable[[Path, str], None]:
    """Update the hash of a changed file in the record of a checkpoint."""

    def seal(path: Path, name: str) -> None:
        from aerogel.system.atomic_io import sha256

        file = path / checkpoint.RECORD_FILE
        document = json.loads(file.read_text())
        document["files"][name] = sha256(path / name)
        file.write_text(json.dumps(document))

    return seal
