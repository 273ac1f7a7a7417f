"""Resumable state of a run: one file next to the checkpoint, which exists only while the run lasts."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from aerogel.errors import CheckpointError, OutputError, UsageError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.json_fields import check, parse

__all__ = ["State"]

_SCHEMA = 5


@dataclass(frozen=True)
class State:
    """State that a run needs to resume and end with the same result.

    Attributes:
        step: completed optimizer steps. The next rows and the random numbers follow from it.
        model: state_dict of the model: weights, scores and masks.
        optimizer: state_dict of the optimizer.
        log_bytes: length of the log when the state was saved.
        position: position in a stream of text, so that a resumed run need not read it from the beginning.
        method: state of the method outside of the model.
        scaler: state of the gradient scaler for fp16.
        fixed: whether the run is in its last phase, with fixed masks.
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    log_bytes: int
    position: dict[str, int] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    fixed: bool = False

    def save(self, path: Path, fingerprint: dict[str, Any]) -> None:
        """Write the state.

        Args:
            path: file to write.
            fingerprint: settings, data and versions of the run (JSON values); see `load`.

        Raises:
            OutputError: the file cannot be written, for example because the disk is full.
        """
        document = {"schema": _SCHEMA, "fingerprint": json.dumps(fingerprint, sort_keys=True), **vars(self)}
        with atomic_file(path) as temporary:
            try:
                torch.save(document, temporary)
            except RuntimeError as error:  # torch's writer raises it for errors of the operating system
                reason = str(error).split("\n")[0]
                raise OutputError(f"cannot write {path} ({reason}); free disk space and run again") from error

    @classmethod
    def load(cls, path: Path, fingerprint: dict[str, Any]) -> State:
        """Read the state of the run with this fingerprint.

        Raises:
            UsageError: the state has another fingerprint; the message names the first difference.
            CheckpointError: the file is damaged, or of another version.
        """
        advice = "use restart to start over"
        try:
            # torch stores checksums but does not verify them when it reads the file.
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():
                    raise zipfile.BadZipFile(f"wrong checksum of {part}")
            document = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes the unpickler raise errors of many types
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise CheckpointError(f"{path} is damaged ({reason}); {advice}") from error
        try:
            if document.pop("schema") != _SCHEMA:
                raise CheckpointError(f"{path} was written by another version of aerogel; {advice}")
            saved = check(parse(document.pop("fingerprint")), dict)
            state = cls(**document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not the state of a run ({error!r}); {advice}") from error
        current = json.loads(json.dumps(fingerprint))
        for key in sorted(saved.keys() | current.keys()):
            if saved.get(key) != current.get(key):
                raise UsageError(
                    f"{path} is the state of a run with {key} {saved.get(key)!r}, not {current.get(key)!r}; "
                    f"run with the same settings to resume, or {advice}"
                )
        return state
