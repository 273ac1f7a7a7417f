"""Checkpoint directories: `train` writes them; `export`, `bench` and `inspect` read them."""

from aerogel.checkpoint.record import (
    MASKS_FILE,
    RECORD_FILE,
    SCHEMA,
    SCORES_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    Record,
    check_target,
    load,
    not_finite,
    read_config,
    save,
)

__all__ = [
    "MASKS_FILE",
    "RECORD_FILE",
    "SCHEMA",
    "SCORES_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "Record",
    "check_target",
    "load",
    "not_finite",
    "read_config",
    "save",
]
