"""The resumable state of a run: one file beside the checkpoint, there only while the run lasts."""

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

_SCHEMA = 4


@dataclass(frozen=True)
class State:
    """What a run needs to go on to the same result.

    Attributes:
        step: optimizer steps done. Which rows come next, and what is drawn at random, follows from it.
        model: state_dict of the model: weights, scores and masks.
        optimizer: state_dict of the optimizer.
        log_bytes: length of the log when the state was saved.
        position: where rows that come from a stream were read up to; spares reading it from its beginning.
        method: what the method holds outside of the model.
        scaler: the scale of half precision's gradients.
        fixed: whether the masks are fixed and their survivors are fine-tuned.
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    log_bytes: int
    position: dict[str, int] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    fixed: bool = False

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write the state of the run described by `identity` (JSON values).

        Raises:
            OutputError: it cannot be written, as on a full disk.
        """
        document = {"schema": _SCHEMA, "identity": json.dumps(identity, sort_keys=True), **vars(self)}
        with atomic_file(path) as temporary:
            try:
                torch.save(document, temporary)
            except RuntimeError as error:  # torch's own writer, for what the system says
                reason = str(error).split("\n")[0]
                raise OutputError(
                    f"{path} cannot be written ({reason}); free disk space and run again"
                ) from error

    @classmethod
    def load(cls, path: Path, identity: dict[str, Any]) -> State:
        """Read the state of the run described by `identity`.

        Raises:
            UsageError: it is the state of another run; the message names the first difference.
            CheckpointError: the file is damaged or of another version.
        """
        mend = "pass --restart to begin anew"
        try:
            # torch stores a checksum of each part but does not look at it when reading.
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():
                    raise zipfile.BadZipFile(f"{part} is not what was written")
            document = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises whatever the bytes of a damaged file lead it into
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise CheckpointError(f"{path} is damaged ({reason}); {mend}") from error
        try:
            if document.pop("schema") != _SCHEMA:
                raise CheckpointError(f"{path} was written by another version of aerogel; {mend}")
            saved = check(parse(document.pop("identity")), dict)
            state = cls(**document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not the state of a run ({error!r}); {mend}") from error
        current = json.loads(json.dumps(identity))
        for key in sorted(saved.keys() | current.keys()):
            if saved.get(key) != current.get(key):
                raise UsageError(
                    f"{path} is the state of a run with {key} {saved.get(key)!r}, not {current.get(key)!r}; "
                    f"give the same options to go on with it, or {mend}"
                )
        return state
